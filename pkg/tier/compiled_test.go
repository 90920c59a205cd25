package tier

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/rate"
)

func compiled(t testing.TB, name string) *Compiled {
	t.Helper()
	c, err := Compile(seed(t, name))
	require.NoError(t, err)
	return c
}

func TestSeededTiers(t *testing.T) {
	t.Parallel()
	type row struct {
		quotas [9]int64
		days   int
	}
	const u = Unlimited
	// In the order of quotaNames.
	for name, want := range map[string]row{
		"free":       {[9]int64{100, 100, 100, 100, 100, 100, 0, u, u}, 3},
		"basic":      {[9]int64{3000, u, u, 100_000, 300, 600, 100, u, u}, 7},
		"advanced":   {[9]int64{u, u, u, u, 3000, u, u, u, u}, 90},
		"enterprise": {[9]int64{u, u, u, u, 8000, u, u, u, u}, 180},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := compiled(t, name)
			for i, q := range quotaNames {
				require.Equal(t, want.quotas[i], c.Quota(q), q)
			}
			require.Equal(t, time.Duration(want.days)*24*time.Hour, c.Retention())
			for size, bytes := range map[string]int64{
				SizeMessageTxt: 5 << 10, SizeMessageCmd: 5 << 10, SizeMessageCustom: 5 << 10, SizeMessageImg: 10 << 20,
				SizeMessageAudio: 10 << 20, SizeMessageVideo: 10 << 20, SizeMessageFile: 10 << 20, SizeUpload: 10 << 20,
				SizeMessageExt: u, SizeUserAttributesPerUser: 2 << 10, SizeUserAttributesPerApp: 10 << 30,
				SizeGroupName: 128, SizeGroupDescription: 512, SizeGroupCustom: 1024, SizeChatroomName: 128,
				SizeChatroomDescription: 512, SizeRoomAttributeKeys: 100, SizeRoomAttributesPerApp: 10 << 30,
				SizeRoomAttributeKey: 128, SizeRoomAttributeValue: 4096,
			} {
				require.Equal(t, bytes, c.Size(size), size)
			}
			require.True(t, c.Pattern(PatternRoomAttributeKey).MatchString("a.B_9-"))
			require.False(t, c.Pattern(PatternRoomAttributeKey).MatchString("a b"))
			down := c.Downstream()
			require.Equal(t, CompiledDownstream{Limited: true, PerSecond: 2000, MaxBacklog: time.Minute, REST: true}, down)
		})
	}
}

func TestSharePerAddress(t *testing.T) {
	t.Parallel()
	d, err := Merge(seed(t, "free"), []byte(`{"rate_counting": {"per_ip_percent": 25}}`))
	require.NoError(t, err)
	c, err := Compile(d)
	require.NoError(t, err)
	require.True(t, c.Rule("get_user").PerIP)
	require.Equal(t, int64(25), c.Rule("get_user").Limits[0].IPUnits)
	require.Equal(t, int64(3), c.Rule("get_history_file").Limits[0].IPUnits, "rounded up")
	require.False(t, c.Rule("get_history_file").PerIP, "the exception")
	require.True(t, c.Rule("no_such_call").PerIP)
	require.Equal(t, []string{"rate_counting.per_ip_percent: (absent) -> 25"}, Diff(seed(t, "free"), d))
}

func TestSeededRules(t *testing.T) {
	t.Parallel()
	require.Len(t, Catalogue(), 120)
	second, minute := int64(time.Second), int64(time.Minute)
	app := func(units, window int64) []Limit {
		return []Limit{{Limit: rate.Limit{Units: units, Window: window}, IPUnits: units}}
	}
	special := map[string][]Limit{
		"get_token":                     app(300, second),
		"delete_users_batch":            app(30, second),
		"send_message_users":            {{Limit: rate.Limit{Units: 6000, Window: minute}, Messages: true, IPUnits: 6000}},
		"send_message_chatgroups":       {{Limit: rate.Limit{Units: 20, Window: second}, Messages: true, IPUnits: 20}},
		"send_message_chatrooms":        {{Limit: rate.Limit{Units: 100, Window: second}, Messages: true, IPUnits: 100}},
		"get_history_file":              app(10, minute),
		"list_conversations":            append([]Limit{{Limit: rate.Limit{Units: 5, Window: minute}, PerUser: true, IPUnits: 5}}, app(100, second)...),
		"get_users_online_status_batch": app(50, second),
		"list_user_blocks":              app(50, second),
		"add_user_blocks":               app(50, second),
		"remove_user_block":             app(50, second),
		"list_joined_groups":            app(50, second),
		"list_chatrooms":                app(50, second),
		"list_joined_chatrooms":         app(50, second),
		"create_chatroom":               app(50, second),
		"set_presence":                  app(50, second),
		"subscribe_presence":            app(50, second),
		"get_presence_batch":            app(50, second),
		"unsubscribe_presence":          app(50, second),
		"list_presence_subscriptions":   app(50, second),
	}
	buckets := map[string]string{
		"register_user": "register_users", "register_users_batch": "register_users",
		"set_push_nickname": "push_settings", "set_push_display_style": "push_settings", "set_push_do_not_disturb": "push_settings",
		"get_user_attributes": "user_attributes_read", "get_user_attributes_capacity": "user_attributes_read",
	}
	for _, name := range []string{"free", "basic", "advanced", "enterprise"} {
		c := compiled(t, name)
		require.Len(t, c.Rules(), len(Catalogue())+len(ClientCalls()))
		for _, call := range Catalogue() {
			r := c.Rule(call.ID)
			want, ok := special[call.ID]
			if !ok {
				want = app(100, second)
			}
			require.Equal(t, want, r.Limits, call.ID)
			bucket, shared := buckets[call.ID]
			if shared {
				bucket = "shared:" + bucket
			} else {
				bucket = call.ID
			}
			require.Equal(t, bucket, r.Bucket)
			require.True(t, c.Document().RateCounting.PerIP)
			require.Equal(t, []string{"get_history_file"}, c.Document().RateCounting.PerIPExcept)
			require.False(t, r.PerIP, "the app's own count sees to an equal one per address")
			require.Equal(t, call.Targets, r.Backlogged, call.ID)
		}
		unknown := c.Rule("no_such_call")
		require.Empty(t, unknown.ID)
		require.Equal(t, app(100, second), unknown.Limits)
	}
}

func TestCompileFollowsTheDocument(t *testing.T) {
	t.Parallel()
	d, err := Merge(seed(t, "free"), []byte(`{"retention_days": null, "rate_counting": {"per_ip": false},
		"downstream": {"factor": null, "apply_to": ["client"]}}`))
	require.NoError(t, err)
	c, err := Compile(d)
	require.NoError(t, err)
	require.Zero(t, c.Retention())
	require.False(t, c.Rule("get_user").PerIP)
	require.False(t, c.Rule("send_message").Backlogged)
	require.False(t, c.Downstream().Limited)
	require.True(t, c.Downstream().Client)
	require.Zero(t, c.Quota("no_such_quota"))
	require.Zero(t, c.Size("no_such_size"))
	require.Equal(t, int64(7), (&Limit{Messages: true}).Cost(7))
	require.Equal(t, int64(1), (&Limit{}).Cost(7))
}

func BenchmarkRule(b *testing.B) {
	c := compiled(b, "free")
	b.ReportAllocs()
	for range b.N {
		if c.Rule("send_message_users").ID == "" {
			b.Fatal("not found")
		}
	}
}

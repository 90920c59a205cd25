package session_test

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/msyncclient"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
	"github.com/chappe-im/chappe/services/gateway/session"
)

func TestRefusedLogins(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	for name, c := range map[string]struct {
		app, user, token string
		code             msyncv1.Status_ErrorCode
		reason           string
	}{
		"wrong token":        {appKey, "ann", "nonsense", 1, "Sorry, token or password does not match login info"},
		"no token":           {appKey, "ann", "", 1, "Sorry, token or password does not match login info"},
		"another's token":    {appKey, "ann", "token-bob", 1, "Sorry, token or password does not match login info"},
		"app's token":        {appKey, "ann", "app", 1, "Sorry, token or password does not match login info"},
		"expired token":      {appKey, "ann", "expired", 1, "Sorry, token expired"},
		"unknown user":       {appKey, "ann", "gone", 1, "Sorry, user not found"},
		"deactivated user":   {appKey, "ann", "banned", 12, "user is deactivated"},
		"app key without #":  {"acme", "ann", "token-ann", 4, "app key is not of the form org#app"},
		"unknown app":        {"acme#nothing", "ann", "token-ann", 4, "app not found"},
		"illegal user ID":    {appKey, "a b", "token-ann", 4, "user ID is not legal"},
		"user ID is missing": {appKey, "", "token-ann", 4, "user ID is not legal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := msyncclient.Dial(t.Context(), r.url, c.app, c.user, c.token, msyncclient.Options{})
			var refused *msyncclient.LoginError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, c.code, refused.Code)
			require.Equal(t, c.reason, refused.Reason)
		})
	}
	t.Run("service down", func(t *testing.T) {
		t.Parallel()
		_, err := msyncclient.Dial(t.Context(), r.url, appKey, "ann", "down", msyncclient.Options{})
		var refused *msyncclient.LoginError
		require.Error(t, err)
		require.NotErrorAs(t, err, &refused, "without an answer the device tries again")
	})
}

func TestOnlineLimit(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.limit = errs.QuotaExceeded("users_online")
	_, err := msyncclient.Dial(t.Context(), r.url, appKey, "ann", "token-ann", msyncclient.Options{})
	var refused *msyncclient.LoginError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, msyncv1.Status_PERMISSION_DENIED, refused.Code)
	require.Equal(t, "Sorry, the app online count limit", refused.Reason)
	require.Eventually(t, func() bool { return r.server.Connections() == 0 }, 5*time.Second, 5*time.Millisecond)
}

func TestLoginAnswer(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	ann := r.dial("Ann", msyncclient.Options{Resource: "webim_1"})
	require.Equal(t, "webim_1", ann.Resource())
	require.Nil(t, ann.Provision().AuthToken, "the token never expires")
	require.Empty(t, ann.Provision().GetProtocolCompressType())
	require.Eventually(t, func() bool { return r.onlineCount() == 1 }, 5*time.Second, 5*time.Millisecond)
	r.set(func() {
		for _, c := range r.online {
			require.Equal(t, "ann", c.GetUser())
			require.Equal(t, "webim_1", c.GetResource())
			require.Equal(t, "web", c.GetOs())
			require.Equal(t, "127.0.0.1", c.GetIp())
		}
	})
	require.NoError(t, ann.Logout())
	require.Eventually(t, func() bool { return r.onlineCount() == 0 }, 5*time.Second, 5*time.Millisecond)
}

func TestTokenEnds(t *testing.T) {
	t.Parallel()
	ends := time.Now().Add(time.Second)
	r := startWith(t, tokens{expires: ends}, nil)
	ann := r.dial("ann", msyncclient.Options{})
	var auth struct {
		ExpiresIn int64 `json:"expires_in"`
	}
	require.NoError(t, json.Unmarshal([]byte(ann.Provision().GetAuthToken()), &auth))
	require.Equal(t, ends.UnixMilli(), auth.ExpiresIn)
	_ = r.ended(ann)
	require.False(t, time.Now().Before(ends.Truncate(time.Millisecond)), "the protocol counts in milliseconds")
}

func TestLostKeyEndsConnections(t *testing.T) {
	t.Parallel()
	var void atomic.Bool
	r := startWith(t, tokens{void: &void}, nil)
	ann, bob := r.dial("ann", msyncclient.Options{}), r.dial("bob", msyncclient.Options{})
	r.synced(ann)
	void.Store(true)
	_, _ = r.ended(ann), r.ended(bob)
	require.Eventually(t, func() bool { return r.onlineCount() == 0 }, 5*time.Second, 5*time.Millisecond)
}

func TestSilenceEndsConnections(t *testing.T) {
	t.Parallel()
	t.Run("before login", func(t *testing.T) {
		t.Parallel()
		r := start(t, func(c *session.Config) { c.LoginTimeout = 50 * time.Millisecond })
		raw := dialRaw(t, r.url)
		require.Equal(t, uint16(1008), raw.closeCode(t))
	})
	t.Run("after login", func(t *testing.T) {
		t.Parallel()
		r := start(t, func(c *session.Config) { c.IdleTimeout = 400 * time.Millisecond })
		raw := dialRaw(t, r.url)
		raw.login(t, "ann")
		raw.deaf.Store(true) // answers no pings
		require.Equal(t, uint16(1001), raw.closeCode(t))
		require.NotZero(t, raw.pings.Load())
	})
	t.Run("answered pings keep it", func(t *testing.T) {
		t.Parallel()
		r := start(t, func(c *session.Config) { c.IdleTimeout = 200 * time.Millisecond })
		raw := dialRaw(t, r.url)
		raw.login(t, "ann")
		require.Eventually(t, func() bool { return raw.pings.Load() >= 5 }, 10*time.Second, 10*time.Millisecond)
		require.Equal(t, 1, r.server.Connections())
	})
}

func TestBadFrames(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	provision, err := proto.Marshal(&msyncv1.MSync{Command: msyncv1.MSync_PROVISION.Enum(), Payload: []byte{0xff}})
	require.NoError(t, err)
	unread, err := proto.Marshal(&msyncv1.MSync{Command: msyncv1.MSync_UNREAD.Enum()})
	require.NoError(t, err)
	sync, err := proto.Marshal(&msyncv1.MSync{Command: msyncv1.MSync_SYNC.Enum(), Payload: []byte{0x0a, 0x7f}})
	require.NoError(t, err)
	meta, err := proto.Marshal(&msyncv1.MSync{Command: msyncv1.MSync_SYNC.Enum(), Payload: []byte{0x0a, 0x01, 0xff}})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		login bool
		frame []byte
		code  uint16
	}{
		"garbage":                 {false, []byte{0xff, 0xff}, 1007},
		"garbage after login":     {true, []byte{0x4a, 0x7f}, 1007},
		"command before login":    {false, unread, 1008},
		"broken provision":        {false, provision, 1007},
		"broken sync":             {true, sync, 1007},
		"broken meta":             {true, meta, 1007},
		"larger than the largest": {true, make([]byte, 64<<10+1), 1009},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw := dialRaw(t, r.url)
			if c.login {
				raw.login(t, "ann-"+t.Name()[len("TestBadFrames/"):len("TestBadFrames/")+3])
			}
			require.NoError(t, raw.socket.WriteMessage(2, c.frame))
			require.Equal(t, c.code, raw.closeCode(t))
		})
	}
	t.Run("text", func(t *testing.T) {
		t.Parallel()
		raw := dialRaw(t, r.url)
		require.NoError(t, raw.socket.WriteString("hello"))
		require.Equal(t, uint16(1003), raw.closeCode(t))
	})
	t.Run("empty", func(t *testing.T) {
		t.Parallel()
		raw := dialRaw(t, r.url)
		require.NoError(t, raw.socket.WriteMessage(2, nil))
		require.Equal(t, uint16(1008), raw.closeCode(t), "an empty frame is a SYNC")
	})
}

func TestKick(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	for reason, op := range map[busv1.Disconnect_Reason]msyncv1.StatisticsBody_Operation{
		busv1.Disconnect_REASON_REMOVED:          1,
		busv1.Disconnect_REASON_OTHER_DEVICE:     2,
		busv1.Disconnect_REASON_PASSWORD_CHANGED: 3,
		busv1.Disconnect_REASON_KICKED:           4,
		busv1.Disconnect_REASON_BANNED:           4,
	} {
		t.Run(reason.String(), func(t *testing.T) {
			t.Parallel()
			user := "user-" + op.String()[:6] + reason.String()[7:10]
			one := r.dial(user, msyncclient.Options{Resource: "one"})
			two := r.dial(user, msyncclient.Options{Resource: "two"})
			folded := one.Resource() // the device to go
			r.push(t, lower(user), &busv1.Push{What: &busv1.Push_Disconnect{Disconnect: &busv1.Disconnect{Reason: reason, Resource: folded}}})
			var kicked *msyncclient.KickedError
			require.ErrorAs(t, r.ended(one), &kicked)
			require.Equal(t, op, kicked.Operation)
			r.nothing(two)

			var id string
			r.set(func() {
				for _, c := range r.online {
					if c.GetUser() == lower(user) && c.GetResource() == "two" {
						id = c.GetId()
					}
				}
			})
			require.NotEmpty(t, id)
			three := r.dial(user, msyncclient.Options{Resource: "three"})
			r.push(t, lower(user), &busv1.Push{What: &busv1.Push_Disconnect{Disconnect: &busv1.Disconnect{Reason: reason, ExceptConnection: id}}})
			require.ErrorAs(t, r.ended(three), &kicked)
			r.nothing(two)
		})
	}
}

func TestSameDeviceAgain(t *testing.T) {
	t.Parallel()
	t.Run("another login is told", func(t *testing.T) {
		t.Parallel()
		r := start(t, nil)
		old := r.dial("ann", msyncclient.Options{Resource: "web"})
		newer := r.dial("ann", msyncclient.Options{Resource: "web"})
		var kicked *msyncclient.KickedError
		require.ErrorAs(t, r.ended(old), &kicked)
		require.Equal(t, msyncv1.StatisticsBody_USER_LOGIN_ANOTHER_DEVICE, kicked.Operation)
		r.text(t, "bob", "ann", "x")
		require.Equal(t, "x", r.next(newer).Text())
		require.Eventually(t, func() bool { return r.onlineCount() == 1 && r.server.Connections() == 1 }, 5*time.Second, 5*time.Millisecond)
	})
	t.Run("the same login is not", func(t *testing.T) {
		t.Parallel()
		r := start(t, nil)
		old := r.dial("ann", msyncclient.Options{Resource: "web", SessionID: "1:"})
		newer := r.dial("ann", msyncclient.Options{Resource: "web", SessionID: "1:"})
		var kicked *msyncclient.KickedError
		require.NotErrorAs(t, r.ended(old), &kicked)
		r.text(t, "bob", "ann", "x")
		require.Equal(t, "x", r.next(newer).Text())
	})
}

func TestStopSaysGoingAway(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *session.Config) { c.FlushInterval = time.Hour })
	raws := make([]*rawClient, 20)
	for i := range raws {
		raws[i] = dialRaw(t, r.url)
		raws[i].login(t, "user-"+string(rune('a'+i)))
	}
	bob := r.dial("bob", msyncclient.Options{})
	r.synced(bob)
	r.text(t, "ann", "bob", "x")
	require.Equal(t, "x", r.next(bob).Text())
	_, err := bob.Unread(t.Context()) // what was confirmed has arrived
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, r.server.Stop(ctx))
	for _, raw := range raws {
		require.Equal(t, uint16(1001), raw.closeCode(t))
	}
	require.Zero(t, r.onlineCount())
	require.EqualValues(t, 1, r.confirmed("bob", bob.Resource(), "ann~bob"))
	_, err = msyncclient.Dial(t.Context(), r.url, appKey, "ann", "token-ann", msyncclient.Options{})
	require.Error(t, err)
}

package account_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

func (b *bench) mute(t testing.TB, user string, seconds int64) {
	t.Helper()
	_, err := b.mutes.SetGlobalMute(t.Context(), &accountv1.SetGlobalMuteRequest{Org: org, App: app, Username: user, Chat: &seconds})
	require.NoError(t, err)
}

func TestPushSettingsMerge(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, "amelia")
		events := b.events(t)
		update := func(req *accountv1.UpdatePushSettingsRequest) *accountv1.User {
			t.Helper()
			b.clock.Advance(time.Second)
			req.Org, req.App, req.Username = org, app, "Amelia"
			resp, err := b.users.UpdatePushSettings(t.Context(), req)
			require.NoError(t, err)
			require.Equal(t, b.clock.Now().UnixMilli(), resp.GetUser().GetModified())
			require.Equal(t, start.UnixMilli(), resp.GetUser().GetCreated())
			require.True(t, proto.Equal(resp.GetUser(), b.get(t, "amelia")))
			return resp.GetUser()
		}
		u := update(&accountv1.UpdatePushSettingsRequest{Nickname: ptr("Amelia (work)")})
		require.Equal(t, "Amelia (work)", u.GetNickname())
		require.Nil(t, u.NotificationDisplayStyle)
		require.Nil(t, u.NotificationNoDisturbing)
		change(t, events, "amelia CHANGE_PUSH_SETTINGS")
		update(&accountv1.UpdatePushSettingsRequest{NotificationDisplayStyle: ptr(int32(1))})
		update(&accountv1.UpdatePushSettingsRequest{
			NotificationNoDisturbing: ptr(true), NotificationNoDisturbingStart: ptr(int32(22)), NotificationNoDisturbingEnd: ptr(int32(7)),
		})
		update(&accountv1.UpdatePushSettingsRequest{NotificationIgnore: map[string]bool{"184524748161025": true, "1": true}})
		update(&accountv1.UpdatePushSettingsRequest{NotificationIgnore: map[string]bool{"1": false}, DeviceId: ptr("d1"), DeviceToken: ptr("dt-0001"), NotifierName: ptr("gcm-main")})
		// Off keeps the hours; empty texts go; the rest stays.
		u = update(&accountv1.UpdatePushSettingsRequest{NotificationNoDisturbing: ptr(false), Nickname: ptr(""), NotificationDisplayStyle: ptr(int32(0))})
		require.Nil(t, u.Nickname)
		require.Equal(t, int32(0), *u.NotificationDisplayStyle)
		require.False(t, *u.NotificationNoDisturbing)
		require.Equal(t, "22 7", fmt.Sprint(u.GetNotificationNoDisturbingStart(), u.GetNotificationNoDisturbingEnd()))
		require.Equal(t, map[string]bool{"184524748161025": true, "1": false}, u.GetNotificationIgnore())
		require.Equal(t, "dt-0001 gcm-main", u.GetDeviceToken()+" "+u.GetNotifierName())
	})
}

func TestPushSettingRefusals(t *testing.T) {
	t.Parallel()
	b := lite(t)
	b.register(t, "amelia")
	before := b.get(t, "amelia")
	crowd := map[string]bool{}
	for i := range 2001 {
		crowd[fmt.Sprint(i)] = true
	}
	b.clock.Advance(time.Minute)
	for _, c := range []struct {
		name string
		req  *accountv1.UpdatePushSettingsRequest
		want want
	}{
		{"nothing known", &accountv1.UpdatePushSettingsRequest{}, wantInvalid},
		{"101 characters of nickname", &accountv1.UpdatePushSettingsRequest{Nickname: ptr(strings.Repeat("é", 101))}, wantText("NICKNAME_TOO_LONG")},
		{"NUL in nickname", &accountv1.UpdatePushSettingsRequest{Nickname: ptr("a\x00b")}, wantText("parameters is invalid : nickname")},
		{"style 2", &accountv1.UpdatePushSettingsRequest{NotificationDisplayStyle: ptr(int32(2))}, wantText("parameters is invalid : notification_display_style")},
		{"style -1", &accountv1.UpdatePushSettingsRequest{NotificationDisplayStyle: ptr(int32(-1))}, wantText("parameters is invalid : notification_display_style")},
		{"start 24", &accountv1.UpdatePushSettingsRequest{NotificationNoDisturbingStart: ptr(int32(24))}, wantText("parameters is invalid : notification_no_disturbing_start")},
		{"end -1", &accountv1.UpdatePushSettingsRequest{NotificationNoDisturbingEnd: ptr(int32(-1))}, wantText("parameters is invalid : notification_no_disturbing_end")},
		{"one bad among good", &accountv1.UpdatePushSettingsRequest{Nickname: ptr("x"), NotificationNoDisturbingEnd: ptr(int32(99))}, wantText("parameters is invalid : notification_no_disturbing_end")},
		{"group that is no number", &accountv1.UpdatePushSettingsRequest{NotificationIgnore: map[string]bool{"x": true}}, wantText("parameters is invalid : notification_ignore_x")},
		{"empty group", &accountv1.UpdatePushSettingsRequest{NotificationIgnore: map[string]bool{"": true}}, wantText("parameters is invalid : notification_ignore_")},
		{"too many groups", &accountv1.UpdatePushSettingsRequest{NotificationIgnore: crowd}, wantInvalid},
		{"long device token", &accountv1.UpdatePushSettingsRequest{DeviceToken: ptr(strings.Repeat("x", 513))}, wantText("parameters is invalid : device_token")},
		{"unknown user", &accountv1.UpdatePushSettingsRequest{Username: "nobody", Nickname: ptr("x")}, wantNoProperty},
		{"unknown app", &accountv1.UpdatePushSettingsRequest{App: "nochat", Nickname: ptr("x")}, wantNoApp},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.req.Org = org
			if c.req.App == "" {
				c.req.App = app
			}
			if c.req.Username == "" {
				c.req.Username = "amelia"
			}
			_, err := b.users.UpdatePushSettings(t.Context(), c.req)
			c.want.check(t, err)
			require.True(t, proto.Equal(before, b.get(t, "amelia")))
		})
	}
	_, err := b.users.UpdatePushSettings(t.Context(), &accountv1.UpdatePushSettingsRequest{
		Org: org, App: app, Username: "amelia", Nickname: ptr(strings.Repeat("猫", 100)),
		NotificationNoDisturbingStart: ptr(int32(0)), NotificationNoDisturbingEnd: ptr(int32(23)),
	})
	require.NoError(t, err)
}

func TestGlobalMutesEndByThemselves(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, "dario", "edda")
		events := b.events(t)
		set := func(user string, chat, groupchat, chatroom *int64) {
			t.Helper()
			_, err := b.mutes.SetGlobalMute(t.Context(), &accountv1.SetGlobalMuteRequest{
				Org: org, App: app, Username: user, Chat: chat, Groupchat: groupchat, Chatroom: chatroom,
			})
			require.NoError(t, err)
		}
		get := func(user string) string {
			t.Helper()
			m, err := b.mutes.GetGlobalMute(t.Context(), &accountv1.GetGlobalMuteRequest{Org: org, App: app, Username: user})
			require.NoError(t, err)
			require.Equal(t, b.clock.Now().Unix(), m.GetUnixtime())
			return fmt.Sprint(m.GetUsername(), " ", m.GetChat(), " ", m.GetGroupchat(), " ", m.GetChatroom())
		}
		list := func(page, size *int32) (out []string) {
			t.Helper()
			resp, err := b.mutes.ListGlobalMutes(t.Context(), &accountv1.ListGlobalMutesRequest{Org: org, App: app, PageNum: page, PageSize: size})
			require.NoError(t, err)
			require.Equal(t, b.clock.Now().Unix(), resp.GetUnixtime())
			for _, m := range resp.GetMutes() {
				out = append(out, fmt.Sprint(m.GetUsername(), " ", m.GetKind(), " ", m.GetSeconds()))
			}
			return out
		}
		require.Equal(t, "dario 0 0 0", get("Dario"))
		require.Empty(t, list(nil, nil))
		set("dario", ptr(int64(600)), ptr(int64(-1)), nil)
		change(t, events, "dario CHANGE_MUTES")
		require.Equal(t, "dario 600 -1 0", get("dario"))
		b.clock.Advance(9999 * time.Millisecond)
		require.Equal(t, "dario 591 -1 0", get("dario")) // rounded up: still muted in the last second
		set("edda", nil, nil, ptr(int64(math.MaxInt32)))
		set("dario", nil, nil, nil) // nothing named, nothing changed
		require.Equal(t, []string{"dario chat 591", "dario groupchat -1", "edda chatroom 2147483647"}, list(nil, nil))
		require.Equal(t, []string{"dario chat 591", "dario groupchat -1"}, list(ptr(int32(1)), ptr(int32(2))))
		require.Equal(t, []string{"edda chatroom 2147483647"}, list(ptr(int32(2)), ptr(int32(2))))
		require.Empty(t, list(ptr(int32(math.MaxInt32)), ptr(int32(50))))
		require.Len(t, list(nil, ptr(int32(50))), 3)

		b.clock.Advance(590*time.Second + time.Millisecond)
		require.Equal(t, "dario 0 -1 0", get("dario"))
		require.Equal(t, []string{"dario groupchat -1", "edda chatroom 2147482057"}[:1], list(nil, nil)[:1])
		set("dario", ptr(int64(5)), ptr(int64(0)), nil) // a new length replaces the old, 0 lifts
		require.Equal(t, "dario 5 0 0", get("dario"))
		set("dario", ptr(int64(1)), nil, nil)
		require.Equal(t, "dario 1 0 0", get("dario"))
		set("edda", nil, nil, ptr(int64(0)))
		set("edda", nil, nil, ptr(int64(0)))
		require.Equal(t, "edda 0 0 0", get("edda"))
	})
}

func TestGlobalMuteRefusals(t *testing.T) {
	t.Parallel()
	b := lite(t)
	b.register(t, "dario")
	for _, c := range []struct {
		name string
		req  *accountv1.SetGlobalMuteRequest
		want want
	}{
		{"no user", &accountv1.SetGlobalMuteRequest{Chat: ptr(int64(1))}, wantNoProperty},
		{"unknown user", &accountv1.SetGlobalMuteRequest{Username: "nobody", Chat: ptr(int64(1))}, wantNoProperty},
		{"illegal user", &accountv1.SetGlobalMuteRequest{Username: "a\x00b", Chat: ptr(int64(1))}, wantNoProperty},
		{"unknown app", &accountv1.SetGlobalMuteRequest{App: "nochat", Username: "dario", Chat: ptr(int64(1))}, wantNoApp},
		{"-2", &accountv1.SetGlobalMuteRequest{Username: "dario", Chat: ptr(int64(-2))}, wantInvalid},
		{"2147483648", &accountv1.SetGlobalMuteRequest{Username: "dario", Groupchat: ptr(int64(math.MaxInt32 + 1))}, wantInvalid},
		{"good and bad", &accountv1.SetGlobalMuteRequest{Username: "dario", Chat: ptr(int64(1)), Chatroom: ptr(int64(math.MinInt64))}, wantInvalid},
		{"2147483647", &accountv1.SetGlobalMuteRequest{Username: "dario", Groupchat: ptr(int64(math.MaxInt32))}, want{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.req.Org = org
			if c.req.App == "" {
				c.req.App = app
			}
			_, err := b.mutes.SetGlobalMute(t.Context(), c.req)
			c.want.check(t, err)
			m, err := b.mutes.GetGlobalMute(t.Context(), &accountv1.GetGlobalMuteRequest{Org: org, App: app, Username: "dario"})
			require.NoError(t, err)
			require.Zero(t, m.GetChat())
		})
	}
	for _, name := range []string{"nobody", "a\x00b", ""} {
		_, err := b.mutes.GetGlobalMute(t.Context(), &accountv1.GetGlobalMuteRequest{Org: org, App: app, Username: name})
		wantNoProperty.check(t, err)
	}
	for _, req := range []*accountv1.ListGlobalMutesRequest{
		{PageNum: ptr(int32(0))}, {PageNum: ptr(int32(-1))}, {PageSize: ptr(int32(0))}, {PageSize: ptr(int32(-5))}, {PageSize: ptr(int32(51))},
	} {
		req.Org, req.App = org, app
		_, err := b.mutes.ListGlobalMutes(t.Context(), req)
		wantInvalid.check(t, err)
	}
}

package messaging_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/natsx"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	"github.com/chappe-im/chappe/services/messaging"
)

func TestPushEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	r.stop()
	r.push = true
	hour := int32(time.Now().UTC().Hour())
	other := (hour + 5) % 24
	r.users.known = map[string]*accountv1.User{
		"lena":   {Username: "lena", Nickname: proto.String("Lena L.")},
		"plain":  {Username: "plain"},
		"full":   {Username: "full", NotificationDisplayStyle: proto.Int32(1), DeviceToken: proto.String("tok"), NotifierName: proto.String("fcm")},
		"quiet":  {Username: "quiet", NotificationNoDisturbing: proto.Bool(true), NotificationNoDisturbingStart: &hour, NotificationNoDisturbingEnd: &hour},
		"awake":  {Username: "awake", NotificationNoDisturbing: proto.Bool(true), NotificationNoDisturbingStart: &other, NotificationNoDisturbingEnd: proto.Int32((other + 1) % 24)},
		"online": {Username: "online"},
		"hushed": {Username: "hushed"},
		"devices": {Username: "devices", PushInfo: []*accountv1.PushBinding{
			{DeviceId: "d1", NotifierName: "fcm", DeviceToken: "t1"}, {DeviceId: "d2", NotifierName: "apns", DeviceToken: "t2"},
		}},
	}
	r.users.wants = map[string]*accountv1.LookupPushResponse{
		"hushed":  {Own: &accountv1.Notification{Type: "ALL"}, Users: []*accountv1.TargetNotification{{Target: "lena", Notification: &accountv1.Notification{Type: "NONE"}}}},
		"devices": {Own: &accountv1.Notification{Type: "ALL"}, Language: "FR", Template: &accountv1.Template{Name: "t", TitlePattern: "x", ContentPattern: "y"}},
	}
	r.start()
	events := make(chan *natsx.Msg, 64)
	_, err := r.conn.SubscribeChan(bus.PushFilter, events)
	require.NoError(t, err)
	require.NoError(t, r.conn.Flush(t.Context()))
	send := func(req *messagingv1.SendToUsersRequest, ext string) {
		if ext != "" {
			req.Ext = []byte(ext)
		}
		_, err := r.send.SendToUsers(t.Context(), req)
		require.NoError(t, err)
	}
	got := map[string]messaging.PushEvent{}
	collect := func(n int) {
		for range n {
			select {
			case m := <-events:
				var e messaging.PushEvent
				require.NoError(t, json.Unmarshal(m.Data, &e))
				require.NotContains(t, got, e.User+" "+string(e.Ext))
				got[e.User+" "+string(e.Ext)] = e
			case <-time.After(10 * time.Second):
				require.FailNow(t, "an event is missing", "%v", got)
			}
		}
	}
	all := []string{"plain", "full", "quiet", "awake", "online", "hushed", "devices"}
	send(txt("lena", "see you", all...), "")
	collect(4)
	require.Equal(t, []messaging.PushBinding{{DeviceID: "d1", NotifierName: "fcm", DeviceToken: "t1"}, {DeviceID: "d2", NotifierName: "apns", DeviceToken: "t2"}}, got["devices {}"].Bindings)
	require.Equal(t, "FR", got["devices {}"].Language)
	require.Equal(t, &messaging.PushTemplate{Name: "t", TitlePattern: "x", ContentPattern: "y"}, got["devices {}"].Template)
	require.Equal(t, "You have a new message", got["plain {}"].Text)
	require.Empty(t, got["plain {}"].Title, "the plain style says nothing of the message")
	full := got["full {}"]
	require.Equal(t, "Lena L.", full.Title)
	require.Equal(t, "see you", full.Text)
	require.Equal(t, "tok", full.DeviceToken)
	require.Equal(t, "acme#shop", full.App)
	require.Contains(t, got, "awake {}")
	send(txt("lena", "urgent", "quiet", "plain"), `{"em_force_notification":true}`)
	collect(2)
	require.Contains(t, got, `quiet {"em_force_notification":true}`)
	send(txt("lena", "hush", all...), `{"em_ignore_notification":true}`)
	cmd := txt("lena", "", "plain")
	cmd.Type, cmd.Body = "cmd", []byte(`{"action":"x"}`)
	send(cmd, "")
	now := txt("lena", "now", "plain")
	now.Routetype = "ROUTE_ONLINE"
	send(now, "")
	send(txt("lena", "last", "plain"), `{"last":1}`)
	collect(1)
	require.Contains(t, got, `plain {"last":1}`, "nothing came in between")
	require.Empty(t, events)
}

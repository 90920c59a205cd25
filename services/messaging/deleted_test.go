package messaging_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

// TestDeletedUsersDevicesAreForgotten deletes a user who has read some messages
// and not others: the devices go, and who takes the ID sees only what came
// after, while the other side keeps all.
func TestDeletedUsersDevicesAreForgotten(t *testing.T) {
	t.Parallel()
	testkit.EachDatabase(t, "messaging", nil, func(t *testing.T, db *store.DB) {
		r := newRigOn(t, 0, db)
		ctx := t.Context()
		require.NoError(t, r.conn.EnsureStream(ctx, natsx.StreamSpec{Name: bus.EventStream, Subjects: []string{bus.EventFilter}, DuplicateWindow: time.Minute, Replicas: 1}))
		open := func(user string) []*messagingv1.DeviceQueue {
			resp, err := r.sync.OpenDevice(ctx, &messagingv1.OpenDeviceRequest{Org: "acme", App: "shop", User: user, Resource: "web_1"})
			require.NoError(t, err)
			return resp.GetQueues()
		}
		count := func(user string) int64 {
			c, err := r.send.GetOfflineMessageCount(ctx, &messagingv1.GetOfflineMessageCountRequest{Org: "acme", App: "shop", Username: user})
			require.NoError(t, err)
			return c.GetCount()
		}
		rows := func(table string) (n int) {
			require.NoError(t, db.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM `+table+` WHERE username = 'omar'`).Scan(&n))
			return n
		}
		send := func(from, to string, n int) {
			for i := range n {
				_, err := r.send.SendToUsers(ctx, txt(from, strconv.Itoa(i), to))
				require.NoError(t, err)
			}
		}
		open("omar")
		send("lena", "omar", 5)
		send("omar", "lena", 2)
		send("dario", "omar", 3)
		r.archived("lena~omar", 7)
		r.archived("dario~omar", 3)
		_, err := r.sync.ConfirmDevices(ctx, &messagingv1.ConfirmDevicesRequest{Positions: []*messagingv1.DevicePosition{
			{Org: "acme", App: "shop", User: "omar", Resource: "web_1", Conversation: "lena~omar", Seq: 2},
		}})
		require.NoError(t, err)
		require.Equal(t, 1, rows("device_positions"))
		require.EqualValues(t, 6, count("omar"))

		// A moment later, so that no message is of the millisecond.
		r.ahead.Store(int64(time.Second))
		deleted, err := proto.Marshal(&busv1.UserEvent{
			App: "acme#shop", User: "omar", Change: busv1.UserEvent_CHANGE_DELETED, Timestamp: time.Now().Add(time.Second).UnixMilli(),
		})
		require.NoError(t, err)
		publish := func() { require.NoError(t, r.conn.Publish(bus.UserEventSubject("acme#shop", "omar"), deleted)) }
		publish()
		require.Eventually(t, func() bool { return rows("devices") == 0 && count("omar") == 0 }, 20*time.Second, 10*time.Millisecond)
		require.Zero(t, rows("device_positions"))
		require.EqualValues(t, 2, count("lena"), "what omar sent is lena's")

		r.ahead.Store(int64(time.Minute))
		require.Empty(t, open("omar"), "nothing is left for who takes the ID")
		send("lena", "omar", 1)
		r.archived("lena~omar", 8)
		queues := open("omar")
		require.Len(t, queues, 1)
		require.Equal(t, "lena~omar", queues[0].GetConversation())
		page, err := r.sync.PullConversation(ctx, &messagingv1.PullConversationRequest{
			Org: "acme", App: "shop", User: "omar", Resource: "web_1", Conversation: "lena~omar", Limit: 100,
		})
		require.NoError(t, err)
		require.Len(t, page.GetEntries(), 1)
		require.EqualValues(t, 8, page.GetThroughSeq())
		require.EqualValues(t, 1, count("omar"))

		// The event may come twice, and late: what is newer stays.
		publish()
		open("dario")
		other, err := proto.Marshal(&busv1.UserEvent{App: "acme#shop", User: "dario", Change: busv1.UserEvent_CHANGE_DELETED, Timestamp: time.Now().Add(time.Minute).UnixMilli()})
		require.NoError(t, err)
		require.NoError(t, r.conn.Publish(bus.UserEventSubject("acme#shop", "dario"), other))
		require.Eventually(t, func() bool {
			var n int
			require.NoError(t, db.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM devices WHERE username = 'dario'`).Scan(&n))
			return n == 0
		}, 20*time.Second, 10*time.Millisecond)
		require.Equal(t, 1, rows("devices"))
		require.EqualValues(t, 1, count("omar"))
	})
}

package messaging_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

func clientMeta(t testing.TB, to string, mb *msyncv1.MessageBody) []byte {
	t.Helper()
	payload, err := proto.Marshal(mb)
	require.NoError(t, err)
	b, err := proto.Marshal(&msyncv1.Meta{
		Id: proto.Uint64(7), To: &msyncv1.JID{Name: &to, Domain: proto.String("easemob.com")},
		Ns: msyncv1.Meta_CHAT.Enum(), Payload: payload,
	})
	require.NoError(t, err)
	return b
}

func TestDevicesCatchUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	ctx := t.Context()
	open := func(user, resource string) []*messagingv1.DeviceQueue {
		resp, err := r.sync.OpenDevice(ctx, &messagingv1.OpenDeviceRequest{Org: "acme", App: "shop", User: user, Resource: resource})
		require.NoError(t, err)
		return resp.GetQueues()
	}
	require.Empty(t, open("omar", "web_1"))
	for i := range 5 {
		_, err := r.send.SendToUsers(ctx, txt("lena", strconv.Itoa(i), "omar"))
		require.NoError(t, err)
	}
	// A message of omar's first device, of which lena and his others get copies.
	resp, err := r.send.SendFromClient(ctx, &messagingv1.SendFromClientRequest{
		Org: "acme", App: "shop", User: "omar", Resource: "web_1",
		Meta: clientMeta(t, "lena", &msyncv1.MessageBody{
			Type: msyncv1.MessageBody_CHAT.Enum(), From: &msyncv1.JID{Name: proto.String("forged")},
			Contents: []*msyncv1.MessageBody_Content{{Type: msyncv1.MessageBody_Content_TEXT.Enum(), Text: proto.String("back")}},
		}),
	})
	require.NoError(t, err)
	r.archived("lena~omar", 6)

	queues := open("omar", "web_1")
	require.Len(t, queues, 1)
	require.Equal(t, "lena", queues[0].GetPeer())
	require.Equal(t, int64(6), queues[0].GetLastSeq())
	pull := func(user, resource string, after int64) *messagingv1.PullConversationResponse {
		p, err := r.sync.PullConversation(ctx, &messagingv1.PullConversationRequest{
			Org: "acme", App: "shop", User: user, Resource: resource, Conversation: "lena~omar", AfterSeq: after, Limit: 4,
		})
		require.NoError(t, err)
		return p
	}
	page := pull("omar", "web_1", 0)
	require.Len(t, page.GetEntries(), 4)
	require.Equal(t, int64(6), page.GetLastSeq())
	page = pull("omar", "web_1", page.GetThroughSeq())
	require.Len(t, page.GetEntries(), 1, "its own message is not shown to the device that sent it")
	require.Equal(t, int64(6), page.GetThroughSeq())

	count := func(user string) int64 {
		c, err := r.send.GetOfflineMessageCount(ctx, &messagingv1.GetOfflineMessageCountRequest{Org: "acme", App: "shop", Username: user})
		require.NoError(t, err)
		return c.GetCount()
	}
	require.Equal(t, int64(5), count("omar"))
	require.Equal(t, int64(1), count("lena"))
	oldest := strconv.FormatInt(pull("omar", "web_1", 0).GetEntries()[0].GetId(), 10)
	delivered := func(user, id string) bool {
		d, err := r.send.GetOfflineMessageStatus(ctx, &messagingv1.GetOfflineMessageStatusRequest{Org: "acme", App: "shop", Username: user, MessageId: id})
		require.NoError(t, err)
		return d.GetDelivered()
	}
	require.False(t, delivered("omar", oldest))
	require.True(t, delivered("lena", oldest), "nobody waits for what they sent")
	require.True(t, delivered("omar", "17"), "an unknown one waits for nobody")
	confirm := func(resource string, seq int64) {
		_, err := r.sync.ConfirmDevices(ctx, &messagingv1.ConfirmDevicesRequest{Positions: []*messagingv1.DevicePosition{
			{Org: "acme", App: "shop", User: "omar", Resource: resource, Conversation: "lena~omar", Seq: seq},
		}})
		require.NoError(t, err)
	}
	confirm("web_1", 3)
	require.True(t, delivered("omar", oldest))
	second := open("omar", "web_2")
	require.Equal(t, int64(3), second[0].GetConfirmedSeq(), "a new device begins where the others are")
	confirm("web_1", 6)
	confirm("web_1", 2)
	require.Empty(t, open("omar", "web_1"), "positions never move back")
	require.Equal(t, int64(3), open("omar", "web_2")[0].GetConfirmedSeq(), "and another device does not move this one")
	require.Len(t, pull("omar", "web_2", 5).GetEntries(), 1, "other devices get a copy")
	require.Zero(t, count("omar"))

	page = pull("lena", "web_9", 5)
	require.Len(t, page.GetEntries(), 1)
	require.Equal(t, resp.GetMessageId(), page.GetEntries()[0].GetId())
	var mb msyncv1.MessageBody
	require.NoError(t, proto.Unmarshal(page.GetEntries()[0].GetBody(), &mb))
	require.Nil(t, mb.GetFrom(), "a forged sender is gone; gateways write who it was")
	require.Equal(t, "omar", page.GetEntries()[0].GetFrom())
	_, err = r.sync.PullConversation(ctx, &messagingv1.PullConversationRequest{Org: "acme", App: "shop", User: "eve", Conversation: "lena~omar"})
	require.NoError(t, err)
}

func TestStrangersPullNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	_, err := r.send.SendToUsers(t.Context(), txt("lena", "secret", "omar"))
	require.NoError(t, err)
	r.archived("lena~omar", 1)
	page, err := r.sync.PullConversation(t.Context(), &messagingv1.PullConversationRequest{Org: "acme", App: "shop", User: "eve", Resource: "web_1", Conversation: "lena~omar"})
	require.NoError(t, err)
	require.Empty(t, page.GetEntries())
	page, err = r.sync.PullConversation(t.Context(), &messagingv1.PullConversationRequest{Org: "acme", App: "other", User: "omar", Resource: "web_1", Conversation: "lena~omar"})
	require.NoError(t, err)
	require.Empty(t, page.GetEntries(), "apps are apart")
}

// A device confirms what it was pushed, which may be before the archive has
// it: such positions come back, and none is ever stored of what is not archived.
func TestConfirmationsMayBeEarly(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	_, err := r.sync.OpenDevice(t.Context(), &messagingv1.OpenDeviceRequest{Org: "acme", App: "shop", User: "omar", Resource: "web_1"})
	require.NoError(t, err)
	pushed := r.listen("acme#shop", "omar")
	for i := range 20 {
		from := fmt.Sprintf("s%d", i)
		_, err := r.send.SendToUsers(t.Context(), txt(from, "first", "omar"))
		require.NoError(t, err)
		d := next(t, pushed)
		positions := []*messagingv1.DevicePosition{
			{Org: "acme", App: "shop", User: "omar", Resource: "web_1", Conversation: d.GetConversation(), Seq: d.GetSeq()},
			{Org: "acme", App: "shop", User: "omar", Resource: "web_1", Conversation: d.GetConversation(), Seq: d.GetSeq() + 1},
			{Org: "acme", App: "shop", User: "omar", Resource: "nowhere", Conversation: d.GetConversation(), Seq: d.GetSeq()},
		}
		require.Eventually(t, func() bool {
			resp, err := r.sync.ConfirmDevices(t.Context(), &messagingv1.ConfirmDevicesRequest{Positions: positions})
			require.NoError(t, err)
			early := resp.GetEarly()
			return len(early) == 1 && early[0].GetSeq() == d.GetSeq()+1
		}, 10*time.Second, time.Millisecond, "what was never sent stays early; what no device is for is no matter")
	}
	resp, err := r.sync.OpenDevice(t.Context(), &messagingv1.OpenDeviceRequest{Org: "acme", App: "shop", User: "omar", Resource: "web_1"})
	require.NoError(t, err)
	require.Empty(t, resp.GetQueues(), "all is confirmed")
}

package messaging_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// TestReadReceiptsOfMany sends one receipt of several messages, as clients of the
// fifth generation do, in both encodings of the list. It arrives as it was sent.
func TestReadReceiptsOfMany(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	ids := []uint64{1029457500870543736, 1029457500870543737, 1<<64 - 1}
	packed := &msyncv1.MessageBody{Type: msyncv1.MessageBody_READ_ACK.Enum(), Contents: []*msyncv1.MessageBody_Content{{}}}
	var list []byte
	for _, id := range ids {
		list = protowire.AppendVarint(list, id)
	}
	packed.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 17, protowire.BytesType), list))
	for n, body := range []*msyncv1.MessageBody{
		{Type: msyncv1.MessageBody_READ_ACK.Enum(), AckMessageIds: ids, Contents: []*msyncv1.MessageBody_Content{{}}}, packed,
	} {
		_, err := r.send.SendFromClient(t.Context(), &messagingv1.SendFromClientRequest{
			Org: "acme", App: "shop", User: "omar", Resource: "web_" + strconv.Itoa(n), Meta: clientMeta(t, "lena", body),
		})
		require.NoError(t, err)
		r.archived("lena~omar", n+1)
		page, err := r.sync.PullConversation(t.Context(), &messagingv1.PullConversationRequest{
			Org: "acme", App: "shop", User: "lena", Resource: "web_9", Conversation: "lena~omar", AfterSeq: int64(n), Limit: 5,
		})
		require.NoError(t, err)
		require.Len(t, page.GetEntries(), 1)
		var got msyncv1.MessageBody
		require.NoError(t, proto.Unmarshal(page.GetEntries()[0].GetBody(), &got))
		require.Equal(t, ids, got.GetAckMessageIds())
		require.Nil(t, got.AckMessageId)
	}
}

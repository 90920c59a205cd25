package messaging_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
	"github.com/chappe-im/chappe/services/messaging"
)

func TestClientRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	r.users.blocked["dario"] = []string{"lena"}
	r.users.muted["moritz"] = time.Now().Add(time.Hour).UnixMilli()
	text := func(n int) *msyncv1.MessageBody {
		return &msyncv1.MessageBody{Type: msyncv1.MessageBody_CHAT.Enum(), Contents: []*msyncv1.MessageBody_Content{
			{Type: msyncv1.MessageBody_Content_TEXT.Enum(), Text: proto.String(string(make([]byte, n)))},
		}}
	}
	for name, c := range map[string]struct {
		user, to string
		body     *msyncv1.MessageBody
		code     string
		text     string
	}{
		"blocked":                   {"lena", "dario", text(1), "1", "blocked"},
		"muted":                     {"moritz", "lena", text(1), "15", "user is mute"},
		"too large":                 {"lena", "omar", text(5121), "7", "Sorry, data is too large"},
		"recall":                    {"lena", "omar", &msyncv1.MessageBody{Type: msyncv1.MessageBody_RECALL.Enum(), AckMessageId: proto.Uint64(1)}, "1", "message recall disabled"},
		"edit":                      {"lena", "omar", &msyncv1.MessageBody{Type: msyncv1.MessageBody_EDIT.Enum()}, "1", "Sorry, edit is not available"},
		"ack of nothing, in a list": {"lena", "omar", &msyncv1.MessageBody{Type: msyncv1.MessageBody_READ_ACK.Enum(), AckMessageIds: []uint64{5, 0}}, "", errs.MessageInvalidRequest},
		"ack of nothing":            {"lena", "omar", &msyncv1.MessageBody{Type: msyncv1.MessageBody_READ_ACK.Enum()}, "", errs.MessageInvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.send.SendFromClient(t.Context(), &messagingv1.SendFromClientRequest{
				Org: "acme", App: "shop", User: c.user, Resource: "web_1", Meta: clientMeta(t, c.to, c.body),
			})
			e := errs.From(err)
			require.Equal(t, c.text, e.Message)
			require.Equal(t, c.code, e.Metadata[messaging.MetadataSyncCode])
		})
	}
}

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

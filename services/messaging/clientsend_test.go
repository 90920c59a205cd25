package messaging_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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

package messaging_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// TestBytesOfClientSends puts bytes where no text is counted. Whatever a device
// does, a message of a seeded tier is at most 12 KB and a receipt 2 KB; what
// SDKs send at the limit of texts still fits.
func TestBytesOfClientSends(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	text := func(s string) *msyncv1.MessageBody {
		return &msyncv1.MessageBody{Type: msyncv1.MessageBody_CHAT.Enum(), Contents: []*msyncv1.MessageBody_Content{
			{Type: msyncv1.MessageBody_Content_TEXT.Enum(), Text: proto.String(s)},
		}}
	}
	read := func() *msyncv1.MessageBody {
		return &msyncv1.MessageBody{Type: msyncv1.MessageBody_READ_ACK.Enum(), AckMessageId: proto.Uint64(1), Contents: []*msyncv1.MessageBody_Content{{}}}
	}
	// A field that no schema knows.
	hidden := func(b *msyncv1.MessageBody, n int) *msyncv1.MessageBody {
		raw := protowire.AppendTag(nil, 4000, protowire.BytesType)
		b.ProtoReflect().SetUnknown(protowire.AppendBytes(raw, make([]byte, n)))
		return b
	}
	pairs := func(b *msyncv1.MessageBody, n int) *msyncv1.MessageBody {
		for range n {
			b.Ext = append(b.Ext, &msyncv1.KeyValue{
				Key: proto.String("keys"), Type: msyncv1.KeyValue_STRING.Enum(), Value: &msyncv1.KeyValue_StringValue{StringValue: "value1"},
			})
		}
		return b
	}
	metaExt := func(body *msyncv1.MessageBody, n int) []byte {
		var meta msyncv1.Meta
		require.NoError(t, proto.Unmarshal(clientMeta(t, "omar", body), &meta))
		meta.Ext = []*msyncv1.KeyValue{{
			Key: proto.String("k"), Type: msyncv1.KeyValue_STRING.Enum(), Value: &msyncv1.KeyValue_StringValue{StringValue: strings.Repeat("x", n)},
		}}
		raw, err := proto.Marshal(&meta)
		require.NoError(t, err)
		return raw
	}
	for name, c := range map[string]struct {
		meta []byte
		ok   bool
	}{
		"a text of the whole limit":       {clientMeta(t, "omar", text(strings.Repeat("x", 5120))), true},
		"pairs of the whole limit":        {clientMeta(t, "omar", pairs(text(""), 512)), true},
		"a text and a hidden field":       {clientMeta(t, "omar", hidden(text("x"), 13<<10)), false},
		"a text and pairs of the meta":    {metaExt(text("x"), 13<<10), false},
		"a receipt":                       {clientMeta(t, "omar", read()), true},
		"a receipt and a hidden field":    {clientMeta(t, "omar", hidden(read(), 2<<10)), false},
		"a receipt and a long text":       {clientMeta(t, "omar", &msyncv1.MessageBody{Type: msyncv1.MessageBody_READ_ACK.Enum(), AckMessageId: proto.Uint64(1), Contents: text(strings.Repeat("x", 2<<10)).GetContents()}), false},
		"a receipt and pairs of the meta": {metaExt(read(), 2<<10), false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.send.SendFromClient(t.Context(), &messagingv1.SendFromClientRequest{
				Org: "acme", App: "shop", User: "lena", Resource: "web_1", Meta: c.meta,
			})
			if c.ok {
				require.NoError(t, err)
				return
			}
			require.Equal(t, "Sorry, data is too large", errs.From(err).Message)
		})
	}
}

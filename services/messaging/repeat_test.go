package messaging_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

func clientText(t *testing.T, to, text string, id uint64) []byte {
	t.Helper()
	var meta msyncv1.Meta
	require.NoError(t, proto.Unmarshal(clientMeta(t, to, &msyncv1.MessageBody{
		Type:     msyncv1.MessageBody_CHAT.Enum(),
		Contents: []*msyncv1.MessageBody_Content{{Type: msyncv1.MessageBody_Content_TEXT.Enum(), Text: proto.String(text)}},
	}), &meta))
	meta.Id = proto.Uint64(id)
	b, err := proto.Marshal(&meta)
	require.NoError(t, err)
	return b
}

// A device whose connection breaks before the answer sends again: it gets the
// answer of the first send, by whatever instance and after a restart, and there
// is one message.
func TestRepeatedClientSends(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	send := func(on *rig, resource, to, text string, id uint64) *messagingv1.SendFromClientResponse {
		t.Helper()
		resp, err := on.send.SendFromClient(t.Context(), &messagingv1.SendFromClientRequest{
			Org: "acme", App: "shop", User: "lena", Resource: resource, Meta: clientText(t, to, text, id),
		})
		require.NoError(t, err)
		return resp
	}
	first := send(r, "web_1", "omar", "hello", 7)
	other := r.another()
	for _, on := range []*rig{r, other} {
		again := send(on, "web_1", "omar", "hello", 7)
		require.Equal(t, first.GetMessageId(), again.GetMessageId())
		require.Equal(t, first.GetTimestamp(), again.GetTimestamp())
	}
	r.stop()
	r.start()
	require.Equal(t, first.GetMessageId(), send(r, "web_1", "omar", "hello", 7).GetMessageId(), "after a restart")

	// Several at once are one too.
	ids := make([]int64, 8)
	var all sync.WaitGroup
	for i := range ids {
		on := r
		if i%2 == 1 {
			on = other
		}
		all.Go(func() {
			resp, err := on.send.SendFromClient(t.Context(), &messagingv1.SendFromClientRequest{
				Org: "acme", App: "shop", User: "lena", Resource: "web_1", Meta: clientText(t, "omar", "at once", 8),
			})
			if err == nil {
				ids[i] = resp.GetMessageId()
			}
		})
	}
	all.Wait()
	for _, id := range ids {
		require.NotZero(t, id)
		require.Equal(t, ids[0], id)
	}
	require.NotEqual(t, first.GetMessageId(), ids[0])

	// What differs in anything is another message.
	distinct := map[int64]bool{first.GetMessageId(): true, ids[0]: true}
	for _, m := range []struct {
		resource, to, text string
		id                 uint64
	}{
		{"web_1", "omar", "hello", 9},
		{"web_2", "omar", "hello", 7},
		{"web_1", "omar", "hello again", 7},
		{"web_1", "dario", "hello", 7},
		{"web_1", "omar", "no ID", 0},
		{"web_1", "omar", "no ID", 0},
	} {
		id := send(r, m.resource, m.to, m.text, m.id).GetMessageId()
		require.False(t, distinct[id], "%v", m)
		distinct[id] = true
	}
	got := r.archived("lena~omar", 7)
	require.Equal(t, int64(7), got[6].GetSeq())
}

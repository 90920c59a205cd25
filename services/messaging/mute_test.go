package messaging_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// TestMutesEndWithoutAnEvent sends by REST and from a device before and after a
// mute's end, which nobody tells the service.
func TestMutesEndWithoutAnEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	until := time.Now().Add(time.Hour)
	r.users.muted["moritz"] = until.UnixMilli()
	sends := map[string]func() error{
		"REST": func() error {
			req := txt("moritz", "x", "lena")
			req.App = "strict"
			_, err := r.send.SendToUsers(rest(t.Context()), req)
			return err
		},
		"device": func() error {
			_, err := r.send.SendFromClient(t.Context(), &messagingv1.SendFromClientRequest{
				Org: "acme", App: "shop", User: "moritz", Resource: "web_1", Meta: clientMeta(t, "lena", &msyncv1.MessageBody{
					Type:     msyncv1.MessageBody_CHAT.Enum(),
					Contents: []*msyncv1.MessageBody_Content{{Type: msyncv1.MessageBody_Content_TEXT.Enum(), Text: proto.String("x")}},
				}),
			})
			return err
		},
	}
	at := func(when time.Time) { r.ahead.Store(int64(time.Until(when))) }
	for _, before := range []time.Duration{time.Hour, time.Minute, 10 * time.Second} {
		at(until.Add(-before))
		for name, send := range sends {
			require.True(t, errs.Is(send(), errs.ReasonForbidden), "%s, %s before the end", name, before)
		}
	}
	at(until)
	for name, send := range sends {
		require.NoError(t, send(), name)
	}
}

package messaging_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/chappe-im/chappe/pkg/errs"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

func TestSubscribeResumes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	subscribe := func(ctx context.Context, cursor, user string) grpc.ServerStreamingClient[messagingv1.SubscribeResponse] {
		s, err := r.send.Subscribe(ctx, &messagingv1.SubscribeRequest{Org: "acme", App: "shop", Cursor: cursor, User: user})
		require.NoError(t, err)
		first, err := s.Recv()
		require.NoError(t, err)
		require.Nil(t, first.GetMessage())
		require.NotEmpty(t, first.GetCursor())
		return s
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := subscribe(ctx, "", "")
	_, err := r.send.SendToUsers(t.Context(), txt("lena", "many", "a", "b", "c", "d", "e", "f", "g", "h"))
	require.NoError(t, err)
	got := map[string]int{}
	var cursor string
	for range 3 {
		m, err := s.Recv()
		require.NoError(t, err)
		got[m.GetMessage().GetTo()]++
		cursor = m.GetCursor()
	}
	cancel()
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	s = subscribe(ctx, cursor, "")
	for range 5 {
		m, err := s.Recv()
		require.NoError(t, err)
		got[m.GetMessage().GetTo()]++
	}
	require.Equal(t, map[string]int{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1, "g": 1, "h": 1}, got)
	one := subscribe(ctx, "", "omar")
	_, err = r.send.SendToUsers(t.Context(), txt("lena", "x", "nils", "omar"))
	require.NoError(t, err)
	m, err := one.Recv()
	require.NoError(t, err)
	require.Equal(t, "omar", m.GetMessage().GetTo())
	bad, err := r.send.Subscribe(ctx, &messagingv1.SubscribeRequest{Org: "acme", App: "shop", Cursor: "nonsense"})
	require.NoError(t, err)
	_, err = bad.Recv()
	require.Equal(t, errs.ReasonIllegalArgument, errs.From(err).Reason)
}

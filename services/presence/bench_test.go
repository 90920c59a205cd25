package presence_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// BenchmarkConnect is a login and a logout, 32 at a time.
func BenchmarkConnect(b *testing.B) {
	n := newNode(b)
	var next atomic.Int64
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := next.Add(1)
			id, user := fmt.Sprint("c", i), fmt.Sprint("user", i%5000)
			resource := fmt.Sprint("web_", i)
			_, err := n.conns.Connect(b.Context(), &presencev1.ConnectRequest{Org: org, App: app, Connection: connection(id, user, resource)})
			if err == nil {
				_, err = n.conns.Disconnect(b.Context(), &presencev1.DisconnectRequest{Org: org, App: app, ConnectionId: id, User: user, Resource: resource})
			}
			if err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkGetOnlineStatus asks for a user who is online.
func BenchmarkGetOnlineStatus(b *testing.B) {
	n := newNode(b)
	_, err := n.conns.Connect(b.Context(), &presencev1.ConnectRequest{Org: org, App: app, Connection: connection("c1", "amelia", "web_1")})
	require.NoError(b, err)
	req := &presencev1.GetOnlineStatusRequest{Org: org, App: app, Username: "amelia"}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := n.presence.GetOnlineStatus(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}

package session_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/services/gateway/session"
	"github.com/chappe-im/chappe/test/harness"
)

// natsMember starts a NATS server of a cluster; routes lead to the others.
func natsMember(t *testing.T, name string, routes ...*url.URL) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		ServerName: name, Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, Routes: routes,
		Cluster: server.ClusterOpts{Name: "cluster", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoAdvertise: true, PoolSize: -1},
	})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	require.True(t, s.ReadyForConnections(10*time.Second))
	return s
}

func connectTo(t *testing.T, s *server.Server) *natsx.Conn {
	t.Helper()
	c, err := natsx.Connect(t.Context(), natsx.Config{URL: s.ClientURL(), Name: t.Name(), Logger: testkit.Logger(t)})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = c.Drain(ctx)
	})
	return c
}

// TestInterestTravelsThroughACluster has gateway and messaging service at two
// servers of a cluster, of which the one hears late of subscriptions at the other.
// What is pushed before it does is lost, and nothing follows it.
func TestInterestTravelsThroughACluster(t *testing.T) {
	t.Parallel()
	far := natsMember(t, "far")
	link := harness.StartProxy(t, far.ClusterAddr().String())
	near := natsMember(t, "near", &url.URL{Scheme: "nats", Host: link.Addr})
	require.Eventually(t, func() bool { return near.NumRoutes() > 0 && far.NumRoutes() > 0 }, 10*time.Second, 5*time.Millisecond)

	r := startOn(t, connectTo(t, near), newBackend(connectTo(t, far)), tokens{}, func(c *session.Config) {
		c.RouteDelay = 300 * time.Millisecond
	})
	link.Silence()
	omar := r.dial("omar", msyncclient.Options{Resource: "web_1"})
	r.synced(omar)
	r.text(t, "lena", "omar", "pushed too early")
	require.NoError(t, r.nats.Flush(t.Context()))
	link.Pass()
	require.Equal(t, []string{"pushed too early"}, r.texts(omar, 1))
	r.text(t, "lena", "omar", "pushed in time")
	require.Equal(t, []string{"pushed in time"}, r.texts(omar, 1))
}

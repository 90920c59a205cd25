package testkit

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/natsx"
)

// NATSMember is a NATS server of a cluster, without JetStream.
type NATSMember struct{ server *server.Server }

// StartNATSMember starts a server of a cluster that finds the others by a route to
// the address of one of them, "" for the first. It ends with the test.
func StartNATSMember(t testing.TB, name, route string) *NATSMember {
	t.Helper()
	opts := &server.Options{
		ServerName: name, Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		Cluster: server.ClusterOpts{Name: "cluster", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoAdvertise: true, PoolSize: -1},
	}
	if route != "" {
		opts.Routes = []*url.URL{{Scheme: "nats", Host: route}}
	}
	s, err := server.NewServer(opts)
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	require.True(t, s.ReadyForConnections(10*time.Second))
	return &NATSMember{s}
}

// RouteAddr returns the address that other members' routes lead to.
func (m *NATSMember) RouteAddr() string { return m.server.ClusterAddr().String() }

// Routes returns the number of members that this one is connected to.
func (m *NATSMember) Routes() int { return m.server.NumRoutes() }

// Connect returns a connection to this member, drained at the test's end.
func (m *NATSMember) Connect(t testing.TB) *natsx.Conn {
	t.Helper()
	c, err := natsx.Connect(t.Context(), natsx.Config{URL: m.server.ClientURL(), Name: t.Name(), Logger: Logger(t)})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = c.Drain(ctx)
	})
	return c
}

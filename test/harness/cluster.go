package harness

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/embed"
	"github.com/chappe-im/chappe/pkg/seal"
	"github.com/chappe-im/chappe/pkg/secrets"
	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/services/run"
)

// Cluster is a server in processes of its own, on a NATS and a PostgreSQL server
// that are too: each can be killed, frozen, cut off and started again. Between
// the services and what they depend on are proxies.
type Cluster struct {
	NATS     *NATS
	Postgres *testkit.PostgresServer
	// NATSLink, PostgresLink and MessagingLink are the ways there. Messaging is
	// known to the gateways under the link's address alone.
	NATSLink, PostgresLink, MessagingLink *Proxy
	// Core runs limiter, account and presence.
	Core *Process
	// Messaging are the messaging processes; the link leads to the last one that
	// was started.
	Messaging []*Process
	Gateways  []*Process

	flags Flags
}

// StartCluster starts one with some gateways and messaging processes. It skips
// the test where there is no PostgreSQL.
func StartCluster(t testing.TB, gateways, messaging int) *Cluster {
	t.Helper()
	c := &Cluster{Postgres: testkit.StartPostgres(t), NATS: StartNATS(t)}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	dir := t.TempDir()
	secret, sealKey := filepath.Join(dir, "grpc-secret"), filepath.Join(dir, "seal-key")
	require.NoError(t, errors.Join(secrets.Create(secret), seal.Create(sealKey)))
	etcd, err := embed.StartEtcd(ctx, embed.EtcdConfig{Dir: dir, Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	t.Cleanup(etcd.Stop)
	c.NATSLink = StartProxy(t, c.NATS.Addr)
	c.PostgresLink = StartProxy(t, c.Postgres.Addr())
	c.MessagingLink = StartProxy(t, "127.0.0.1:1")
	c.flags = Flags{
		"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", "ops": "127.0.0.1:0", "partitions": "4", "data": dir,
		"grpc-secret-file": secret, "seal-key-file": sealKey,
		"etcd": etcd.Endpoint(), "nats": "nats://" + c.NATS.Token + "@" + c.NATSLink.Addr, "database": c.Postgres.URL(c.PostgresLink.Addr),
		"peer": run.TargetMessaging + "=" + c.MessagingLink.Addr,
	}
	c.Core = StartFlags(t, c.flags.With(Flags{"target": run.TargetLimiter + "," + run.TargetAccount + "," + run.TargetPresence}))
	c.flags["peer"] += "," + run.TargetAccount + "=" + c.Core.GRPC + "," + run.TargetPresence + "=" + c.Core.GRPC
	for range messaging {
		c.StartMessaging(t)
	}
	for range gateways {
		c.StartGateway(t)
	}
	return c
}

// StartMessaging starts one more messaging process and leads the link to it.
func (c *Cluster) StartMessaging(t testing.TB) *Process {
	t.Helper()
	p := StartFlags(t, c.flags.With(Flags{"target": run.TargetMessaging}))
	c.Messaging = append(c.Messaging, p)
	c.MessagingLink.Target(p.GRPC)
	return p
}

// StartGateway starts one more gateway.
func (c *Cluster) StartGateway(t testing.TB) *Process {
	t.Helper()
	p := StartFlags(t, c.flags.With(Flags{"target": run.TargetGateway}))
	c.Gateways = append(c.Gateways, p)
	return p
}

// NewApp makes an app and returns it as each gateway serves it.
func (c *Cluster) NewApp(t testing.TB, tier, overrides string) []*App {
	t.Helper()
	// The core administers apps and the first gateway gives the token.
	first := *c.Gateways[0].Server
	first.conn = c.Core.conn
	app := first.NewApp(t, tier, overrides)
	return c.Apps(app)
}

// Apps returns an app as each gateway serves it now.
func (c *Cluster) Apps(app *App) []*App {
	out := make([]*App, len(c.Gateways))
	for i, g := range c.Gateways {
		out[i] = app.On(g.Server)
	}
	return out
}

// Archive returns an app on the messaging process whose archive is asked.
func (c *Cluster) Archive(app *App) *App {
	return app.On(c.Messaging[len(c.Messaging)-1].Server)
}

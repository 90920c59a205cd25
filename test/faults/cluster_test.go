//go:build faults

package faults

import (
	"slices"
	"testing"
	"time"

	"github.com/chappe-im/chappe/test/traffic"
)

var scenarios = slices.Concat(singleScenarios, clusterScenarios, storms)

// takeover is how long it may take until another process works on the partitions
// of one that was killed: its lease lasts 5 s.
const takeover = 8 * time.Second

// clusterScenarios are faults of services in processes of their own and of the
// stores outside them.
var clusterScenarios = []scenario{
	{
		name: "two-gateways", what: "no fault: devices log in and out of two gateways, two messaging processes", gateways: 2, messaging: 2,
		cluster: func(t *testing.T, c *cluster) { traffic.Wait(t, 10*time.Second) },
	},
	{name: "gateway-killed", what: "one of two gateways killed", gateways: 2, cluster: func(t *testing.T, c *cluster) {
		c.killFirst(t, &c.Gateways)
		c.load.Over()
	}},
	{name: "gateway-frozen", lasts: 6 * time.Second, what: "one of two gateways frozen for 6 s", gateways: 2, cluster: func(t *testing.T, c *cluster) {
		c.Gateways[0].Freeze(t)
		traffic.Wait(t, 6*time.Second)
		c.Gateways[0].Thaw(t)
		c.load.Over()
	}},
	{name: "messaging-cut", lasts: 6 * time.Second, what: "messaging out of the gateway's reach for 6 s", answer: 12 * time.Second, cluster: func(t *testing.T, c *cluster) {
		c.MessagingLink.Cut()
		traffic.Wait(t, 6*time.Second)
		c.MessagingLink.Pass()
		c.load.Over()
	}},
	{name: "messaging-killed", lasts: 9 * time.Second, what: "messaging killed, started at the same address 6 s later", answer: 12 * time.Second, cluster: func(t *testing.T, c *cluster) {
		since := c.loseMessaging(t)
		traffic.Wait(t, 6*time.Second)
		c.regainMessaging(t, since)
		c.load.Over()
	}},
	{name: "messaging-frozen", lasts: takeover, what: "one of two messaging processes frozen for 12 s, the link leads to the other", messaging: 2, cluster: func(t *testing.T, c *cluster) {
		c.Messaging[0].Freeze(t)
		c.watch.use(c.Gateways[0].Server, c.Messaging[1].Server)
		traffic.Wait(t, 12*time.Second)
		c.Messaging[0].Thaw(t)
		c.load.Over()
	}},
	{name: "messaging-taken-over", lasts: takeover, what: "one of two messaging processes killed, the link leads to the other", messaging: 2, goesOn: takeover, cluster: func(t *testing.T, c *cluster) {
		c.killFirst(t, &c.Messaging)
		c.load.Over()
		traffic.Wait(t, takeover)
	}},
	{name: "nats-cut-short", lasts: time.Second, what: "NATS out of reach for 1 s", answer: 6 * time.Second, cluster: func(t *testing.T, c *cluster) {
		c.NATSLink.Cut()
		traffic.Wait(t, time.Second)
		c.NATSLink.Pass()
		c.load.Over()
	}},
	{name: "nats-cut", lasts: 10 * time.Second, what: "NATS out of reach for 10 s", answer: 6 * time.Second, unready: true, cluster: func(t *testing.T, c *cluster) {
		c.NATSLink.Cut()
		traffic.Wait(t, 10*time.Second)
		c.NATSLink.Pass()
		c.load.Over()
	}},
	{name: "nats-silent", lasts: 8 * time.Second, what: "NATS silent for 8 s (packets vanish)", answer: 12 * time.Second, cluster: func(t *testing.T, c *cluster) {
		c.NATSLink.Silence()
		traffic.Wait(t, 8*time.Second)
		c.NATSLink.Pass()
		c.load.Over()
	}},
	{name: "nats-frozen", lasts: 8 * time.Second, what: "NATS frozen (SIGSTOP) for 8 s", answer: 12 * time.Second, cluster: func(t *testing.T, c *cluster) {
		c.NATS.Freeze(t)
		traffic.Wait(t, 8*time.Second)
		c.NATS.Thaw(t)
		c.load.Over()
	}},
	{name: "nats-killed", lasts: 5 * time.Second, what: "NATS killed, started 4 s later", answer: 6 * time.Second, unready: true, cluster: func(t *testing.T, c *cluster) {
		c.NATS.Kill(t)
		traffic.Wait(t, 4*time.Second)
		c.NATS.Start(t)
		c.load.Over()
	}},
	{name: "nats-older", what: "NATS killed, started with its files of 3 s earlier", unready: true, cluster: func(t *testing.T, c *cluster) {
		c.NATS.Freeze(t)
		putBack := traffic.Snapshot(t, c.NATS.Files())
		c.NATS.Thaw(t)
		traffic.Wait(t, 3*time.Second)
		c.load.Settled(t, c.Archive(c.apps[0]))
		c.NATS.Kill(t)
		c.load.Pause(false)
		putBack()
		traffic.Wait(t, time.Second)
		c.NATS.Start(t)
		c.load.Over()
		traffic.Wait(t, 3*time.Second)
	}},
	{name: "nats-older-behind", what: "PostgreSQL frozen for 3 s, then NATS killed and started with its files from before", loses: true, cluster: func(t *testing.T, c *cluster) {
		c.load.Settled(t, c.Archive(c.apps[0]))
		c.NATS.Freeze(t)
		putBack := traffic.Snapshot(t, c.NATS.Files())
		c.NATS.Thaw(t)
		c.Postgres.Freeze(t)
		c.load.Pause(false)
		traffic.Wait(t, 3*time.Second)
		c.NATS.Kill(t)
		putBack()
		c.NATS.Start(t)
		c.Postgres.Thaw(t)
		c.load.Over()
		traffic.Wait(t, 3*time.Second)
	}},
	{name: "postgres-cut", lasts: 6 * time.Second, what: "PostgreSQL out of reach for 6 s", gap: goesOnWithin, cluster: func(t *testing.T, c *cluster) {
		c.PostgresLink.Cut()
		traffic.Wait(t, 6*time.Second)
		c.PostgresLink.Pass()
		c.load.Over()
	}},
	{name: "postgres-cut-minute", lasts: time.Minute, what: "PostgreSQL out of reach for 60 s", gap: goesOnWithin, cluster: func(t *testing.T, c *cluster) {
		c.PostgresLink.Cut()
		traffic.Wait(t, time.Minute)
		c.PostgresLink.Pass()
		c.load.Over()
	}},
	{name: "postgres-silent", lasts: 8 * time.Second, what: "PostgreSQL silent for 8 s (packets vanish)", gap: goesOnWithin, cluster: func(t *testing.T, c *cluster) {
		c.PostgresLink.Silence()
		traffic.Wait(t, 8*time.Second)
		c.PostgresLink.Pass()
		c.load.Over()
	}},
	{name: "postgres-frozen", lasts: 15 * time.Second, what: "PostgreSQL frozen (SIGSTOP) for 15 s", gap: goesOnWithin, cluster: func(t *testing.T, c *cluster) {
		c.Postgres.Freeze(t)
		traffic.Wait(t, 15*time.Second)
		c.Postgres.Thaw(t)
		c.load.Over()
	}},
	{name: "postgres-killed", lasts: 7 * time.Second, what: "PostgreSQL killed, started 6 s later", gap: goesOnWithin, cluster: func(t *testing.T, c *cluster) {
		c.Postgres.Kill(t)
		traffic.Wait(t, 6*time.Second)
		c.Postgres.Start(t)
		c.load.Over()
	}},
	{name: "postgres-frozen-messaging-killed", what: "PostgreSQL frozen for 6 s, messaging killed and started in it", answer: 12 * time.Second, cluster: func(t *testing.T, c *cluster) {
		since := time.Now()
		c.Postgres.Freeze(t)
		traffic.Wait(t, 2*time.Second)
		c.loseMessaging(t)
		traffic.Wait(t, 4*time.Second)
		c.Postgres.Thaw(t)
		c.regainMessaging(t, since)
		c.load.Over()
	}},
}

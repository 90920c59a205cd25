//go:build faults

package faults

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/test/harness"
	"github.com/chappe-im/chappe/test/traffic"
)

// storms are faults one after the other, as the seed has it. They look for what
// the single faults do not show; -seed makes others, and the same ones again.
var storms = []scenario{
	{name: "storm", what: "eight faults of a node one after the other, chosen by the seed", single: func(t *testing.T, s *single) {
		each(t, 8, []blow{
			{"kill", func(time.Duration) { s.kill(t); s.start(t) }},
			{"restart", func(time.Duration) { s.restart(t) }},
			{"freeze", func(d time.Duration) { s.Freeze(t); traffic.Wait(t, d); s.Thaw(t) }},
			{"lock", func(d time.Duration) { s.lock(t, d) }},
			{"lock and kill", func(d time.Duration) {
				began := time.Now()
				release := harness.LockSQLite(t, s.SQL("messaging"))
				traffic.Wait(t, d)
				s.Crash(t, began)
				release()
				s.start(t)
			}},
		}, s.Load.Over)
	}},
	{
		name: "storm-cluster", what: "eight faults of processes and stores one after the other, chosen by the seed", gateways: 2, messaging: 2,
		goesOn: takeover, cluster: func(t *testing.T, c *cluster) {
			each(t, 8, []blow{
				{"NATS cut", func(d time.Duration) { c.NATSLink.Cut(); traffic.Wait(t, d); c.NATSLink.Pass() }},
				{"NATS silent", func(d time.Duration) { c.NATSLink.Silence(); traffic.Wait(t, d); c.NATSLink.Pass() }},
				{"NATS killed", func(d time.Duration) { c.NATS.Kill(t); traffic.Wait(t, d); c.NATS.Start(t) }},
				{"PostgreSQL cut", func(d time.Duration) { c.PostgresLink.Cut(); traffic.Wait(t, d); c.PostgresLink.Pass() }},
				{"PostgreSQL frozen", func(d time.Duration) { c.Postgres.Freeze(t); traffic.Wait(t, d); c.Postgres.Thaw(t) }},
				{"PostgreSQL killed", func(d time.Duration) { c.Postgres.Kill(t); traffic.Wait(t, d); c.Postgres.Start(t) }},
				{"messaging cut", func(d time.Duration) { c.MessagingLink.Cut(); traffic.Wait(t, d); c.MessagingLink.Pass() }},
				{"messaging replaced", func(time.Duration) {
					c.killFirst(t, &c.Messaging)
					c.StartMessaging(t)
					c.reach()
				}},
				{"gateway replaced", func(time.Duration) {
					c.killFirst(t, &c.Gateways)
					c.StartGateway(t)
					c.reach()
				}},
			}, c.load.Over)
		},
	},
}

// blow is one fault of a storm; it lasts for a time, and is over when it
// returns.
type blow struct {
	name   string
	strike func(time.Duration)
}

// each strikes so many times, with some work in between.
func each(t *testing.T, n int, blows []blow, over func()) {
	t.Helper()
	random := rand.New(rand.NewPCG(*seed, 0)) // no secret
	for range n {
		b := blows[random.IntN(len(blows))]
		d := 200*time.Millisecond + time.Duration(random.Int64N(int64(4*time.Second)))
		t.Logf("%s for %s", b.name, d.Round(time.Millisecond))
		b.strike(d)
		over()
		traffic.Wait(t, 2*time.Second)
	}
}

// restart stops the node in good order and starts it again.
func (s *single) restart(t *testing.T) {
	at := time.Now()
	require.NoError(t, s.Terminate(t))
	s.Load.Disrupted(at, time.Now()) // what was shown last may not be confirmed
	s.start(t)
}

package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/test/harness"
	"github.com/chappe-im/chappe/test/traffic"
)

// crowd is a load with many logins: each of its 15 devices that come and go is
// written to right before it dials and at some moment afterwards.
func crowd(seed uint64) traffic.Config {
	return traffic.Config{
		Seed: seed, Recipients: 5, RoamingDevices: 3, Pause: 80 * time.Millisecond,
		Stay: 400 * time.Millisecond, Away: 150 * time.Millisecond,
	}
}

// kept wants that everything was kept and shown as promised.
func kept(t *testing.T, out traffic.Outcome) {
	t.Helper()
	t.Logf("%d acknowledged, %d refused, %d logins, %d repeats; longest gap %d ms, slowest answer %d ms, sends again after %d ms, shown again after %d ms",
		out.Acked, out.Refused, out.Logins, out.Repeats, out.LongestGap, out.SlowestCall, out.SendsAgain, out.ShownAgain)
	for why, n := range out.Refusals {
		t.Logf("refused %d times: %s", n, why)
	}
	require.True(t, out.Clean(), "%d lost, %d not archived, %d twice, %d late, %d doubled, %d holes: %v",
		out.Lost, out.Unarchived, out.Twice, out.Late, out.Doubled, out.Holes, out.Examples)
	require.Positive(t, out.Acked)
}

// logins waits until devices have logged in so many times.
func logins(t *testing.T, l *traffic.Load, n int64) {
	t.Helper()
	until := l.Logins() + n
	require.Eventually(t, func() bool { return l.Logins() >= until }, 60*time.Second, 10*time.Millisecond, "devices do not log in")
}

// TestManyLoginsUnderTraffic logs devices in and out while they are written to, and
// wants every acknowledged message shown to each of them once and in order.
func TestManyLoginsUnderTraffic(t *testing.T) {
	node := func(t *testing.T, more harness.Flags, seed uint64) *traffic.Node {
		return traffic.StartNode(t, t.TempDir(), more, crowd(seed))
	}
	t.Run("archive normal", func(t *testing.T) {
		n := node(t, nil, 1)
		logins(t, n.Load, 300)
		kept(t, n.Load.Finish(t, n.App))
	})
	t.Run("archive slow", func(t *testing.T) {
		n := node(t, nil, 2)
		logins(t, n.Load, 30)
		for range 3 {
			release := harness.LockSQLite(t, n.SQL("messaging"))
			traffic.Wait(t, 2*time.Second)
			release()
			logins(t, n.Load, 20)
		}
		kept(t, n.Load.Finish(t, n.App))
	})
	t.Run("archive away", func(t *testing.T) {
		postgres := testkit.StartPostgres(t)
		link := harness.StartProxy(t, postgres.Addr())
		n := node(t, harness.Flags{"database": postgres.URL(link.Addr)}, 3)
		logins(t, n.Load, 60)
		link.Cut()
		traffic.Wait(t, 10*time.Second)
		link.Pass()
		n.Load.Over()
		logins(t, n.Load, 60)
		kept(t, n.Load.Finish(t, n.App))
	})
	t.Run("killed in between", func(t *testing.T) {
		n := node(t, nil, 4)
		for range 3 {
			logins(t, n.Load, 80)
			n.Crash(t, time.Now())
			n.Restart(t)
		}
		logins(t, n.Load, 60)
		kept(t, n.Load.Finish(t, n.App))
	})
	t.Run("two gateways", func(t *testing.T) {
		c := harness.StartCluster(t, 2, 2)
		apps := c.NewApp(t, "enterprise", harness.NoLimits)
		l := traffic.Start(t, crowd(5), apps...)
		logins(t, l, 300)
		kept(t, l.Finish(t, c.Archive(apps[0])))
	})
	t.Run("one of two gateways killed", func(t *testing.T) {
		c := harness.StartCluster(t, 2, 1)
		apps := c.NewApp(t, "enterprise", harness.NoLimits)
		l := traffic.Start(t, crowd(6), apps...)
		logins(t, l, 100)
		at := time.Now()
		c.Gateways[0].Kill(t)
		l.Disrupted(at, time.Now())
		c.Gateways = c.Gateways[1:]
		l.Use(c.Apps(apps[0])...)
		l.Over()
		logins(t, l, 100)
		kept(t, l.Finish(t, c.Archive(apps[0])))
	})
}

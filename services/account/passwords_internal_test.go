package account

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/errs"
)

func testPasswords(t testing.TB) *passwords {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Argon2 = Argon2{MemoryKiB: 8, Passes: 1, Threads: 1}
	cfg.CredentialCache = 2
	p, err := newPasswords(cfg, prometheus.NewRegistry())
	require.NoError(t, err)
	return p
}

func count(t testing.TB, p *passwords, way string) float64 {
	t.Helper()
	m := &dto.Metric{}
	require.NoError(t, p.checks.WithLabelValues(way).Write(m))
	return m.GetCounter().GetValue()
}

func TestDefaultCostIsRecommended(t *testing.T) {
	t.Parallel()
	c := DefaultConfig().Argon2
	require.GreaterOrEqual(t, c.MemoryKiB, uint32(19456))
	require.GreaterOrEqual(t, c.Passes, uint32(2))
	require.NoError(t, DefaultConfig().Validate())
}

func TestPasswordChecks(t *testing.T) {
	t.Parallel()
	p := testPasswords(t)
	a, err := p.hash(t.Context(), "secret")
	require.NoError(t, err)
	b, err := p.hash(t.Context(), "secret")
	require.NoError(t, err)
	require.NotEqual(t, a, b, "each has a salt of its own")
	for _, c := range []struct {
		name, stored, password string
		ok                     bool
		way                    string
	}{
		{"first time", a, "secret", true, "cold"},
		{"again", a, "secret", true, "warm"},
		{"wrong beside a warm one", a, "Secret", false, "cold"},
		{"wrong does not spoil the right", a, "secret", true, "warm"},
		{"same password, other user", b, "secret", true, "cold"},
		{"empty", a, "", false, "cold"},
		// As dear as a wrong password, and never right.
		{"nobody", "", "secret", false, "cold"},
		{"nobody, again", "", "secret", false, "cold"},
		{"nobody, empty", "", "", false, "cold"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := count(t, p, c.way)
			ok, err := p.check(t.Context(), c.stored, c.password)
			require.NoError(t, err)
			require.Equal(t, c.ok, ok)
			require.InDelta(t, before+1, count(t, p, c.way), 0)
		})
	}
	// The cache is bounded: a third password pushes the first out.
	third, err := p.hash(t.Context(), "x")
	require.NoError(t, err)
	_, err = p.check(t.Context(), third, "x")
	require.NoError(t, err)
	require.Equal(t, 2, p.warm.Len())
}

func TestNobodysHashCostsWhatAnyHashCosts(t *testing.T) {
	t.Parallel()
	p := testPasswords(t)
	cost, salt, hash, err := decodeHash(p.dummy)
	require.NoError(t, err)
	usual, err := p.hash(t.Context(), "secret")
	require.NoError(t, err)
	realCost, realSalt, realHash, err := decodeHash(usual)
	require.NoError(t, err)
	require.Equal(t, realCost, cost)
	require.Len(t, salt, len(realSalt))
	require.Len(t, hash, len(realHash))
}

func TestHashesOfAnotherCostStillHold(t *testing.T) {
	t.Parallel()
	p := testPasswords(t)
	old, err := p.hash(t.Context(), "secret")
	require.NoError(t, err)
	p.cost = Argon2{MemoryKiB: 16, Passes: 2, Threads: 1}
	ok, err := p.check(t.Context(), old, "secret")
	require.NoError(t, err)
	require.True(t, ok)
}

func TestUnreadableHashes(t *testing.T) {
	t.Parallel()
	p := testPasswords(t)
	good, err := p.hash(t.Context(), "secret")
	require.NoError(t, err)
	for _, stored := range []string{
		"x", "$", "$argon2id$v=19$m=8,t=1,p=1$", good + "$", good[1:],
		strings.Replace(good, "argon2id", "argon2i", 1), strings.Replace(good, "v=19", "v=16", 1),
		strings.Replace(good, "t=1", "t=0", 1), strings.Replace(good, "p=1", "p=0", 1), strings.Replace(good, "m=8", "m=x", 1),
		"$argon2id$v=19$m=8,t=1,p=1$c2FsdA$", "$argon2id$v=19$m=8,t=1,p=1$!$aGFzaA",
	} {
		_, err := p.check(t.Context(), stored, "secret")
		require.Error(t, err, stored)
	}
}

func TestHashesWaitForASlot(t *testing.T) {
	t.Parallel()
	p := testPasswords(t)
	for range cap(p.slots) {
		p.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.hash(ctx, "secret")
	require.Error(t, err)
	<-p.slots
	_, err = p.hash(t.Context(), "secret")
	require.NoError(t, err)
}

// TestHashesLeaveProcessorsToOthers bounds what wrong passwords can take from
// everything else: half of the processors, and a queue that ends.
func TestHashesLeaveProcessorsToOthers(t *testing.T) {
	t.Parallel()
	require.LessOrEqual(t, DefaultConfig().ParallelHashes, max(1, runtime.GOMAXPROCS(0)/2))
	p := testPasswords(t)
	p.queue = make(chan struct{}, 3)
	for range cap(p.slots) {
		p.slots <- struct{}{}
	}
	done := make(chan error, 3)
	for range 3 {
		go func() {
			_, err := p.hash(context.Background(), "secret")
			done <- err
		}()
	}
	require.Eventually(t, func() bool { return len(p.queue) == 3 }, 5*time.Second, time.Millisecond)
	_, err := p.hash(t.Context(), "secret")
	require.True(t, errs.Is(err, errs.ReasonRateLimit), "%v", err)
	require.Positive(t, errs.From(err).RetryAfter)
	for range cap(p.slots) {
		<-p.slots
	}
	for range 3 {
		require.NoError(t, <-done)
	}
	require.Empty(t, p.queue)
}

package rate_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/rate"
)

const second = int64(1e9)

// TestPacerBound checks the promise itself on every pair of grants: between
// the moments at which two of them fall due, no more than the burst and the
// rate allow.
func TestPacerBound(t *testing.T) {
	t.Parallel()
	type grant struct{ at, units int64 }
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		b := rate.Budget{PerSecond: 1 + r.Int64N(5000)}
		b.Burst = 1 + r.Int64N(2*b.PerSecond)
		var p rate.Pacer
		var grants []grant
		now := r.Int64N(1 << 40)
		for range 150 {
			now += r.Int64N(second / 10)
			if r.IntN(40) == 0 {
				now += r.Int64N(3 * second)
			}
			cost := 1 + r.Int64N(b.Burst*2)
			maxDelay := r.Int64N(2 * second)
			granted, delay := p.Reserve(now, b, cost, maxDelay)
			if granted == 0 {
				require.Positive(t, delay)
				continue
			}
			require.Equal(t, min(cost, b.Burst), granted)
			require.LessOrEqual(t, delay, maxDelay)
			grants = append(grants, grant{now + delay, granted})
		}
		for i := range grants {
			sum := int64(0)
			for j := i; j < len(grants); j++ {
				if j > i && grants[j].at < grants[j-1].at {
					t.Fatalf("seed %d: grant %d falls due before the one before it", seed, j)
				}
				sum += grants[j].units
				// sum <= burst + rate*t, exactly: (sum-burst)*1e9 <= rate*ns.
				ns := grants[j].at - grants[i].at
				if (sum-b.Burst)*second > b.PerSecond*ns {
					t.Fatalf("seed %d grants %d to %d: %d units in %d ns", seed, i, j, sum, ns)
				}
			}
		}
	}
}

// A drained pacer gives exactly its rate, also one that does not divide a
// second.
func TestPacerRate(t *testing.T) {
	t.Parallel()
	for _, perSecond := range []int64{1, 3, 7, 2000, 2999, 1_000_003} {
		b := rate.Budget{PerSecond: perSecond, Burst: perSecond}
		var p rate.Pacer
		granted, delay := p.Reserve(0, b, b.Burst, 0)
		require.Equal(t, b.Burst, granted)
		require.Zero(t, delay)
		// Ten more seconds' worth, in the smallest pieces that make sense.
		piece := max(1, perSecond/7)
		var last, total int64
		for total < 10*perSecond {
			g, d := p.Reserve(0, b, min(piece, 10*perSecond-total), 1<<62)
			require.Positive(t, g)
			total, last = total+g, d
		}
		require.Equal(t, 10*second, last, "rate %d", perSecond)
	}
}

func TestPacerCases(t *testing.T) {
	t.Parallel()
	b := rate.Budget{PerSecond: 2000, Burst: 2000}

	t.Run("never more than the burst at once", func(t *testing.T) {
		t.Parallel()
		var p rate.Pacer
		granted, delay := p.Reserve(0, b, 6000, 0)
		require.Equal(t, int64(2000), granted)
		require.Zero(t, delay)
	})
	t.Run("what would come too late is not taken", func(t *testing.T) {
		t.Parallel()
		var p rate.Pacer
		p.Reserve(0, b, 2000, 0)
		granted, again := p.Reserve(0, b, 1000, second/10)
		require.Zero(t, granted)
		require.Equal(t, second/2-second/10, again)
		granted, delay := p.Reserve(again, b, 1000, second/10)
		require.Equal(t, int64(1000), granted)
		require.Equal(t, second/10, delay)
	})
	t.Run("a rest fills up to one burst", func(t *testing.T) {
		t.Parallel()
		var p rate.Pacer
		p.Reserve(0, b, 2000, 0)
		require.Equal(t, second, p.Behind(0))
		p.Reserve(100*second, b, 2000, 0)
		granted, _ := p.Reserve(100*second, b, 1, 0)
		require.Zero(t, granted)
	})
	t.Run("no budget grants nothing", func(t *testing.T) {
		t.Parallel()
		var p rate.Pacer
		for _, none := range []rate.Budget{{}, {PerSecond: 1}, {Burst: 1}, {PerSecond: -1, Burst: 5}} {
			granted, delay := p.Reserve(0, none, 1, 1<<62)
			require.Zero(t, granted)
			require.Positive(t, delay)
		}
	})
	t.Run("the rate may change", func(t *testing.T) {
		t.Parallel()
		var p rate.Pacer
		p.Reserve(0, rate.Budget{PerSecond: 3, Burst: 3}, 1, 0)
		granted, delay := p.Reserve(0, rate.Budget{PerSecond: 1000, Burst: 1000}, 900, second)
		require.Equal(t, int64(900), granted)
		require.LessOrEqual(t, delay, second/3)
	})
}

func BenchmarkPacer(b *testing.B) {
	budget := rate.Budget{PerSecond: 2000, Burst: 2000}
	var p rate.Pacer
	b.ReportAllocs()
	for i := range int64(b.N) {
		p.Reserve(i*1000, budget, 1, second)
	}
}

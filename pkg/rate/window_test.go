package rate_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/rate"
)

// model is the window by definition: every admission, never forgotten.
type model struct {
	at    []int64
	units []int64
}

// used gives what was admitted in the half-open window that ends with now,
// that is, at times in (now-window, now].
func (m *model) used(now, window int64) (sum int64) {
	for i := len(m.at) - 1; i >= 0 && m.at[i] > now-window; i-- {
		if m.at[i] <= now {
			sum += m.units[i]
		}
	}
	return sum
}

func (m *model) admit(now, cost int64) {
	m.at = append(m.at, now)
	m.units = append(m.units, cost)
}

// worst gives the most units in any half-open interval of the window's length.
// It is reached by an interval that begins with an admission.
func (m *model) worst(window int64) (most int64) {
	lo, sum := 0, int64(0)
	for hi := range m.at {
		sum += m.units[hi]
		for m.at[hi]-m.at[lo] >= window {
			sum -= m.units[lo]
			lo++
		}
		most = max(most, sum)
	}
	return most
}

// pattern makes gaps between calls: steady, bursts of one instant, pauses of
// just under, exactly and just over a window, and anything between.
func pattern(r *rand.Rand, limit rate.Limit) func() int64 {
	mean := max(1, limit.Window/max(1, limit.Units))
	kind := r.IntN(6)
	return func() int64 {
		k := kind
		if k == 5 {
			k = r.IntN(5)
		}
		switch k {
		case 0:
			return mean
		case 1:
			return r.Int64N(mean + 1)
		case 2:
			if r.IntN(20) > 0 {
				return 0
			}
			return limit.Window - 1 + r.Int64N(3)
		case 3:
			return r.Int64N(2*mean + 1)
		default:
			if r.IntN(50) > 0 {
				return r.Int64N(max(1, mean/10))
			}
			return r.Int64N(2 * limit.Window)
		}
	}
}

func TestWindowAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		limit := rate.Limit{Units: 1 + r.Int64N(40), Window: 1 + r.Int64N(5000)}
		maxCost := 1 + r.Int64N(limit.Units+2)
		if seed%4 > 1 {
			// Hours of nanoseconds: times leave an entry's range again and again.
			limit.Window <<= 30
		}
		if seed%4 > 2 {
			// Units beyond what one entry says.
			limit.Units <<= 18
			maxCost <<= 18
		}
		next := pattern(r, limit)
		var l rate.Log
		var m model
		now := r.Int64N(1 << 40)
		for i := range 600 {
			now += next()
			cost := 1 + r.Int64N(maxCost)
			v := l.Peek(now, limit, cost)
			used := m.used(now, limit.Window)
			after := func(wait int64) int64 { return m.used(now+wait, limit.Window) + cost }
			switch {
			case v.OK != (used+cost <= limit.Units):
				t.Fatalf("seed %d call %d: %d used, cost %d, limit %d: %+v", seed, i, used, cost, limit.Units, v)
			case v.TooCostly != (cost > limit.Units), v.Limit != limit.Units, l.Used(now, limit.Window) != used, int64(l.Entries()) > limit.Units:
				t.Fatalf("seed %d call %d: %+v with %d used in %d entries", seed, i, v, used, l.Entries())
			case v.OK && (v.Remaining != limit.Units-used-cost || v.RetryAfter != 0), v.TooCostly && v.RetryAfter != 0:
				t.Fatalf("seed %d call %d: %+v", seed, i, v)
			case !v.OK && !v.TooCostly && after(v.RetryAfter) > limit.Units:
				t.Fatalf("seed %d call %d: %+v, but after the wait it does not fit", seed, i, v)
			case !v.OK && !v.TooCostly && after(v.RetryAfter-1) <= limit.Units:
				t.Fatalf("seed %d call %d: %+v, but it would fit a nanosecond before", seed, i, v)
			}
			if v.OK {
				l.Take(now, cost)
				m.admit(now, cost)
			}
			if left := m.used(now+l.Reset(now, limit.Window), limit.Window); left != 0 {
				t.Fatalf("seed %d call %d: %d left after the reset", seed, i, left)
			}
		}
		require.LessOrEqual(t, m.worst(limit.Window), limit.Units, "seed %d", seed)
	}
}

// A caller that itself keeps within the limit must never be refused.
func TestCompliantCallerIsNeverRefused(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		limit := rate.Limit{Units: 1 + r.Int64N(30), Window: 1 + r.Int64N(2000)}
		next := pattern(r, limit)
		var l rate.Log
		var m model
		now := int64(0)
		for range 800 {
			now += next()
			cost := 1 + r.Int64N(min(3, limit.Units))
			if m.used(now, limit.Window)+cost > limit.Units {
				continue // the caller holds this call back
			}
			require.True(t, l.Peek(now, limit, cost).OK, "seed %d", seed)
			l.Take(now, cost)
			m.admit(now, cost)
		}
	}
}

// Limits change while the window is in use, both ways.
func TestLimitChangesLive(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		limit := rate.Limit{Units: 20, Window: 1000}
		next := pattern(r, limit)
		var l rate.Log
		var m model
		now := int64(0)
		for range 800 {
			now += next()
			if r.IntN(30) == 0 {
				limit.Units = r.Int64N(60)
			}
			cost := 1 + r.Int64N(4)
			v := l.Peek(now, limit, cost)
			if v.OK != (m.used(now, limit.Window)+cost <= limit.Units) || v.Remaining < 0 {
				t.Fatalf("seed %d: %+v", seed, v)
			}
			if !v.OK && !v.TooCostly && m.used(now+v.RetryAfter, limit.Window)+cost > limit.Units {
				t.Fatalf("seed %d: %+v, but after the wait it does not fit", seed, v)
			}
			if v.OK {
				l.Take(now, cost)
				m.admit(now, cost)
			}
		}
	}
}

func TestWindowCases(t *testing.T) {
	t.Parallel()
	limit := rate.Limit{Units: 3, Window: 100}

	t.Run("an admission counts up to and without its window", func(t *testing.T) {
		t.Parallel()
		var l rate.Log
		l.Take(10, 3)
		v := l.Peek(109, limit, 1)
		require.False(t, v.OK)
		require.Equal(t, int64(1), v.RetryAfter)
		require.True(t, l.Peek(110, limit, 3).OK)
	})
	t.Run("more than the window holds is never admitted", func(t *testing.T) {
		t.Parallel()
		var l rate.Log
		require.Equal(t, rate.Verdict{TooCostly: true, Limit: 3, Remaining: 3}, l.Peek(0, limit, 4))
	})
	t.Run("a limit of nothing admits nothing", func(t *testing.T) {
		t.Parallel()
		var l rate.Log
		require.True(t, l.Peek(0, rate.Limit{Window: 100}, 1).TooCostly)
	})
	t.Run("asking spends nothing", func(t *testing.T) {
		t.Parallel()
		var l rate.Log
		for range 10 {
			require.True(t, l.Peek(0, limit, 3).OK)
		}
		require.Zero(t, l.Used(0, limit.Window))
	})
	t.Run("a late clock reading counts as now", func(t *testing.T) {
		t.Parallel()
		var l rate.Log
		require.Equal(t, int64(50), l.Take(50, 1))
		require.Equal(t, int64(50), l.Take(40, 2))
		require.Equal(t, 1, l.Entries())
		require.False(t, l.Peek(149, limit, 1).OK)
		require.True(t, l.Peek(150, limit, 3).OK)
	})
	t.Run("units of one nanosecond share an entry", func(t *testing.T) {
		t.Parallel()
		var l rate.Log
		for range 1000 {
			l.Take(7, 1)
		}
		require.Equal(t, 1, l.Entries())
		require.Equal(t, int64(1000), l.Used(7, 100))
	})
}

func TestTighter(t *testing.T) {
	t.Parallel()
	ok := rate.Verdict{OK: true, Remaining: 5}
	less := rate.Verdict{OK: true, Remaining: 1}
	soon := rate.Verdict{RetryAfter: 1}
	later := rate.Verdict{RetryAfter: 9}
	never := rate.Verdict{TooCostly: true}
	for _, pair := range [][2]rate.Verdict{{less, ok}, {soon, less}, {later, soon}, {never, later}} {
		require.True(t, rate.Tighter(pair[0], pair[1]))
		require.False(t, rate.Tighter(pair[1], pair[0]))
	}
}

func TestCeilMillis(t *testing.T) {
	t.Parallel()
	for ns, want := range map[int64]int64{-5: 0, 0: 0, 1: 1, 1_000_000: 1, 1_000_001: 2, 59_999_999_999: 60_000} {
		require.Equal(t, want, rate.CeilMillis(ns))
	}
	require.Positive(t, rate.CeilMillis(1<<63-1))
}

func FuzzWindow(f *testing.F) {
	f.Add(int64(5), int64(100), []byte{0, 1, 50, 2, 99, 3, 100, 1})
	f.Fuzz(func(t *testing.T, units, window int64, calls []byte) {
		limit := rate.Limit{Units: units % 1000, Window: max(1, window%10_000)}
		var l rate.Log
		var m model
		now := int64(0)
		for i := 0; i+1 < len(calls); i += 2 {
			now += int64(calls[i]) * limit.Window / 100
			cost := 1 + int64(calls[i+1])
			ok := l.Peek(now, limit, cost).OK
			require.Equal(t, m.used(now, limit.Window)+cost <= limit.Units, ok)
			if ok {
				l.Take(now, cost)
				m.admit(now, cost)
			}
		}
		require.LessOrEqual(t, m.worst(limit.Window), max(0, limit.Units))
	})
}

func BenchmarkWindowSteady(b *testing.B) {
	limit := rate.Limit{Units: 100, Window: 1e9}
	var l rate.Log
	b.ReportAllocs()
	for i := range int64(b.N) {
		now := i * 5e6 // twice what the limit admits
		if l.Peek(now, limit, 1).OK {
			l.Take(now, 1)
		}
	}
}

func BenchmarkWindowMinute(b *testing.B) {
	limit := rate.Limit{Units: 6000, Window: 60e9}
	var l rate.Log
	b.ReportAllocs()
	for i := range int64(b.N) {
		now := i * 5e6
		if l.Peek(now, limit, 1).OK {
			l.Take(now, 1)
		}
	}
}

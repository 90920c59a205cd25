package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBucketsAreContiguous(t *testing.T) {
	t.Parallel()
	for i := range groups*subBuckets - 1 {
		top := highest(i)
		require.Equal(t, i, bucket(top), "top of bucket %d", i)
		require.Equal(t, i+1, bucket(top+1), "first value after bucket %d", i)
		if top+1 > math.MaxInt64 {
			break
		}
	}
	require.Less(t, bucket(math.MaxInt64), groups*subBuckets)
}

func TestQuantilesAgainstSortedValues(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	values := make([]time.Duration, 20_000)
	for i := range values {
		values[i] = time.Duration(math.Exp(rng.Float64() * 22)) // 1 ns to 3.6 s
		h.Record(values[i])
	}
	slices.Sort(values)
	for _, q := range []float64{0.001, 0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		want := values[int(math.Ceil(q*float64(len(values))))-1]
		got := h.Quantile(q)
		require.GreaterOrEqual(t, got, want, "quantile %v", q)
		require.LessOrEqual(t, float64(got), float64(want)*(1+1.0/subBuckets), "quantile %v", q)
	}
	require.Equal(t, values[len(values)-1], h.Max())
}

func TestHistogramSmallCases(t *testing.T) {
	t.Parallel()
	var empty Histogram
	require.Zero(t, empty.Quantile(0.5))
	require.Zero(t, empty.Mean())

	var a, b Histogram
	a.Record(-time.Second)
	a.Record(10)
	b.Record(20)
	a.Merge(&b)
	require.EqualValues(t, 3, a.Count())
	require.EqualValues(t, 20, a.Max())
	require.EqualValues(t, 10, a.Mean())
	require.EqualValues(t, 0, a.Quantile(0))
	require.EqualValues(t, 10, a.Quantile(0.5))
	require.EqualValues(t, 20, a.Quantile(1))
}

func TestMedian(t *testing.T) {
	t.Parallel()
	in := []float64{9, 1, 5}
	require.InDelta(t, 5, Median(in), 0)
	require.Equal(t, []float64{9, 1, 5}, in, "the caller's slice keeps its order")
	require.InDelta(t, 3, Median([]float64{1, 5}), 0)
	require.Zero(t, Median(nil))
}

// Package stats holds the arithmetic of measurements: a histogram of
// durations and medians over rounds.
package stats

import (
	"math/bits"
	"slices"
	"time"
)

// subBits sets the resolution of a Histogram: values are told apart to one
// part in 2^subBits, below 0.8 %.
const (
	subBits    = 7
	subBuckets = 1 << subBits
	// groups covers every positive duration: the first group counts single
	// nanoseconds, each later one a power of two.
	groups = 64 - subBits
)

// Histogram counts durations in buckets whose width grows with the value, so
// that every quantile has the same relative error. The zero value is ready. It
// is not safe for concurrent use: each worker has its own and they are merged.
type Histogram struct {
	counts [groups * subBuckets]uint64
	n      uint64
	sum    float64
	max    time.Duration
}

func bucket(v uint64) int {
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	// The leading bit is always set here: it is counted by the group, so the
	// upper half of each group's range fills one half of its buckets.
	return (shift+1)*subBuckets + int(v>>shift) - subBuckets
}

// highest gives the largest value that falls into bucket i.
func highest(i int) uint64 {
	group, sub := i/subBuckets, i%subBuckets
	if group == 0 {
		return uint64(sub)
	}
	shift := group - 1
	return uint64(subBuckets+sub+1)<<shift - 1
}

// Record counts d; negative durations count as zero.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.n++
	h.sum += float64(d)
	h.max = max(h.max, d)
}

// Merge adds what o has counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.sum += o.sum
	h.max = max(h.max, o.max)
}

// Count is the number of recorded durations.
func (h *Histogram) Count() uint64 { return h.n }

// Max is the longest recorded duration, exactly.
func (h *Histogram) Max() time.Duration { return h.max }

// Mean of the recorded durations; 0 without any.
func (h *Histogram) Mean() time.Duration {
	if h.n == 0 {
		return 0
	}
	return time.Duration(h.sum / float64(h.n))
}

// Quantile gives the duration that a share q (0 to 1) of the recorded ones do
// not exceed; at most 0.8 % too high, never too low. 0 without any.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := uint64(q * float64(h.n))
	if float64(rank) < q*float64(h.n) {
		rank++
	}
	rank = min(max(rank, 1), h.n)
	var seen uint64
	for i, c := range h.counts {
		seen += c
		if seen >= rank {
			return min(time.Duration(highest(i)), h.max)
		}
	}
	return h.max
}

// Median of values; 0 for none. An even number gives the mean of the two in
// the middle.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Clone(values)
	slices.Sort(s)
	m := len(s) / 2
	if len(s)%2 == 1 {
		return s[m]
	}
	return (s[m-1] + s[m]) / 2
}

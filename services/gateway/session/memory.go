package session

import "sync/atomic"

// memory counts what waits for devices in the whole process: entries in the
// tails of queues, and frames that are not written yet. One bound holds for all
// of it. The zero value and nil have none.
type memory struct {
	used  atomic.Int64
	bound int64
}

// entryOverhead is what an entry costs besides its bytes.
const entryOverhead = 64

// fits reports whether n bytes more are within the bound.
func (m *memory) fits(n int) bool {
	return m == nil || m.bound == 0 || m.used.Load()+int64(n) <= m.bound
}

// scarce reports whether three quarters are used.
func (m *memory) scarce() bool { return m.bound != 0 && m.used.Load() > m.bound/4*3 }

// add counts n bytes, or gives them back when n is negative.
func (m *memory) add(n int) {
	if m != nil {
		m.used.Add(int64(n))
	}
}

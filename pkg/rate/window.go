// Package rate is the arithmetic of call rates: exact sliding windows and
// paced budgets. It is pure: time is an argument, in nanoseconds of a clock
// that never goes back, and nothing here starts a goroutine or takes a lock.
package rate

import "math"

// Limit admits at most Units in any half-open interval of Window nanoseconds.
type Limit struct {
	Units  int64
	Window int64
}

// Verdict says what a window makes of a call. Times are nanoseconds.
type Verdict struct {
	// OK admits; nothing is spent until Take.
	OK bool
	// TooCostly marks a cost above what the window ever holds: waiting does
	// not help.
	TooCostly bool
	// Limit is the window's size, Remaining what is left of it: after this
	// call if it is admitted, else now.
	Limit     int64
	Remaining int64
	// RetryAfter is how long until the same call would be admitted if nothing
	// else came in between; 0 if it is admitted now or never.
	RetryAfter int64
	// ResetAfter is how long until the window is empty again if nothing more
	// comes.
	ResetAfter int64
}

// Log is the sliding window of one bucket: the units admitted within the last
// window, by the nanosecond of their admission. Only units of the same
// nanosecond share an entry, because anything coarser would admit too much or
// refuse too early. There are never more entries than units in the window, so
// memory follows what was admitted, eight bytes for each, and not what the
// limit would allow.
//
// The zero value is an empty window. The limit is an argument of every call,
// so that it can change at any time: what was admitted before counts against
// the new limit. When a window gets longer, what had left the shorter one is
// not counted again.
//
// A Log is not safe for concurrent use.
type Log struct {
	// n entries are in the log, in the ring from head on.
	n    uint32
	head uint32
	// sum is the units of all entries. first and last are the times of the
	// oldest and the newest, so that most calls read nothing but these: with
	// many windows, each more line of memory that a call touches costs as much
	// as all of its arithmetic.
	sum, first, last int64
	// ring holds the entries, oldest at head; its length is a power of two or
	// zero. A single entry needs no ring: it is sum at first.
	ring []entry
	// base is the time that the ring's entries count from.
	base int64
}

// entry is a time, in nanoseconds after the log's base, and the units that
// were admitted then, in eight bytes.
type entry uint64

const (
	unitBits = 20
	// maxUnits is the most that one entry says; more take several.
	maxUnits = 1<<unitBits - 1
	// maxAge is how far an entry's time may be from the base: four hours and
	// fifty minutes, many times the longest window.
	maxAge = 1 << (64 - unitBits)
)

func (e entry) units() int64 { return int64(e & maxUnits) }

// minRing is the ring's first size, keepRing the largest that an empty log
// keeps.
const (
	minRing  = 2
	keepRing = 32
)

// Peek tells what would become of a call of the given cost (at least 1) and
// spends nothing, so that several windows can be asked before any is charged.
func (l *Log) Peek(now int64, limit Limit, cost int64) Verdict {
	now = l.clamp(now)
	l.expire(now, limit.Window)
	v := Verdict{Limit: limit.Units}
	switch {
	case cost > limit.Units:
		v.TooCostly = true
		v.Remaining = max(0, limit.Units-l.sum)
		v.ResetAfter = l.resetAfter(now, limit.Window)
	case cost > limit.Units-l.sum:
		v.Remaining = max(0, limit.Units-l.sum)
		v.RetryAfter = l.retryAfter(now, limit, cost)
		v.ResetAfter = l.resetAfter(now, limit.Window)
	default:
		v.OK = true
		v.Remaining = limit.Units - l.sum - cost
		v.ResetAfter = limit.Window
	}
	return v
}

// Take spends cost units at now. Call it only after a Peek with the same now
// that admitted them. It returns the time under which they are logged: now, or
// the newest entry's time if that is later.
func (l *Log) Take(now int64, cost int64) int64 {
	now = l.clamp(now)
	switch {
	case l.n == 0:
		l.n, l.first = 1, now
	case l.n == 1 && l.last == now:
	default:
		if l.n == 1 {
			l.n, l.base = 0, l.first
			l.push(l.first, l.sum)
		}
		l.push(now, cost)
	}
	l.sum += cost
	l.last = now
	return now
}

// push enters units at the end of the ring.
func (l *Log) push(at, units int64) {
	if at-l.base >= maxAge {
		l.rebase()
	}
	since := entry(at-l.base) << unitBits // time does not go back behind the base
	if l.n > 0 {
		if newest := l.at(l.n - 1); *newest&^maxUnits == since {
			more := min(units, maxUnits-newest.units())
			*newest += entry(more) // not negative
			units -= more
		}
	}
	for ; units > 0; units -= maxUnits {
		if int(l.n) == len(l.ring) {
			l.resize(max(minRing, 2*len(l.ring)))
		}
		l.n++
		*l.at(l.n - 1) = since | entry(min(units, maxUnits)) // positive
	}
}

// rebase makes the entries count from the oldest one.
func (l *Log) rebase() {
	since := entry(l.first-l.base) << unitBits // the base is not after the oldest entry
	for i := range l.n {
		*l.at(i) -= since
	}
	l.base = l.first
}

// time tells when an entry was made.
func (l *Log) time(e entry) int64 { return l.base + int64(e>>unitBits) } // 44 bits

// Used gives the units in the window that ends now.
func (l *Log) Used(now int64, window int64) int64 {
	l.expire(l.clamp(now), window)
	return l.sum
}

// Reset gives how long until the window is empty, in nanoseconds.
func (l *Log) Reset(now int64, window int64) int64 {
	now = l.clamp(now)
	l.expire(now, window)
	return l.resetAfter(now, window)
}

// Entries gives how many entries the log holds.
func (l *Log) Entries() int { return int(l.n) }

// clamp keeps time from going back: a call that read its clock before another
// but comes after it counts as simultaneous.
func (l *Log) clamp(now int64) int64 {
	if l.n > 0 {
		return max(now, l.last)
	}
	return now
}

// expire drops the entries that left the window: an entry made at t is in the
// interval up to, and without, t+window.
func (l *Log) expire(now, window int64) {
	if l.n == 0 || now-l.first < window {
		return
	}
	if now-l.last >= window {
		l.sum, l.n, l.head = 0, 0, 0
		if len(l.ring) > keepRing {
			l.ring = nil
		}
		return
	}
	// The newest entry stays, so there are several and the ring has them.
	for now-l.first >= window {
		l.sum -= l.ring[l.head].units()
		l.head = (l.head + 1) & uint32(len(l.ring)-1)
		l.n--
		l.first = l.time(l.ring[l.head])
	}
	if size := len(l.ring); size > keepRing && int(l.n) <= size/8 {
		l.resize(size / 4)
	}
}

// retryAfter finds the entry whose expiry frees enough.
func (l *Log) retryAfter(now int64, limit Limit, cost int64) int64 {
	need := l.sum + cost - limit.Units
	if l.n == 1 {
		return l.first + limit.Window - now
	}
	for i := range l.n {
		e := *l.at(i)
		if need -= e.units(); need <= 0 {
			return l.time(e) + limit.Window - now
		}
	}
	return 0
}

func (l *Log) resetAfter(now, window int64) int64 {
	if l.n == 0 {
		return 0
	}
	return l.last + window - now
}

func (l *Log) at(i uint32) *entry {
	return &l.ring[(l.head+i)&uint32(len(l.ring)-1)]
}

// resize moves the entries to a ring of another size.
func (l *Log) resize(size int) {
	ring := make([]entry, size)
	for i := range l.n {
		ring[i] = *l.at(i)
	}
	l.ring, l.head = ring, 0
}

// Tighter reports whether verdict a binds more than b: a refusal before an
// admission, never before later, longer before shorter, little left before
// much.
func Tighter(a, b Verdict) bool {
	switch {
	case a.OK != b.OK:
		return !a.OK
	case a.TooCostly != b.TooCostly:
		return a.TooCostly
	case !a.OK && a.RetryAfter != b.RetryAfter:
		return a.RetryAfter > b.RetryAfter
	default:
		return a.Remaining < b.Remaining
	}
}

// CeilMillis turns nanoseconds into milliseconds, rounded up, so that who
// waits that long has waited long enough.
func CeilMillis(ns int64) int64 {
	if ns <= 0 {
		return 0
	}
	if ns > math.MaxInt64-999_999 {
		return math.MaxInt64 / 1_000_000
	}
	return (ns + 999_999) / 1_000_000
}

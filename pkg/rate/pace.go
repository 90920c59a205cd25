package rate

import "math"

const second = int64(1e9)

// maxPaceUnits keeps units times a second within an int64.
const maxPaceUnits = math.MaxInt64 / second / 4

// Budget is a paced allowance: PerSecond units a second, of which up to Burst
// may be spent at once after a rest. In any interval of t seconds at most
// Burst + t*PerSecond units fall due.
type Budget struct {
	PerSecond int64
	Burst     int64
}

// Pacer hands out a Budget by the generic cell rate algorithm, also ahead of
// time: a reservation that is not due yet gets the delay after which it is.
// Reservations fall due in the order in which they were made.
//
// The zero value is a rested pacer. A Pacer is not safe for concurrent use.
type Pacer struct {
	// due is when everything reserved so far is paid off, in nanoseconds and
	// fractions of one counted in 1/rate, so that no rate drifts.
	due  int64
	frac int64
	rate int64
}

// Reserve takes cost units, but never more than the burst, and tells how many
// it took and after how many nanoseconds they may be used. If that would be
// more than maxDelay it takes none and gives the time after which asking again
// makes sense. A budget without rate or burst grants nothing.
func (p *Pacer) Reserve(now int64, b Budget, cost, maxDelay int64) (granted, delay int64) {
	rate, burst := min(b.PerSecond, maxPaceUnits), min(b.Burst, maxPaceUnits)
	if rate <= 0 || burst <= 0 || cost <= 0 {
		return 0, second
	}
	p.adapt(rate)
	cost = min(cost, burst)
	base, frac := p.due, p.frac
	if base < now {
		base, frac = now, 0
	}
	due, rest, start := settle(base, frac, cost, burst, rate)
	if start > base && frac > 0 {
		// A whole burst that falls due within a nanosecond is put off to its
		// end, and what comes after it too, or the two would be closer
		// together than the rate allows.
		due, rest, start = settle(start, 0, cost, burst, rate)
	}
	delay = max(0, start-now)
	if delay > maxDelay {
		return 0, delay - maxDelay
	}
	p.due, p.frac = due, rest
	return cost, delay
}

// settle adds cost to what is reserved up to base and frac, and tells when it
// falls due: when all but one burst is paid off, rounded up, because earlier
// would be over the budget.
func settle(base, frac, cost, burst, rate int64) (due, rest, start int64) {
	parts := cost*second + frac
	due, rest = base+parts/rate, parts%rate
	start = due - burst*second/rate
	if rest > burst*second%rate {
		start++
	}
	return due, rest, start
}

// Behind gives for how many nanoseconds the budget is spent ahead: 0 for a
// rested pacer.
func (p *Pacer) Behind(now int64) int64 { return max(0, p.due-now) }

// adapt carries the fraction over to another rate.
func (p *Pacer) adapt(rate int64) {
	if p.rate != rate {
		if p.frac > 0 {
			p.due, p.frac = p.due+1, 0
		}
		p.rate = rate
	}
}

package partition

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/services/messaging/history"
)

// gates say for each partition whether its log is known to agree with the
// archive. Nothing is acknowledged in a partition whose gate is shut: what is
// committed to a log that was put back to an older state could be given an offset
// that the archive believes to have taken already.
type gates struct {
	// times is how often the connection to NATS was made anew.
	times      func() uint64
	partitions []gate
	// refused is why nothing is taken though log and archive agree; nil if it is.
	refused atomic.Pointer[string]
	// shut wakes whoever compares.
	shut chan struct{}
}

// gate is what this process knows of one partition's log.
type gate struct {
	mu   sync.Mutex
	open bool
	// turn counts how often the gate was opened or shut.
	turn uint64
	// times of the connection at which log and archive were compared.
	times uint64
	epoch int64
	// began is the offset before the epoch's first record that had not been
	// archived when it began.
	began uint64
	// lost counts the records known to be lost, in all epochs.
	lost int64
	// acked is the last offset of this epoch that this process has seen
	// acknowledged or archived. What is published afterwards gets one behind.
	acked uint64
	// rolledBack is the offset up to which the log was still what it had been,
	// once it gave out an offset a second time; suspected since then.
	rolledBack uint64
	suspected  time.Time
	// why the gate is shut, for operators.
	why string
	// changed is closed when the gate is opened or shut.
	changed chan struct{}
}

// pass is what a publish takes along to have its acknowledgement judged.
type pass struct {
	times uint64
	epoch int64
	acked uint64
	// changed is closed when the gate is shut.
	changed <-chan struct{}
}

// notCompared is why a gate is shut at first and after a reconnect.
const notCompared = "the log has not been compared with the archive yet"

func newGates(partitions int, times func() uint64) *gates {
	g := &gates{times: times, partitions: make([]gate, partitions), shut: make(chan struct{}, 1)}
	for p := range g.partitions {
		g.partitions[p].why, g.partitions[p].changed = notCompared, make(chan struct{})
	}
	return g
}

// enter lets a publish into a partition's log.
func (g *gates) enter(p int) (pass, error) {
	if why := g.refused.Load(); why != nil {
		return pass{}, errs.Unavailable("message log", errors.New(*why))
	}
	times := g.times()
	x := &g.partitions[p]
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.open && x.times != times {
		g.close(x, notCompared)
	}
	if !x.open {
		return pass{}, errs.Unavailable("message log", errors.New(x.why))
	}
	return pass{times: times, epoch: x.epoch, acked: x.acked, changed: x.changed}, nil
}

// acknowledge judges the acknowledgement of a publish: one that the log gave
// after it changed, or with an offset that was given out before, is none.
func (g *gates) acknowledge(p int, with pass, offset uint64, duplicate bool) error {
	x := &g.partitions[p]
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.epoch != with.epoch || !x.open || with.times != g.times():
		return errs.Unavailable("message log", errors.New("it changed while the message was committed"))
	case duplicate:
		return nil
	case offset <= with.acked:
		if x.suspected.IsZero() {
			x.rolledBack, x.suspected = offset-1, time.Now()
		}
		x.rolledBack = min(x.rolledBack, offset-1)
		g.close(x, "the log gave out an offset a second time: "+strconv.FormatUint(offset, 10))
		return errs.Unavailable("message log", errors.New(x.why))
	}
	x.acked = max(x.acked, offset)
	return nil
}

// archived notes that an offset of an epoch was archived.
func (g *gates) archived(p int, epoch int64, offset uint64) {
	x := &g.partitions[p]
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.epoch == epoch && x.open {
		x.acked = max(x.acked, offset)
	}
}

// openFor opens a gate after log and archive were found to agree: the archive
// is at an offset, and the log ends at last. It does nothing and returns false if the gate was opened
// or shut or the connection made anew since what the comparison began with.
func (g *gates) openFor(p int, began sight, at history.Position, last uint64) bool {
	epoch := at.Epoch
	times := g.times()
	x := &g.partitions[p]
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.turn != began.turn || times != began.times {
		return false
	}
	if x.epoch != epoch || x.acked > last || !x.suspected.IsZero() {
		x.acked = last
	}
	x.epoch, x.times, x.rolledBack, x.suspected, x.began, x.lost = epoch, times, 0, time.Time{}, at.Began, at.Lost
	x.why = ""
	if !x.open {
		x.turnTo(true)
	}
	return true
}

// turnTo opens or shuts a gate and tells those who wait for it.
func (x *gate) turnTo(open bool) {
	x.open = open
	x.turn++
	close(x.changed)
	x.changed = make(chan struct{})
}

// closeFor shuts a gate.
func (g *gates) closeFor(p int, why string) {
	x := &g.partitions[p]
	x.mu.Lock()
	defer x.mu.Unlock()
	g.close(x, why)
}

// closeAll shuts all gates: the connection was made anew.
func (g *gates) closeAll() {
	for p := range g.partitions {
		g.closeFor(p, notCompared)
	}
}

// close shuts a gate whose lock the caller holds.
func (g *gates) close(x *gate, why string) {
	x.why = why
	if x.open {
		x.turnTo(false)
	}
	select {
	case g.shut <- struct{}{}:
	default:
	}
}

// state tells whether a gate is open and how to hear of its next change.
func (g *gates) state(p int) (open bool, changed <-chan struct{}) {
	x := &g.partitions[p]
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.open && x.times != g.times() {
		g.close(x, notCompared)
	}
	return x.open, x.changed
}

// sight is what a process has seen of a partition's log at a moment.
type sight struct {
	turn, times uint64
	epoch       int64
	// acked is the last offset that was acknowledged or archived in the epoch.
	acked uint64
	// rolledBack is how far the log was still what it had been when it was
	// suspected to have gone back.
	rolledBack uint64
	suspected  time.Time
}

func (g *gates) seen(p int) sight {
	times := g.times()
	x := &g.partitions[p]
	x.mu.Lock()
	defer x.mu.Unlock()
	return sight{turn: x.turn, times: times, epoch: x.epoch, acked: x.acked, rolledBack: x.rolledBack, suspected: x.suspected}
}

// addLost counts records that are lost.
func (g *gates) addLost(p int, n uint64) {
	x := &g.partitions[p]
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lost += int64(n)
}

// Health says how the message log is, for operators.
type Health struct {
	// Epochs of the partitions: how often the log of each began anew.
	Epochs []int64 `json:"epochs"`
	// Lost counts records that were acknowledged and are known to be lost.
	Lost int64 `json:"lost"`
	// Refusing says why sends are refused; empty while they are not.
	Refusing []string `json:"refusing,omitempty"`
}

func (g *gates) health() Health {
	h := Health{Epochs: make([]int64, len(g.partitions))}
	times := g.times()
	for p := range g.partitions {
		x := &g.partitions[p]
		x.mu.Lock()
		open, why := x.open && x.times == times, x.why
		h.Epochs[p] = x.epoch
		h.Lost += x.lost
		x.mu.Unlock()
		if why == "" {
			why = notCompared
		}
		if !open && !slices.Contains(h.Refusing, why) {
			h.Refusing = append(h.Refusing, why)
		}
	}
	return h
}

// epochOf returns the epoch of a partition's log and the offset it began at;
// an error while it is not known.
func (g *gates) epochOf(p int) (epoch int64, began uint64, err error) {
	x := &g.partitions[p]
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.open {
		return 0, 0, errs.Unavailable("message log", errors.New(x.why))
	}
	return x.epoch, x.began, nil
}

// awaitOpen waits until all gates are open, or for so long.
func (g *gates) awaitOpen(ctx context.Context, longest time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	for p := range g.partitions {
		for {
			open, changed := g.state(p)
			if open {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return false
			}
		}
	}
	return true
}

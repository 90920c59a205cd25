package messaging

import (
	"context"
	"sync"
	"time"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/store"
)

const (
	// settleLook is how soon a reader looks into the database whether the worker
	// of a partition, which may be in another process, has got there; each
	// further look waits twice as long, up to settleLookMax.
	settleLook    = 10 * time.Millisecond
	settleLookMax = 200 * time.Millisecond
	// questionTimeout bounds one question to the log or the database.
	questionTimeout = 2 * time.Second
)

// settling lets readers of the archive find everything that was acknowledged
// before they came, by whatever instance: senders are answered when the log has
// their message, and the archive comes later. A reader asks the log how far it
// is and waits until the archive is there.
type settling struct {
	partitions []settled
	// hurry asks the archive not to wait for further entries.
	hurry chan struct{}
}

// settled is how far one partition of the log is archived.
type settled struct {
	// end asks the log for its last place, look the database for the archive's.
	end, look question

	mu sync.Mutex
	// archived is a place as bus.LogPlace makes it.
	archived uint64
	// moved is closed when archived moves; nil while nobody waits.
	moved chan struct{}
}

func newSettling(db *store.DB, log *natsx.Conn, partitions int) *settling {
	s := &settling{partitions: make([]settled, partitions), hurry: make(chan struct{}, 1)}
	for i := range s.partitions {
		s.partitions[i].end.ask = func(ctx context.Context) (uint64, error) {
			state, err := log.StreamState(ctx, bus.LogStream(i))
			if err != nil {
				return 0, err
			}
			epoch, err := epochOf(i, state)
			return bus.LogPlace(epoch, state.Last), err
		}
		s.partitions[i].look.ask = func(ctx context.Context) (uint64, error) {
			var offset, epoch int64
			err := db.Read().QueryRowContext(ctx, `SELECT stream_seq, epoch FROM log_position WHERE partition_no = $1`, i).Scan(&offset, &epoch)
			if err != nil {
				return 0, store.Translate(err)
			}
			at := bus.LogPlace(epoch, uint64(offset)) //nolint:gosec // never negative
			s.archived(i, at)
			return at, nil
		}
	}
	return s
}

// stop ends the questions under way; later ones fail.
func (s *settling) stop() {
	for i := range s.partitions {
		s.partitions[i].end.stop()
		s.partitions[i].look.stop()
	}
}

// archived notes that the archive has reached a place of a partition.
func (s *settling) archived(partition int, place uint64) {
	p := &s.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	if place <= p.archived {
		return
	}
	p.archived = place
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// ends returns the last place of each partition's log, asked after the call.
func (s *settling) ends(ctx context.Context) ([]uint64, error) {
	places, fails := make([]uint64, len(s.partitions)), make([]error, len(s.partitions))
	var asked sync.WaitGroup
	for i := range s.partitions {
		if i == len(s.partitions)-1 {
			places[i], fails[i] = s.partitions[i].end.get(ctx)
			break
		}
		asked.Go(func() { places[i], fails[i] = s.partitions[i].end.get(ctx) })
	}
	asked.Wait()
	for _, err := range fails {
		if err != nil {
			return nil, err
		}
	}
	return places, nil
}

// reach waits until the archive is at the places of all partitions, and returns
// where it is then. reached is false when ctx ended first.
func (s *settling) reach(ctx context.Context, places []uint64) (at []uint64, reached bool) {
	at = make([]uint64, len(s.partitions))
	for i := range s.partitions {
		if at[i], reached = s.reachOne(ctx, i, places[i]); !reached {
			return nil, false
		}
	}
	return at, true
}

func (s *settling) reachOne(ctx context.Context, partition int, place uint64) (at uint64, reached bool) {
	p := &s.partitions[partition]
	at, moved, there := p.reached(place)
	if there {
		return at, true
	}
	pause := settleLook
	look := time.NewTimer(pause)
	defer look.Stop()
	for {
		select {
		case s.hurry <- struct{}{}:
		default: // somebody has asked already
		}
		select {
		case <-moved:
		case <-look.C:
			// What this cannot tell, the reader hears when it reads.
			_, _ = p.look.get(ctx)
			pause = min(2*pause, settleLookMax)
			look.Reset(pause)
		case <-ctx.Done():
			return 0, false
		}
		if at, moved, there = p.reached(place); there {
			return at, true
		}
	}
}

// reached reports whether the archive is at a place; if not, moved is closed
// when it moves.
func (p *settled) reached(place uint64) (at uint64, moved <-chan struct{}, there bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.archived >= place {
		return p.archived, nil, true
	}
	if p.moved == nil {
		p.moved = make(chan struct{})
	}
	return p.archived, p.moved, false
}

// settle waits until all that was acknowledged before the call is archived. It
// fails when that is not so in time, for then what would be read is not right.
func (s *settling) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	places, err := s.ends(ctx)
	if err != nil {
		return err
	}
	if _, ok := s.reach(ctx, places); !ok {
		return errs.Unavailable("message archive", context.DeadlineExceeded)
	}
	return nil
}

// settleTimeout bounds how long a single reader waits for the archive.
const settleTimeout = 5 * time.Second

// question is something that many ask at once and one answer serves: whoever
// comes is answered by a question that was put after that.
type question struct {
	ask func(context.Context) (uint64, error)

	mu            sync.Mutex
	running, next *answer
	stopped       bool
	cancel        context.CancelFunc
	asking        sync.WaitGroup
}

type answer struct {
	done  chan struct{}
	value uint64
	err   error
}

// get asks, or waits for an answer that somebody else asks for.
func (q *question) get(ctx context.Context) (uint64, error) {
	q.mu.Lock()
	if q.stopped {
		q.mu.Unlock()
		return 0, errs.Unavailable("messaging", context.Canceled)
	}
	a := q.next
	if a == nil {
		a = &answer{done: make(chan struct{})}
		if q.running != nil {
			q.next = a
		} else {
			q.running = a
			var run context.Context
			run, q.cancel = context.WithCancel(context.WithoutCancel(ctx))
			q.asking.Go(func() { q.run(run) })
		}
	}
	q.mu.Unlock()
	select {
	case <-a.done:
		return a.value, a.err
	case <-ctx.Done():
		return 0, errs.From(ctx.Err())
	}
}

// run asks until nobody waits any more.
func (q *question) run(ctx context.Context) {
	q.mu.Lock()
	a := q.running
	defer q.cancel()
	q.mu.Unlock()
	for a != nil {
		once, cancel := context.WithTimeout(ctx, questionTimeout)
		a.value, a.err = q.ask(once)
		cancel()
		close(a.done)
		q.mu.Lock()
		q.running, q.next = q.next, nil
		a = q.running
		q.mu.Unlock()
	}
}

func (q *question) stop() {
	q.mu.Lock()
	q.stopped = true
	if q.running != nil {
		q.cancel()
	}
	q.mu.Unlock()
	q.asking.Wait()
}

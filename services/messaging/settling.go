package messaging

import (
	"context"
	"sync"
	"time"

	"github.com/chappe-im/chappe/pkg/store"
)

const (
	// settleFor bounds how long a reader waits for the archive; after that it
	// reads what is there.
	settleFor = 100 * time.Millisecond
	// settleLook is how often a reader looks into the database whether the
	// worker of a partition, which may be in another process, has got there.
	settleLook = 10 * time.Millisecond
)

// settling lets who reads the archive find what was acknowledged before,
// although senders are answered when the log has their message and the archive
// comes later. It knows what this instance acknowledged.
type settling struct {
	db         *store.DB
	partitions []settled
	// hurry asks the archive not to wait for further entries.
	hurry chan struct{}
}

// settled is how far one partition of the log was acknowledged and archived.
type settled struct {
	mu           sync.Mutex
	acknowledged uint64
	archived     uint64
	// moved is closed when archived moves; nil while nobody waits.
	moved chan struct{}
}

func newSettling(db *store.DB, partitions int) *settling {
	return &settling{db: db, partitions: make([]settled, partitions), hurry: make(chan struct{}, 1)}
}

func (s *settling) acknowledged(partition int, place uint64) {
	p := &s.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acknowledged = max(p.acknowledged, place)
}

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

// restart forgets the places of an epoch of the log that has ended: those of
// the new one are archived up to place.
func (s *settling) restart(partition int, place uint64) {
	p := &s.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acknowledged, p.archived = place, place
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// wait returns once all that this instance acknowledged before the call is in
// the archive, after a while in any case.
func (s *settling) wait(ctx context.Context) {
	var timeout, look <-chan time.Time
	for i := range s.partitions {
		p := &s.partitions[i]
		p.mu.Lock()
		until := p.acknowledged
		p.mu.Unlock()
		for {
			moved, there := p.reached(until)
			if there {
				break
			}
			if timeout == nil {
				t, l := time.NewTimer(settleFor), time.NewTicker(settleLook)
				defer t.Stop()
				defer l.Stop()
				timeout, look = t.C, l.C
			}
			select {
			case s.hurry <- struct{}{}:
			default: // somebody has asked already
			}
			select {
			case <-moved:
			case <-look:
				s.look(ctx, i)
			case <-timeout:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

// reached tells whether the archive is at a place; if not, moved is closed when
// it moves.
func (p *settled) reached(place uint64) (moved <-chan struct{}, there bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.archived >= place {
		return nil, true
	}
	if p.moved == nil {
		p.moved = make(chan struct{})
	}
	return p.moved, false
}

// look asks the database. What it cannot tell the reader will hear when it
// reads.
func (s *settling) look(ctx context.Context, partition int) {
	var at int64
	err := s.db.Read().QueryRowContext(ctx, `SELECT stream_seq FROM log_position WHERE partition_no = $1`, partition).Scan(&at)
	if err == nil {
		s.archived(partition, uint64(at)) //nolint:gosec // never negative
	}
}

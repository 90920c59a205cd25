package history

import (
	"context"
	"sync"
	"time"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/store"
)

const (
	// lookPause is how soon a reader looks into the database whether the worker
	// of a partition, which may be in another process, has got there; each
	// further look waits twice as long, up to lookPauseMax.
	lookPause    = 10 * time.Millisecond
	lookPauseMax = 200 * time.Millisecond
)

// ReadBarrier lets readers of the archive find everything that was acknowledged
// before they came, by whatever instance: senders are answered when the log has
// their message, and the archive comes later. A reader asks the log how far it
// is and waits until the archive is there.
type ReadBarrier struct {
	partitions []progress
	// hurry asks the archive not to wait for further entries.
	hurry chan struct{}
}

// progress is how far one partition of the log is archived.
type progress struct {
	// end asks the log for its last place, look the database for the archive'b.
	end, look question

	mu sync.Mutex
	// archived is a place as bus.LogPlace makes it.
	archived uint64
	// moved is closed when archived moves; nil while nobody waits.
	moved chan struct{}
}

// NewReadBarrier makes a barrier for a log of some partitions; end asks one for
// its last place, as bus.LogPlace makes it.
func NewReadBarrier(db *store.DB, partitions int, end func(ctx context.Context, partition int) (uint64, error)) *ReadBarrier {
	b := &ReadBarrier{partitions: make([]progress, partitions), hurry: make(chan struct{}, 1)}
	for i := range b.partitions {
		b.partitions[i].end.ask = func(ctx context.Context) (uint64, error) { return end(ctx, i) }
		b.partitions[i].look.ask = func(ctx context.Context) (uint64, error) {
			var offset, epoch int64
			if _, err := store.Row(ctx, db.Read(), `SELECT stream_seq, epoch FROM log_positions WHERE partition_no = $1`, []any{i}, &offset, &epoch); err != nil {
				return 0, err
			}
			at := bus.LogPlace(epoch, uint64(offset))
			b.Archived(i, at)
			return at, nil
		}
	}
	return b
}

// Stop ends the questions under way; later ones fail.
func (b *ReadBarrier) Stop() {
	for i := range b.partitions {
		b.partitions[i].end.stop()
		b.partitions[i].look.stop()
	}
}

// Archived notes that the archive has reached a place of a partition.
func (b *ReadBarrier) Archived(partition int, place uint64) {
	p := &b.partitions[partition]
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

// Ends returns the last place of each partition's log, asked after the call.
func (b *ReadBarrier) Ends(ctx context.Context) ([]uint64, error) {
	places, fails := make([]uint64, len(b.partitions)), make([]error, len(b.partitions))
	var asked sync.WaitGroup
	for i := range b.partitions {
		if i == len(b.partitions)-1 {
			places[i], fails[i] = b.partitions[i].end.get(ctx)
			break
		}
		asked.Go(func() { places[i], fails[i] = b.partitions[i].end.get(ctx) })
	}
	asked.Wait()
	for _, err := range fails {
		if err != nil {
			return nil, err
		}
	}
	return places, nil
}

// Reach waits until the archive is at the places of all partitions, and returns
// where it is then. reached is false when ctx ended first.
func (b *ReadBarrier) Reach(ctx context.Context, places []uint64) (at []uint64, reached bool) {
	at = make([]uint64, len(b.partitions))
	for i := range b.partitions {
		if at[i], reached = b.reachOne(ctx, i, places[i]); !reached {
			return nil, false
		}
	}
	return at, true
}

func (b *ReadBarrier) reachOne(ctx context.Context, partition int, place uint64) (at uint64, reached bool) {
	p := &b.partitions[partition]
	at, moved, there := p.reached(place)
	if there {
		return at, true
	}
	pause := lookPause
	look := time.NewTimer(pause)
	defer look.Stop()
	for {
		select {
		case b.hurry <- struct{}{}:
		default: // somebody has asked already
		}
		select {
		case <-moved:
		case <-look.C:
			// What this cannot tell, the reader hears when it reads.
			_, _ = p.look.get(ctx)
			pause = min(2*pause, lookPauseMax)
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
func (p *progress) reached(place uint64) (at uint64, moved <-chan struct{}, there bool) {
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

// Wait waits until all that was acknowledged before the call is archived. It
// fails when that is not so in time, for then what would be read is not right.
func (b *ReadBarrier) Wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	places, err := b.Ends(ctx)
	if err != nil {
		return err
	}
	if _, ok := b.Reach(ctx, places); !ok {
		return errs.Unavailable("message archive", context.DeadlineExceeded)
	}
	return nil
}

// waitTimeout bounds how long a single reader waits for the archive.
const waitTimeout = 5 * time.Second

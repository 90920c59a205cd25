package history

import (
	"context"
	"sync"
	"time"

	"github.com/chappe-im/chappe/pkg/errs"
)

// questionTimeout bounds one question to the log or the database.
const questionTimeout = 2 * time.Second

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

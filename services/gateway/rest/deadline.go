package rest

import (
	"context"
	"sync"
	"time"
)

// withDeadline is context.WithTimeout for calls of which most end at once and
// never ask: the timer starts when somebody begins to wait.
func withDeadline(parent context.Context, timeout time.Duration) (ctx context.Context, cancel context.CancelFunc) {
	deadline := time.Now().Add(timeout)
	if sooner, ok := parent.Deadline(); ok && sooner.Before(deadline) {
		deadline = sooner
	}
	d := &deadlineContext{parent: parent, deadline: deadline}
	return d, d.end
}

// deadlineContext becomes a context of the library's when somebody waits for
// it, or when it is over.
type deadlineContext struct {
	parent   context.Context
	deadline time.Time

	mu     sync.Mutex
	begun  context.Context
	cancel context.CancelFunc
}

func (d *deadlineContext) waited() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.begun == nil {
		d.begun, d.cancel = context.WithDeadline(d.parent, d.deadline) //nolint:gosec // end cancels it
	}
	return d.begun
}

// over is the context of calls that are over.
var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// end releases what the context holds.
func (d *deadlineContext) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.begun == nil {
		d.begun, d.cancel = over, func() {}
	}
	d.cancel()
}

// Deadline is when the time is up.
func (d *deadlineContext) Deadline() (time.Time, bool) { return d.deadline, true }

// Done is closed when the time is up or the call is over.
func (d *deadlineContext) Done() <-chan struct{} { return d.waited().Done() }

// Err tells why the context is over.
func (d *deadlineContext) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.begun != nil:
		return d.begun.Err()
	case d.parent.Err() != nil:
		return d.parent.Err()
	case !time.Now().Before(d.deadline):
		return context.DeadlineExceeded
	}
	return nil
}

// Value gives what the parent holds. The library asks a context that is waited
// for about itself; contexts made from this one need the true answer, or each
// of them takes a goroutine.
func (d *deadlineContext) Value(key any) any {
	d.mu.Lock()
	begun := d.begun
	d.mu.Unlock()
	if begun == nil || begun == over {
		return d.parent.Value(key)
	}
	return begun.Value(key)
}

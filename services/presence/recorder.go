package presence

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/lifecycle"
	"github.com/chappe-im/chappe/pkg/obs"
)

const (
	// maxWaiting bounds devices whose login or logout waits for the database.
	maxWaiting = 65536
	// recordBatch is how many go into one transaction.
	recordBatch = 512
	// recordTimeout bounds one transaction, recordRetry is the pause after one
	// that failed.
	recordTimeout = 10 * time.Second
	recordRetry   = time.Second
	// flushTimeout bounds how long a stop waits for the database.
	flushTimeout = 3 * time.Second
)

// recorder writes logins and logouts to the database, many at a time, after
// they have been answered. Of several of one device only the last counts.
// Readers look into it first, so that they see what is not stored yet.
type recorder struct {
	service *Service
	wake    chan struct{}

	mu      sync.Mutex
	waiting map[ident.Device]deviceChange
	// byUser counts devices waiting, or being written, for a user.
	byUser map[ident.User]int
	// writing is the batch under way.
	writing []deviceChange
	idle    []chan struct{}
}

func newRecorder(s *Service) *recorder {
	return &recorder{
		service: s, wake: make(chan struct{}, 1),
		waiting: make(map[ident.Device]deviceChange), byUser: make(map[ident.User]int),
	}
}

func (r *recorder) login(c *conn, at int64)  { r.add(c.device, true, at) }
func (r *recorder) logout(c *conn, at int64) { r.add(c.device, false, at) }

func (r *recorder) add(device ident.Device, online bool, at int64) {
	app, known := r.service.appByKey(device.App)
	r.mu.Lock()
	before, there := r.waiting[device]
	if !known || !there && len(r.waiting) >= maxWaiting {
		r.mu.Unlock()
		r.service.metrics.dropped.Inc()
		return
	}
	r.waiting[device] = deviceChange{
		app: app.Number, device: device, online: online, at: at, enter: online || before.enter,
	}
	if !there {
		r.byUser[device.User]++
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// pending returns what is recorded of a user and perhaps not stored yet.
func (r *recorder) pending(user ident.User) []deviceChange {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byUser[user] == 0 {
		return nil
	}
	var out []deviceChange
	for _, c := range r.writing {
		if c.device.User == user {
			out = append(out, c)
		}
	}
	// Of a device that is in both, the later one comes last.
	for _, c := range r.waiting {
		if c.device.User == user {
			out = append(out, c)
		}
	}
	return out
}

// flush waits until all that was recorded is written, or ctx ends.
func (r *recorder) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	r.mu.Lock()
	if len(r.waiting) == 0 && len(r.writing) == 0 {
		r.mu.Unlock()
		return
	}
	ch := make(chan struct{})
	r.idle = append(r.idle, ch)
	r.mu.Unlock()
	select {
	case <-ch:
	case <-ctx.Done():
	}
}

func (r *recorder) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		for ctx.Err() == nil && r.writeBatch(ctx) {
		}
	}
}

// writeBatch writes what waits and reports whether there was anything.
func (r *recorder) writeBatch(ctx context.Context) bool {
	batch := r.next()
	if len(batch) == 0 {
		return false
	}
	for {
		wctx, cancel := context.WithTimeout(ctx, recordTimeout)
		err := r.service.store.record(wctx, batch)
		cancel()
		if err == nil || ctx.Err() != nil {
			break
		}
		r.service.deps.Logger.Warn("logins and logouts cannot be recorded yet", "count", len(batch), obs.KeyError, err)
		_ = lifecycle.Sleep(ctx, recordRetry)
	}
	r.written()
	for i, c := range batch {
		if i == 0 || batch[i-1].device.User != c.device.User {
			r.service.notices.changed(c.device.User)
		}
	}
	return true
}

func (r *recorder) next() []deviceChange {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, c := range r.waiting {
		if len(r.writing) == recordBatch {
			break
		}
		r.writing = append(r.writing, c)
		delete(r.waiting, id)
	}
	slices.SortFunc(r.writing, func(a, b deviceChange) int { return a.device.Compare(b.device) })
	return r.writing
}

func (r *recorder) written() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.writing {
		user := c.device.User
		if r.byUser[user]--; r.byUser[user] == 0 {
			delete(r.byUser, user)
		}
	}
	r.writing = nil
	if len(r.waiting) == 0 {
		for _, ch := range r.idle {
			close(ch)
		}
		r.idle = nil
	}
}

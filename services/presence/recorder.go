package presence

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

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

// deviceID names a device across apps.
type deviceID struct{ app, user, resource string }

// recorder writes logins and logouts to the database, many at a time, behind
// the back of those who log in. Of several of one device only the last counts.
// Readers look into it first, so nobody sees that it is behind.
type recorder struct {
	service *Service
	bell    chan struct{}

	mu      sync.Mutex
	waiting map[deviceID]deviceChange
	// byUser counts devices waiting, or being written, for a user.
	byUser map[string]int
	// writing is the batch under way.
	writing []deviceChange
	idle    []chan struct{}
}

func newRecorder(s *Service) *recorder {
	return &recorder{
		service: s, bell: make(chan struct{}, 1),
		waiting: make(map[deviceID]deviceChange), byUser: make(map[string]int),
	}
}

func (r *recorder) login(app string, c *conn, at int64)  { r.add(app, c, true, at) }
func (r *recorder) logout(app string, c *conn, at int64) { r.add(app, c, false, at) }

func (r *recorder) add(app string, c *conn, online bool, at int64) {
	id := deviceID{app, c.user, c.resource}
	r.mu.Lock()
	before, there := r.waiting[id]
	if !there && len(r.waiting) >= maxWaiting {
		r.mu.Unlock()
		r.service.metrics.dropped.Inc()
		return
	}
	r.waiting[id] = deviceChange{
		app: app, user: c.user, resource: c.resource, online: online, at: at, enter: online || before.enter,
	}
	if !there {
		r.byUser[userKey(app, c.user)]++
	}
	r.mu.Unlock()
	select {
	case r.bell <- struct{}{}:
	default:
	}
}

// pending gives what is recorded of a user and perhaps not stored yet.
func (r *recorder) pending(app, user string) []deviceChange {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byUser[userKey(app, user)] == 0 {
		return nil
	}
	var out []deviceChange
	for _, c := range r.writing {
		if c.app == app && c.user == user {
			out = append(out, c)
		}
	}
	// Of a device that is in both, the later one comes last.
	for _, c := range r.waiting {
		if c.app == app && c.user == user {
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
		case <-r.bell:
		}
		for ctx.Err() == nil && r.writeBatch(ctx) {
		}
	}
}

// writeBatch writes what waits and says whether there was anything.
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
		select {
		case <-ctx.Done():
		case <-time.After(recordRetry):
		}
	}
	r.written()
	for i, c := range batch {
		if i == 0 || batch[i-1].app != c.app || batch[i-1].user != c.user {
			r.service.notices.changed(c.app, c.user)
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
	slices.SortFunc(r.writing, func(a, b deviceChange) int {
		if c := strings.Compare(a.app, b.app); c != 0 {
			return c
		}
		if c := strings.Compare(a.user, b.user); c != 0 {
			return c
		}
		return strings.Compare(a.resource, b.resource)
	})
	return r.writing
}

func (r *recorder) written() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.writing {
		key := userKey(c.app, c.user)
		if r.byUser[key]--; r.byUser[key] == 0 {
			delete(r.byUser, key)
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

// userKey joins what names a user.
func userKey(app, user string) string { return app + "/" + user }

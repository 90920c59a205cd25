package presence

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

const (
	// reapRetry is the time between attempts to remove entries from a bucket
	// that does not answer.
	reapRetry = time.Second
	// reapWorkers remove a dead gateway's entries side by side.
	reapWorkers = 8
)

// reaper drops the connections of gateways that are gone.
type reaper struct {
	service *Service
	wakeup  chan struct{}

	mu sync.Mutex
	// missing holds when gateways were first found to be gone.
	missing map[string]time.Time

	// pendingDeletes are connections out of the index and not yet out of the
	// bucket. Only run uses it once it runs.
	pendingDeletes []*conn
}

func newReaper(s *Service) *reaper {
	return &reaper{service: s, wakeup: make(chan struct{}, 1), missing: make(map[string]time.Time)}
}

// wake makes the reaper look again: the list of gateways has changed, or a
// connection of an unknown one has appeared.
func (r *reaper) wake() {
	select {
	case r.wakeup <- struct{}{}:
	default:
	}
}

// inGrace reports whether a gateway lost its registration so recently that its
// connections still count.
func (r *reaper) inGrace(gateway string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.missing[gateway]
	return ok
}

func (r *reaper) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wakeup:
		case <-timer.C:
		}
		due, next := r.due()
		for _, gateway := range due {
			r.dropGateway(gateway)
		}
		if r.pendingDeletes = r.remove(ctx, r.pendingDeletes); len(r.pendingDeletes) > 0 {
			next = reapRetry
		}
		timer.Stop()
		if next > 0 {
			timer.Reset(next)
		}
	}
}

// dropGateway takes a gateway's connections out of the index.
func (r *reaper) dropGateway(gateway string) {
	lost := r.service.index.dropGateway(gateway)
	if len(lost) > 0 {
		r.service.deps.Logger.Info("a gateway is gone, its connections are dropped", "gateway", gateway, "connections", len(lost))
	}
	r.pendingDeletes = append(r.pendingDeletes, lost...)
}

// dropAllGateways does so for all gateways. It is called before run.
func (r *reaper) dropAllGateways() {
	for _, gateway := range r.service.index.knownGateways() {
		r.dropGateway(gateway)
	}
}

// due returns the gateways whose grace has run out and the time until the next
// one's does, 0 if there is none.
func (r *reaper) due() (due []string, next time.Duration) {
	s := r.service
	live, now := *s.live.Load(), time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	known := s.index.knownGateways()
	seen := make(map[string]bool, len(known))
	for _, g := range known {
		seen[g] = true
		if live.Has(g) {
			delete(r.missing, g)
			continue
		}
		since, ok := r.missing[g]
		if !ok {
			since = now
			r.missing[g] = now
		}
		left := s.cfg.GatewayGrace - now.Sub(since)
		if left <= 0 {
			due = append(due, g)
			delete(r.missing, g)
			continue
		}
		if next == 0 || left < next {
			next = left
		}
	}
	for g := range r.missing {
		if !seen[g] {
			delete(r.missing, g)
		}
	}
	return due, next
}

// remove deletes connections that are out of the index from the bucket too and
// returns those it could not. Several instances do this at the same time;
// the one whose deletion counts records it.
func (r *reaper) remove(ctx context.Context, lost []*conn) []*conn {
	if len(lost) == 0 {
		return nil
	}
	work := make(chan *conn)
	var mu sync.Mutex
	var failed []*conn
	var wg sync.WaitGroup
	for range min(reapWorkers, len(lost)) {
		wg.Go(func() {
			for c := range work {
				if err := r.removeOne(ctx, c); err != nil {
					mu.Lock()
					failed = append(failed, c)
					mu.Unlock()
				}
			}
		})
	}
	for _, c := range lost {
		work <- c
	}
	close(work)
	wg.Wait()
	if len(failed) > 0 && ctx.Err() == nil {
		r.service.deps.Logger.Warn("connections of a dead gateway cannot be removed yet", "connections", len(failed))
	}
	return failed
}

// removeOne deletes exactly the entry that was dropped: a gateway that has come
// back may have entered the connection again.
func (r *reaper) removeOne(ctx context.Context, c *conn) error {
	s := r.service
	removed, err := s.bucket.Delete(ctx, connectionKey(c.device), c.revision)
	if errors.Is(err, natsx.ErrConflict) {
		return nil
	}
	if err != nil {
		s.deps.Logger.Debug("connection not removed", obs.KeyApp, c.device.App, obs.KeyUser, c.device.ID, obs.KeyError, err)
		return err
	}
	eff := s.index.remove(c.device, removed)
	s.metrics.lost.Inc()
	at := s.deps.Now().UnixMilli()
	s.announce(c, busv1.PresenceEvent_STATUS_OFFLINE, busv1.PresenceEvent_REASON_LOST, eff, at)
	s.records.logout(c, at)
	return nil
}

package messaging

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"

	"github.com/chappe-im/chappe/pkg/etcdx"
)

// owner keeps this instance's share of the partitions at work. Instances are
// registered in etcd under leases; each partition falls to one of them by
// rendezvous hashing, and that one takes the partition's lock before it starts
// a worker. A lock outlives a crash by the lease; were two workers ever at one
// partition, the archive's position lets only one of them write.
type owner struct {
	svc     *Service
	id      string
	session *etcdx.Session
	logger  *slog.Logger
	workers map[int]*running
	// first says that partition 0 is worked on here.
	first atomic.Bool
}

type running struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

const (
	instancesPrefix = "/messaging/instances/"
	locksPrefix     = "/messaging/locks/"
	// rebalanceEvery is how often shares are looked at besides changes.
	rebalanceEvery = 500 * time.Millisecond
)

func newOwner(s *Service) *owner {
	return &owner{
		svc: s, id: uuid.NewString(), session: s.session, workers: map[int]*running{},
		logger: s.deps.Logger,
	}
}

func lockKey(partition int) string { return locksPrefix + strconv.Itoa(partition) }

// takeOver removes what a killed process left behind. Only where etcd is
// embedded can nobody else be alive.
func (o *owner) takeOver(ctx context.Context) error {
	for _, prefix := range []string{instancesPrefix, locksPrefix} {
		old, _, err := o.svc.deps.Etcd.List(ctx, prefix)
		if err != nil {
			return err
		}
		for _, kv := range old {
			if _, _, err := o.svc.deps.Etcd.Commit(ctx, nil, []etcdx.Write{{Key: kv.Key, Delete: true}}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *owner) register(ctx context.Context) error {
	return o.session.Put(ctx, instancesPrefix+o.id, nil)
}

// run keeps the share right until ctx ends, then ends all workers and the
// session.
func (o *owner) run(ctx context.Context) {
	defer func() {
		o.releaseAll(context.WithoutCancel(ctx))
		if err := o.session.Close(); err != nil {
			o.logger.Warn("session with etcd ends with its lease", "error", err)
		}
	}()
	t := time.NewTicker(rebalanceEvery)
	defer t.Stop()
	for {
		if err := o.rebalance(ctx); err != nil && ctx.Err() == nil {
			o.logger.Warn("partitions stay as they are", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-o.session.Done():
			o.logger.Error("session with etcd is lost, partition workers pause")
			o.releaseAll(ctx)
			if !o.renew(ctx) {
				return
			}
		case <-t.C:
		}
	}
}

// renew opens a session anew; false when ctx ended first.
func (o *owner) renew(ctx context.Context) bool {
	for {
		s, err := o.svc.deps.Etcd.NewSession(ctx, o.svc.cfg.SessionTTL)
		if err == nil {
			o.session = s
			if err = o.svc.keepNode(ctx, s); err == nil {
				err = o.register(ctx)
			}
			if err == nil {
				return true
			}
			_ = s.Close()
		}
		if ctx.Err() != nil {
			return false
		}
		o.logger.Warn("no session with etcd: partition workers wait", "error", err)
		if !sleep(ctx, 250*time.Millisecond) {
			return false
		}
	}
}

// owned reports whether etcd says now that a partition's lock is this
// instance's.
func (o *owner) owned(ctx context.Context, p int) (bool, error) {
	lock, err := o.svc.deps.Etcd.Get(ctx, lockKey(p))
	return err == nil && lock != nil && string(lock.Value) == o.id, err
}

// awaitOwned waits until etcd says that a partition's lock is this instance's. A
// worker that was fenced off goes on only then: the process may have stood still
// for longer than its lease, and not have noticed yet. It returns false when ctx
// ended first, which it does once the loss is noticed.
func (o *owner) awaitOwned(ctx context.Context, p int) bool {
	for {
		owned, err := o.owned(ctx, p)
		switch {
		case owned:
			return true
		case err != nil && ctx.Err() == nil:
			o.logger.Warn("a partition waits until etcd says whose it is", "partition", p, "error", err)
		}
		if !sleep(ctx, rebalanceEvery) {
			return false
		}
	}
}

// rebalance takes up partitions that fall to this instance and gives up those
// that do not any more.
func (o *owner) rebalance(ctx context.Context) error {
	live, _, err := o.svc.deps.Etcd.List(ctx, instancesPrefix)
	if err != nil {
		return err
	}
	ids := make([]string, len(live))
	for i, kv := range live {
		ids[i] = strings.TrimPrefix(kv.Key, instancesPrefix)
	}
	for p := range o.svc.cfg.Partitions {
		mine := pick(ids, p) == o.id
		w := o.workers[p]
		switch {
		case mine && w == nil:
			ok, err := o.session.Create(ctx, lockKey(p), []byte(o.id))
			if err != nil {
				return err
			}
			if ok {
				o.begin(ctx, p)
			}
		case !mine && w != nil:
			o.release(ctx, p)
		}
	}
	return nil
}

// worksFirst reports whether the worker of partition 0 runs here: what a
// cluster needs done once is done there.
func (o *owner) worksFirst() bool { return o.first.Load() }

func (o *owner) begin(ctx context.Context, p int) {
	if p == 0 {
		o.first.Store(true)
	}
	wctx, cancel := context.WithCancel(ctx)
	w := &running{cancel: cancel}
	o.workers[p] = w
	w.done.Go(func() { o.svc.runWorker(wctx, p) })
	if o.svc.cfg.PushEvents {
		w.done.Go(func() { o.svc.runPusher(wctx, p) })
	}
}

func (o *owner) release(ctx context.Context, p int) {
	if p == 0 {
		o.first.Store(false)
	}
	w := o.workers[p]
	w.cancel()
	w.done.Wait()
	delete(o.workers, p)
	if o.session.Lost() {
		return // and the lock with it
	}
	if err := o.session.Delete(ctx, lockKey(p)); err != nil {
		o.logger.Warn("lock of a partition goes with the lease", "partition", p, "error", err)
	}
}

func (o *owner) releaseAll(ctx context.Context) {
	for p := range o.workers {
		o.release(ctx, p)
	}
}

// pick chooses the instance for a partition: the one with the largest hash of
// both, so that a change of the set moves only what must move.
func pick(ids []string, partition int) string {
	best, bestHash := "", uint64(0)
	for _, id := range ids {
		h := xxhash.Sum64String(id + "/" + strconv.Itoa(partition))
		if best == "" || h > bestHash || (h == bestHash && id < best) {
			best, bestHash = id, h
		}
	}
	return best
}

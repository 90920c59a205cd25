package partition

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/lifecycle"
	"github.com/chappe-im/chappe/pkg/members"
	"github.com/chappe-im/chappe/pkg/obs"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	"github.com/chappe-im/chappe/services/messaging/history"
)

// Deps are what the partitions are worked on with.
type Deps struct {
	Log        *Log
	Archive    *history.Archive
	Barrier    *history.ReadBarrier
	Etcd       *etcdx.Client
	Apps       Apps
	Limiter    limiterv1.LimiterServiceClient
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Job is work that is done for each partition on the instance that owns it,
// until ctx ends.
type Job func(ctx context.Context, partition int)

// Owner keeps this instance's share of the partitions at work. Each partition
// falls to one of the live instances, and that one takes the partition's lock in
// etcd before it starts a worker. A lock outlives a crash by its lease; were two
// workers ever at one partition, the archive's position lets only one of them
// write.
type Owner struct {
	log        *Log
	archive    *history.Archive
	etcd       *etcdx.Client
	logger     *slog.Logger
	reconciler *reconciler
	backlogs   *backlogs
	jobs       []Job

	id   string
	node int // under which message IDs are made
	// session holds the locks and the node number. It belongs to Run once that
	// runs.
	session      *etcdx.Session
	registration *members.Registration
	watcher      *members.Watcher
	// live are the instances; changed is signalled when they change.
	live    atomic.Pointer[members.Members]
	changed chan struct{}
	workers map[int]*running
	// first says that partition 0 is worked on here.
	first atomic.Bool
}

type running struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

const (
	locksPrefix = "/messaging/locks/"
	// rebalanceEvery is how often shares are looked at besides changes: a lock
	// that another instance still holds is tried again.
	rebalanceEvery = 500 * time.Millisecond
	// renewPause is the time between two tries to open a session with etcd.
	renewPause = 250 * time.Millisecond
)

// NewOwner makes an owner that works on its partitions, and does further jobs
// for each of them.
func NewOwner(deps Deps, jobs ...Job) *Owner {
	m := newMetrics(deps.Registerer)
	id := uuid.NewString()
	r := &reconciler{log: deps.Log, archive: deps.Archive, barrier: deps.Barrier, apps: deps.Apps, metrics: m, now: deps.Now}
	b := &backlogs{limiter: deps.Limiter, reporter: id, total: m.backlog, all: map[*distributor]struct{}{}}
	w := &workers{
		log: deps.Log, archive: deps.Archive, reconciler: r, apps: deps.Apps, metrics: m, now: deps.Now, logger: deps.Logger,
		distribution: &distribution{nats: deps.Log.nats, limiter: deps.Limiter, backlogs: b, metrics: m, now: deps.Now},
	}
	o := &Owner{
		log: deps.Log, archive: deps.Archive, etcd: deps.Etcd, logger: deps.Logger, reconciler: r, backlogs: b,
		id: id, changed: make(chan struct{}, 1), workers: map[int]*running{},
	}
	o.jobs = append(o.jobs, func(ctx context.Context, p int) { w.run(ctx, p, o.awaitOwned) })
	o.jobs = append(o.jobs, jobs...)
	return o
}

// Start claims a node number for message IDs and enters the instance among the
// live ones. takeOver says that no other can be alive: what a killed process has
// claimed is free at once then.
func (o *Owner) Start(ctx context.Context, takeOver bool) (err error) {
	if takeOver {
		if err := o.takeOver(ctx); err != nil {
			return err
		}
	}
	if o.session, err = o.etcd.NewSession(ctx, members.Messaging.TTL()); err != nil {
		return err
	}
	if err = o.claimNode(ctx); err == nil {
		o.registration, err = members.Register(ctx, o.etcd, o.logger, members.Messaging, members.Member{ID: o.id})
	}
	if err == nil {
		o.watcher, err = members.Watch(ctx, o.etcd, o.logger, members.Messaging, o.setLive)
	}
	if err != nil {
		return errors.Join(err, o.leave())
	}
	return nil
}

func (o *Owner) setLive(live members.Members) {
	o.live.Store(&live)
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// takeOver removes what a killed process left behind.
func (o *Owner) takeOver(ctx context.Context) error {
	if err := members.RemoveAll(ctx, o.etcd, members.Messaging); err != nil {
		return err
	}
	old, _, err := o.etcd.List(ctx, locksPrefix)
	if err != nil {
		return err
	}
	for _, kv := range old {
		if _, _, err := o.etcd.Commit(ctx, nil, []etcdx.Write{{Key: kv.Key, Delete: true}}); err != nil {
			return err
		}
	}
	return nil
}

// leave gives up what the instance holds in etcd.
func (o *Owner) leave() (err error) {
	if o.registration != nil {
		err = o.registration.Stop()
	}
	if o.watcher != nil {
		o.watcher.Stop()
	}
	return errors.Join(err, o.session.Close())
}

// Run keeps the share right until ctx ends, then ends all workers and leaves.
func (o *Owner) Run(ctx context.Context) {
	var beside sync.WaitGroup
	beside.Go(func() { o.reconciler.run(ctx) })
	beside.Go(func() { o.backlogs.run(ctx) })
	defer beside.Wait()
	defer func() {
		o.releaseAll(context.WithoutCancel(ctx))
		if err := o.leave(); err != nil {
			o.logger.Warn("what messaging holds in etcd goes with its lease", obs.KeyError, err)
		}
	}()
	t := time.NewTicker(rebalanceEvery)
	defer t.Stop()
	for {
		if err := o.rebalance(ctx); err != nil && ctx.Err() == nil {
			o.logger.Warn("etcd cannot be asked for the locks of partitions: none is taken up until it can", obs.KeyError, err)
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
		case <-o.changed:
		case <-t.C:
		}
	}
}

// renew opens a session anew; false when ctx ended first.
func (o *Owner) renew(ctx context.Context) bool {
	for {
		s, err := o.etcd.NewSession(ctx, members.Messaging.TTL())
		if err == nil {
			if err = o.keepNode(ctx, s); err == nil {
				o.session = s
				return true
			}
			_ = s.Close()
		}
		if ctx.Err() != nil {
			return false
		}
		o.logger.Warn("no session with etcd: partition workers wait", obs.KeyError, err)
		if lifecycle.Sleep(ctx, renewPause) != nil {
			return false
		}
	}
}

func lockKey(partition int) string { return locksPrefix + strconv.Itoa(partition) }

// owned reports whether etcd says now that a partition's lock is this
// instance's.
func (o *Owner) owned(ctx context.Context, p int) (bool, error) {
	lock, err := o.etcd.Get(ctx, lockKey(p))
	return err == nil && lock != nil && string(lock.Value) == o.id, err
}

// awaitOwned waits until etcd says that a partition's lock is this instance's. A
// worker that was fenced off goes on only then: the process may have stood still
// for longer than its lease, and not have noticed yet. It returns false when ctx
// ended first, which it does once the loss is noticed.
func (o *Owner) awaitOwned(ctx context.Context, p int) bool {
	for {
		owned, err := o.owned(ctx, p)
		switch {
		case owned:
			return true
		case err != nil && ctx.Err() == nil:
			o.logger.Warn("a partition waits until etcd says whose it is", "partition", p, obs.KeyError, err)
		}
		if lifecycle.Sleep(ctx, rebalanceEvery) != nil {
			return false
		}
	}
}

// rebalance takes up partitions that fall to this instance and gives up those
// that do not any more.
func (o *Owner) rebalance(ctx context.Context) error {
	live := *o.live.Load()
	for p := range o.log.cfg.Partitions {
		i := live.Owner(fmt.Sprint("partition ", p))
		mine := i >= 0 && live[i].ID == o.id
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

// OwnsFirst reports whether the worker of partition 0 runs here: what a cluster
// needs done once is done there.
func (o *Owner) OwnsFirst() bool { return o.first.Load() }

func (o *Owner) begin(ctx context.Context, p int) {
	if p == 0 {
		o.first.Store(true)
	}
	wctx, cancel := context.WithCancel(ctx)
	w := &running{cancel: cancel}
	o.workers[p] = w
	for _, job := range o.jobs {
		w.done.Go(func() { job(wctx, p) })
	}
}

func (o *Owner) release(ctx context.Context, p int) {
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
		o.logger.Warn("lock of a partition goes with the lease", "partition", p, obs.KeyError, err)
	}
}

func (o *Owner) releaseAll(ctx context.Context) {
	for p := range o.workers {
		o.release(ctx, p)
	}
}

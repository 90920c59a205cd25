// Package gatewayreg keeps the list of living gateways in etcd. A gateway
// registers under a lease, so that its name vanishes some seconds after it
// dies; the presence service watches the names and drops the connections of
// those that are gone.
package gatewayreg

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/obs"
)

// TTL is how long a name outlives a gateway that dies.
const TTL = 10 * time.Second

// prefix of the keys; what follows is the gateway's ID.
const prefix = "/gateways/"

// retryPause is the time between attempts to register again.
const retryPause = 500 * time.Millisecond

// Registration keeps one gateway registered.
type Registration struct {
	etcd    *etcdx.Client
	id      string
	logger  *slog.Logger
	renewed chan struct{}
	cancel  context.CancelFunc
	done    chan struct{}
	once    sync.Once
	session *etcdx.Session
	stopErr error
}

// Register enters a gateway ID, which must be new at each start of a gateway
// and free of "/". It stays entered until Stop, under a new lease whenever the
// old one is lost.
func Register(ctx context.Context, etcd *etcdx.Client, logger *slog.Logger, id string) (*Registration, error) {
	if id == "" || strings.Contains(id, "/") {
		return nil, fmt.Errorf("gateway ID %q is empty or holds a slash", id)
	}
	r := &Registration{
		etcd: etcd, id: id, logger: logger,
		renewed: make(chan struct{}, 1), done: make(chan struct{}),
	}
	s, err := r.enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("register gateway %s: %w", id, err)
	}
	r.session = s
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	go r.keep(run)
	return r, nil
}

// Renewed is signalled when the gateway was registered again after its lease
// had been lost: its connections may have been taken for gone meanwhile, so it
// should announce all of them again.
func (r *Registration) Renewed() <-chan struct{} { return r.renewed }

// Stop takes the gateway off the list and waits. It may be called twice.
func (r *Registration) Stop() error {
	r.once.Do(func() {
		r.cancel()
		<-r.done
		if r.session != nil {
			r.stopErr = r.session.Close()
		}
	})
	return r.stopErr
}

func (r *Registration) enter(ctx context.Context) (*etcdx.Session, error) {
	s, err := r.etcd.NewSession(ctx, TTL)
	if err != nil {
		return nil, err
	}
	if err := s.Put(ctx, prefix+r.id, []byte(r.id)); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (r *Registration) keep(ctx context.Context) {
	defer close(r.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.session.Done():
		}
		r.logger.Warn("the gateway's lease is lost, registering again", "gateway", r.id)
		for {
			s, err := r.enter(ctx)
			if err == nil {
				r.session = s
				break
			}
			if ctx.Err() == nil {
				r.logger.Warn("cannot register the gateway", "gateway", r.id, obs.KeyError, err)
			}
			select {
			case <-ctx.Done():
				r.session = nil
				return
			case <-time.After(retryPause):
			}
		}
		select {
		case r.renewed <- struct{}{}:
		default:
		}
	}
}

// Live is a set of gateway IDs. It is never changed once given out.
type Live map[string]struct{}

// Has reports whether a gateway is registered.
func (l Live) Has(id string) bool {
	_, ok := l[id]
	return ok
}

// Registered asks etcd whether a gateway is registered right now.
func Registered(ctx context.Context, etcd *etcdx.Client, id string) (bool, error) {
	kv, err := etcd.Get(ctx, prefix+id)
	return kv != nil, err
}

// Watcher follows the list of living gateways.
type Watcher struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// Watch reads the list, calls changed with it, and goes on to call it, one
// call after the other, with every new list until Stop.
func Watch(ctx context.Context, etcd *etcdx.Client, logger *slog.Logger, changed func(Live)) (*Watcher, error) {
	live := Live{}
	load := func(ctx context.Context) (int64, error) {
		kvs, rev, err := etcd.List(ctx, prefix)
		if err != nil {
			return 0, err
		}
		next := make(Live, len(kvs))
		for _, kv := range kvs {
			next[strings.TrimPrefix(kv.Key, prefix)] = struct{}{}
		}
		live = next
		changed(live)
		return rev, nil
	}
	rev, err := load(ctx)
	if err != nil {
		return nil, fmt.Errorf("list gateways: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &Watcher{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		_ = etcd.Watch(run, logger, prefix, rev, func(events []etcdx.Event) {
			next := make(Live, len(live)+1)
			for id := range live {
				next[id] = struct{}{}
			}
			for _, e := range events {
				id := strings.TrimPrefix(e.Key, prefix)
				if e.Deleted {
					delete(next, id)
				} else {
					next[id] = struct{}{}
				}
			}
			live = next
			changed(live)
		}, load)
	}()
	return w, nil
}

// Stop ends the watch and waits for a call under way.
func (w *Watcher) Stop() {
	w.cancel()
	<-w.done
}

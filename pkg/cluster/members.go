// Package cluster makes one limiter of many. Limiters enter themselves in etcd
// under leases; every caller picks the owner of an app by rendezvous hashing
// over the living ones, sends it its checks in batches, and decides alone, on
// a share of the limits, while the owner cannot be reached.
package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/obs"
)

// TTL is how long a limiter that dies is still taken for living. Its apps are
// limited by their callers' shares meanwhile.
const TTL = 3 * time.Second

const (
	prefix     = "/limiters/"
	retryPause = 300 * time.Millisecond
)

// Member is a living limiter.
type Member struct {
	// ID is new at each start.
	ID string `json:"id"`
	// Addr is where it serves gRPC.
	Addr string `json:"addr"`

	hash uint64
}

// Members are the living limiters, in the order of their IDs. They are never
// changed once given out.
type Members []Member

// Owner gives the limiter that owns an app; false if none lives. When a member
// leaves only its own apps move, when one comes only those that it gets.
func (m Members) Owner(app string) (Member, bool) {
	if len(m) == 0 {
		return Member{}, false
	}
	return m[m.owner(app)], true
}

// owner gives the owner's place; m must not be empty.
func (m Members) owner(app string) int {
	best, most := 0, uint64(0)
	h := xxhash.Sum64String(app)
	for i := range m {
		if w := mix(h ^ m[i].hash); w > most {
			best, most = i, w
		}
	}
	return best
}

// mix spreads the bits of x, so that the two hashes in it weigh alike.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xBF58476D1CE4E5B9
	x ^= x >> 27
	x *= 0x94D049BB133111EB
	return x ^ x>>31
}

func sorted(byKey map[string]Member) Members {
	out := make(Members, 0, len(byKey))
	for _, m := range byKey {
		m.hash = xxhash.Sum64String(m.ID)
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Registration keeps a limiter entered.
type Registration struct {
	etcd   *etcdx.Client
	member Member
	value  []byte
	logger *slog.Logger
	cancel context.CancelFunc
	done   chan struct{}
	once   sync.Once
	// session belongs to keep once that runs.
	session *etcdx.Session
	stopErr error
}

// Register enters a limiter. It stays entered until Stop, under a new lease
// whenever the old one is lost.
func Register(ctx context.Context, etcd *etcdx.Client, logger *slog.Logger, id, addr string) (*Registration, error) {
	if id == "" || strings.Contains(id, "/") || addr == "" {
		return nil, fmt.Errorf("limiter ID %q or address %q does not fit", id, addr)
	}
	m := Member{ID: id, Addr: addr}
	value, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	r := &Registration{etcd: etcd, member: m, value: value, logger: logger, done: make(chan struct{})}
	if r.session, err = r.enter(ctx); err != nil {
		return nil, fmt.Errorf("register limiter %s: %w", id, err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	go r.keep(run)
	return r, nil
}

// Stop takes the limiter off the list, so that its apps move at once, and
// waits. It may be called twice.
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
	if err := s.Put(ctx, prefix+r.member.ID, r.value); err != nil {
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
		r.logger.Warn("the limiter's lease is lost, registering again", "limiter", r.member.ID)
		r.session = nil
		for r.session == nil {
			s, err := r.enter(ctx)
			if err == nil {
				r.session = s
				break
			}
			if ctx.Err() == nil {
				r.logger.Warn("cannot register the limiter", "limiter", r.member.ID, obs.KeyError, err)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(retryPause):
			}
		}
	}
}

// watcher follows the list of limiters.
type watcher struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// watch reads the list, calls changed with it, and goes on to call it, one
// call after the other, with every new list until stop.
func watch(ctx context.Context, etcd *etcdx.Client, logger *slog.Logger, changed func(Members)) (*watcher, error) {
	live := map[string]Member{}
	put := func(kv etcdx.KV) {
		var m Member
		if err := json.Unmarshal(kv.Value, &m); err != nil || m.ID == "" || m.Addr == "" {
			logger.Error("unreadable entry in the list of limiters", "key", kv.Key)
			return
		}
		live[kv.Key] = m
	}
	load := func(ctx context.Context) (int64, error) {
		kvs, rev, err := etcd.List(ctx, prefix)
		if err != nil {
			return 0, err
		}
		clear(live)
		for _, kv := range kvs {
			put(kv)
		}
		changed(sorted(live))
		return rev, nil
	}
	rev, err := load(ctx)
	if err != nil {
		return nil, fmt.Errorf("list limiters: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &watcher{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		_ = etcd.Watch(run, logger, prefix, rev, func(events []etcdx.Event) {
			for _, e := range events {
				if e.Deleted {
					delete(live, e.Key)
				} else {
					put(e.KV)
				}
			}
			changed(sorted(live))
		}, load)
	}()
	return w, nil
}

func (w *watcher) stop() {
	w.cancel()
	<-w.done
}

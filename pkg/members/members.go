// Package members keeps lists of live processes in etcd: gateways, limiters and so on. A
// process registers under a lease, so that its name vanishes some seconds after
// it dies; others watch the list, and work that is to be done by one of them is
// divided by rendezvous hashing.
package members

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/chappe-im/chappe/pkg/etcdx"
)

// Kind names a list.
type Kind string

// The lists there are.
const (
	Gateways Kind = "gateways"
	Limiters Kind = "limiters"
	// Messaging are the instances that share the partitions of the log.
	Messaging Kind = "messaging/instances"
)

// TTL returns how long a member that dies is still taken for living.
func (k Kind) TTL() time.Duration {
	switch k {
	case Limiters:
		// Until then its apps are limited by their callers' shares.
		return 3 * time.Second
	case Messaging:
		// Until then nobody works on its partitions.
		return 5 * time.Second
	}
	// Long enough for a pause of the machine: when a gateway's name vanishes,
	// its users are shown as offline.
	return 10 * time.Second
}

// prefix of the keys; what follows is the member's ID.
func (k Kind) prefix() string { return "/" + string(k) + "/" }

// Member is a live process.
type Member struct {
	// ID is new at each start of the process.
	ID string `json:"id"`
	// Addr is where it serves gRPC; empty if nobody is to call it.
	Addr string `json:"addr,omitempty"`

	hash uint64
}

// Members are the members of a list in the order of their IDs. They are never
// changed once given out.
type Members []Member

// New makes a list of members.
func New(list ...Member) Members {
	out := slices.Clone(list)
	for i := range out {
		out[i].hash = xxhash.Sum64String(out[i].ID)
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Has reports whether there is a member with an ID.
func (m Members) Has(id string) bool {
	_, ok := slices.BinarySearchFunc(m, id, func(x Member, id string) int { return strings.Compare(x.ID, id) })
	return ok
}

// Owner returns the index of the member that owns a thing, -1 if there are no
// members. When a member leaves only what it owned moves, when one comes only
// what that one gets.
func (m Members) Owner(thing string) int {
	best, most := -1, uint64(0)
	h := xxhash.Sum64String(thing)
	for i := range m {
		if w := mix(h ^ m[i].hash); best < 0 || w > most {
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

// Registered asks etcd whether a member is registered right now.
func Registered(ctx context.Context, etcd *etcdx.Client, kind Kind, id string) (bool, error) {
	kv, err := etcd.Get(ctx, kind.prefix()+id)
	return kv != nil, err
}

// RemoveAll takes all members off a list: what a killed process left behind,
// where no other process can be alive.
func RemoveAll(ctx context.Context, etcd *etcdx.Client, kind Kind) error {
	kvs, _, err := etcd.List(ctx, kind.prefix())
	if err != nil {
		return err
	}
	for _, kv := range kvs {
		if _, _, err := etcd.Commit(ctx, nil, []etcdx.Write{{Key: kv.Key, Delete: true}}); err != nil {
			return err
		}
	}
	return nil
}

// Watcher follows a list.
type Watcher struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// Watch reads a list, calls changed with it, and goes on to call it, one call
// after the other, with every new list until Stop. While etcd is away the last
// list stays in force.
func Watch(ctx context.Context, etcd *etcdx.Client, logger *slog.Logger, kind Kind, changed func(Members)) (*Watcher, error) {
	live := map[string]Member{}
	put := func(kv etcdx.KV) {
		m := Member{}
		// What is not JSON is the bare ID, which the key holds as well.
		_ = json.Unmarshal(kv.Value, &m)
		m.ID = strings.TrimPrefix(kv.Key, kind.prefix())
		live[kv.Key] = m
	}
	tell := func() {
		list := make([]Member, 0, len(live))
		for _, m := range live {
			list = append(list, m)
		}
		changed(New(list...))
	}
	load := func(ctx context.Context) (int64, error) {
		kvs, rev, err := etcd.List(ctx, kind.prefix())
		if err != nil {
			return 0, err
		}
		clear(live)
		for _, kv := range kvs {
			put(kv)
		}
		tell()
		return rev, nil
	}
	rev, err := load(ctx)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", kind, err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &Watcher{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		_ = etcd.Watch(run, logger, kind.prefix(), rev, func(events []etcdx.Event) {
			for _, e := range events {
				if e.Deleted {
					delete(live, e.Key)
				} else {
					put(e.KV)
				}
			}
			tell()
		}, load)
	}()
	return w, nil
}

// Stop ends the watch and waits for a call under way.
func (w *Watcher) Stop() {
	w.cancel()
	<-w.done
}

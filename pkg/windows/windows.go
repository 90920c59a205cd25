// Package windows holds the sliding windows of apps in memory: for each bucket
// of each app one window for each limit of its rule, and one for each user or
// client address where the rule says so. A call is checked against all of its
// windows under one lock and charged to all or none. What nobody uses is
// forgotten within two minutes.
package windows

import (
	"strings"
	"sync"

	"github.com/chappe-im/chappe/pkg/rate"
	"github.com/chappe-im/chappe/pkg/tier"
)

const (
	// shardCount is a power of two. All windows of a call are in one shard, so
	// that one lock makes their decision one.
	shardCount = 64
	// keepIdle is how long, in nanoseconds, nothing may be forgotten: the
	// longest window, after which an untouched log is empty.
	keepIdle = int64(tier.MaxWindow)
	// keepTotals bounds the admitted and throttled counts of forgotten
	// buckets.
	keepTotals = 1 << 16
)

// Buckets holds all windows.
type Buckets struct {
	clock  func() int64
	shards [shardCount]shard

	totalsMu sync.Mutex
	totals   map[totalKey]total
}

type shard struct {
	mu sync.Mutex
	table
	// swept is when idle groups were last dropped.
	swept int64
	_     [8]byte // keeps neighbours' locks off this one's cache line
}

// group is everything that is counted of one bucket of one app. What every
// check reads comes first.
type group struct {
	app     int64
	bucket  string
	touched int64
	// limits is the slice that windows was made for; another one means that
	// the tier changed.
	limits  []tier.Limit
	windows []window
	// The room of the first window and count, beside the group: most buckets
	// have one of each.
	firstWindow [1]window
	firstTotal  [1]ruleTotal
	totals      []ruleTotal
}

// window counts one limit: for the app, or for each user, and for each client
// address.
type window struct {
	app   rate.Log
	limit tier.Limit
	users *keyed
	ips   *keyed
}

type ruleTotal struct {
	rule string
	total
}

type total struct{ admitted, throttled int64 }

type totalKey struct {
	app  int64
	rule string
}

// keyed holds a window for each user or address that was admitted lately. What
// nobody touches is forgotten by generations: a map that has been the old one
// for a whole keepIdle is dropped without a look at what is in it, and every
// touch moves a key into the young one.
type keyed struct{ generations[string, *rate.Log] }

// generations is a map in two halves.
type generations[K comparable, V any] struct {
	young, old map[K]V
	turned     int64
}

// get finds a value and keeps it from being forgotten.
func (g *generations[K, V]) get(k K) (v V, ok bool) {
	if v, ok = g.young[k]; ok {
		return v, true
	}
	if v, ok = g.old[k]; ok {
		g.put(k, v)
	}
	return v, ok
}

func (g *generations[K, V]) put(k K, v V) {
	if g.young == nil {
		g.young = make(map[K]V)
	}
	g.young[k] = v
}

// turn drops the old map if it has been the old one for at least keepIdle.
func (g *generations[K, V]) turn(now int64) {
	if now-g.turned >= keepIdle && (g.young != nil || g.old != nil) {
		g.old, g.young, g.turned = g.young, nil, now
	}
}

// len counts the keys; those of both maps twice.
func (g *generations[K, V]) len() int { return len(g.young) + len(g.old) }

// New makes empty windows on a clock that gives nanoseconds and never goes
// back.
func New(clock func() int64) *Buckets {
	return &Buckets{clock: clock, totals: make(map[totalKey]total)}
}

// find gives the shard of a bucket of an app, and the hash under which the
// bucket stands in it. All windows of a bucket are in one shard.
func (b *Buckets) find(app int64, bucketHash uint64) (*shard, uint64) {
	// Odd constants spread consecutive app numbers; the high bits of a product
	// are the good ones, so they choose the shard and are folded down for the
	// place in its table.
	h := (bucketHash ^ uint64(app)*0xD6E8FEB86659FD93) * 0x9E3779B97F4A7C15 //nolint:gosec // any bits will do
	return &b.shards[h>>(64-6)], h ^ h>>32
}

// group finds or makes the group of a bucket and fits it to its limits. The
// bucket's name should be the tier's own string: comparing it is then a matter
// of one pointer.
func (s *shard) group(now int64, hash uint64, app int64, bucket string, limits []tier.Limit) *group {
	g := s.get(hash, app, bucket)
	if g == nil {
		g = &group{app: app, bucket: bucket}
		s.put(hash, g)
	}
	g.touched = now
	if len(g.limits) != len(limits) || (len(limits) > 0 && &g.limits[0] != &limits[0]) {
		g.fit(limits)
	}
	return g
}

// fit takes over the windows of limits that only changed their count: what
// was admitted before a change counts against the new limit.
func (g *group) fit(limits []tier.Limit) {
	windows := make([]window, len(limits))
	if g.windows == nil && len(limits) == 1 {
		windows = g.firstWindow[:]
	}
	for i, l := range limits {
		windows[i].limit = l
		for _, w := range g.windows {
			if w.limit.Window == l.Window && w.limit.Messages == l.Messages && w.limit.PerUser == l.PerUser {
				windows[i].app, windows[i].users, windows[i].ips = w.app, w.users, w.ips
				break
			}
		}
	}
	g.limits, g.windows = limits, windows
}

func (g *group) total(rule string) *total {
	for i := range g.totals {
		if g.totals[i].rule == rule {
			return &g.totals[i].total
		}
	}
	if g.totals == nil {
		g.totals = g.firstTotal[:0]
	}
	g.totals = append(g.totals, ruleTotal{rule: rule})
	return &g.totals[len(g.totals)-1].total
}

// peek asks the window of a key; one that was never charged is empty. A nil
// holder has none.
func (k *keyed) peek(now int64, id string, limit rate.Limit, cost int64) (*rate.Log, rate.Verdict) {
	if k != nil {
		k.turn(now)
		if l, ok := k.get(id); ok {
			return l, l.Peek(now, limit, cost)
		}
	}
	var empty rate.Log
	return nil, empty.Peek(now, limit, cost)
}

// add makes the window of a key, and the holder of windows if need be.
func add(holder **keyed, now int64, id string) *rate.Log {
	if *holder == nil {
		*holder = &keyed{}
	}
	k := *holder
	if k.young == nil && k.old == nil {
		k.turned = now
	}
	l := &rate.Log{}
	k.put(strings.Clone(id), l)
	return l
}

// Sweep forgets idle groups. It looks at a shard once in keepIdle; the counts
// of what it forgets are kept while their app exists.
func (b *Buckets) Sweep(now int64, exists func(app int64) bool) {
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		var dropped []*group
		if now-s.swept >= keepIdle {
			s.swept = now
			dropped = s.drop(now - keepIdle)
		}
		s.mu.Unlock()
		if len(dropped) > 0 {
			b.keep(dropped, exists)
		}
	}
}

// keep saves the counts of forgotten groups.
func (b *Buckets) keep(dropped []*group, exists func(app int64) bool) {
	b.totalsMu.Lock()
	defer b.totalsMu.Unlock()
	for _, g := range dropped {
		if !exists(g.app) {
			continue
		}
		for _, t := range g.totals {
			k := totalKey{g.app, t.rule}
			sum, ok := b.totals[k]
			if !ok && len(b.totals) >= keepTotals {
				b.makeRoom(exists)
			}
			b.totals[k] = total{sum.admitted + t.admitted, sum.throttled + t.throttled}
		}
	}
}

// makeRoom drops the counts of apps that are gone, or else any.
func (b *Buckets) makeRoom(exists func(app int64) bool) {
	for k := range b.totals {
		if !exists(k.app) {
			delete(b.totals, k)
		}
	}
	for k := range b.totals {
		if len(b.totals) < keepTotals {
			return
		}
		delete(b.totals, k)
	}
}

func (b *Buckets) kept(app int64, rule string) total {
	b.totalsMu.Lock()
	defer b.totalsMu.Unlock()
	return b.totals[totalKey{app, rule}]
}

// Size counts the groups in memory.
func (b *Buckets) Size() int {
	n := 0
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		n += s.n
		s.mu.Unlock()
	}
	return n
}

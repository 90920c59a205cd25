package limiter

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

// buckets holds all windows. What nobody touches is forgotten by generations:
// a map that has been the old one for a whole keepIdle is dropped without a
// look at what is in it, and every touch moves a key into the young one.
type buckets struct {
	clock  func() int64
	shards [shardCount]shard

	totalsMu sync.Mutex
	totals   map[totalKey]total
}

type shard struct {
	mu sync.Mutex
	generations[groupKey, *group]
	_ [24]byte // keeps neighbours' locks off this one's cache line
}

type groupKey struct {
	app    int64
	bucket string
}

// group is everything that is counted of one bucket of one app.
type group struct {
	// limits is the slice that windows was made for; another one means that
	// the tier changed.
	limits  []tier.Limit
	windows []window
	totals  []ruleTotal
	// The room of the first window and count, beside the group: most buckets
	// have one of each.
	firstWindow [1]window
	firstTotal  [1]ruleTotal
}

// window counts one limit: for the app, or for each user, and for each client
// address.
type window struct {
	limit tier.Limit
	app   rate.Log
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

// keyed holds a window for each user or address that was admitted lately.
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

// turn drops the old map if it has been the old one for at least keepIdle, and
// returns it with the map that takes its place: a key that is in both was
// moved and is not idle. Nobody writes to an old map.
func (g *generations[K, V]) turn(now int64) (dropped, old map[K]V) {
	if now-g.turned < keepIdle || (g.young == nil && g.old == nil) {
		return nil, nil
	}
	dropped = g.old
	g.old, g.young, g.turned = g.young, nil, now
	return dropped, g.old
}

// len counts the keys; those of both maps twice.
func (g *generations[K, V]) len() int { return len(g.young) + len(g.old) }

func newBuckets(clock func() int64) *buckets {
	return &buckets{clock: clock, totals: make(map[totalKey]total)}
}

func (b *buckets) shard(app int64, hash uint64) *shard {
	// A prime spreads consecutive app numbers; the high bits of the product
	// are the good ones.
	h := (hash ^ uint64(app)) * 0x9E3779B97F4A7C15 //nolint:gosec // any bits will do
	return &b.shards[h>>(64-6)]
}

// group finds or makes the group of a bucket and fits it to its limits. The
// bucket's name should be the tier's own string: comparing it is then a matter
// of one pointer.
func (s *shard) group(key groupKey, limits []tier.Limit) *group {
	g, ok := s.get(key)
	if !ok {
		g = &group{}
		s.put(key, g)
	}
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

// sweep forgets idle groups, and their counts when their app is gone.
func (b *buckets) sweep(now int64, exists func(app int64) bool) {
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		dropped, old := s.turn(now)
		s.mu.Unlock()
		if len(dropped) > 0 {
			b.keep(dropped, old, exists)
		}
	}
}

// keep saves the counts of forgotten groups.
func (b *buckets) keep(dropped, old map[groupKey]*group, exists func(app int64) bool) {
	b.totalsMu.Lock()
	defer b.totalsMu.Unlock()
	for key, g := range dropped {
		if _, moved := old[key]; moved || !exists(key.app) {
			continue
		}
		for _, t := range g.totals {
			k := totalKey{key.app, t.rule}
			sum, ok := b.totals[k]
			if !ok && len(b.totals) >= keepTotals {
				b.makeRoom(exists)
			}
			b.totals[k] = total{sum.admitted + t.admitted, sum.throttled + t.throttled}
		}
	}
}

// makeRoom drops the counts of apps that are gone, or else any.
func (b *buckets) makeRoom(exists func(app int64) bool) {
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

func (b *buckets) kept(app int64, rule string) total {
	b.totalsMu.Lock()
	defer b.totalsMu.Unlock()
	return b.totals[totalKey{app, rule}]
}

// size counts the groups in memory, roughly.
func (b *buckets) size() int {
	n := 0
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		n += s.len()
		s.mu.Unlock()
	}
	return n
}

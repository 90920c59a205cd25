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
	swept  int64
	counts Counts
	_      [24]byte // keeps neighbours' locks off this one's cache lines
}

// Counts are the decisions made so far.
type Counts struct{ Admitted, Throttled, TooCostly int64 }

func (c *Counts) add(v rate.Verdict) {
	switch {
	case v.OK:
		c.Admitted++
	case v.TooCostly:
		c.TooCostly++
	default:
		c.Throttled++
	}
}

// Counts sums up the decisions of all checks. They are counted by shard,
// because a counter that all processors write to costs each of them a trip to
// the others' caches.
func (b *Buckets) Counts() (sum Counts) {
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		sum.Admitted += s.counts.Admitted
		sum.Throttled += s.counts.Throttled
		sum.TooCostly += s.counts.TooCostly
		s.mu.Unlock()
	}
	return sum
}

// group is everything that is counted of one bucket of one app. It is 128
// bytes, two lines of memory, what is read first in the first; most checks need
// nothing else: what few buckets have is in more.
type group struct {
	app    int64
	bucket string
	// rule is the one that the windows were made for and that total counts;
	// another one means that the tier changed, or that rules share the bucket.
	rule *tier.Rule
	// log is the app's window of the first limit.
	log     rate.Log
	touched int64
	total
	more *more
}

// more is what a group has beyond one window: other limits, users and client
// addresses, other rules.
type more struct {
	// windows are as many as the rule's limits; the app's part of the first is
	// the group's own log.
	windows []window
	totals  []ruleTotal
}

// window counts one limit: for the app, or for each user, and for each client
// address.
type window struct {
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
	h := spread(app, bucketHash)
	return &b.shards[h>>(64-6)], h ^ h>>32
}

// spread mixes an app and a bucket. Odd constants spread consecutive app
// numbers; the high bits of a product are the good ones, so they choose the
// shard and are folded down for the place in its table.
func spread(app int64, bucketHash uint64) uint64 {
	return (bucketHash ^ uint64(app)*0xD6E8FEB86659FD93) * 0x9E3779B97F4A7C15 // any bits will do
}

// hash is that under which find looks for the group.
func (g *group) hash() uint64 {
	h := spread(g.app, tier.BucketHash(g.bucket))
	return h ^ h>>32
}

// group finds or makes the group of a bucket and fits it to its rule. The
// bucket's name should be the tier's own string: comparing it is then a matter
// of one pointer.
func (s *shard) group(now int64, hash uint64, app int64, bucket string, rule *tier.Rule) *group {
	g := s.get(hash, app, bucket)
	if g == nil {
		g = s.put(hash, group{app: app, bucket: bucket, rule: rule})
		if len(rule.Limits) > 1 {
			g.more = &more{windows: make([]window, len(rule.Limits))}
		}
	}
	g.touched = now
	if g.rule != rule && !sameLimits(g.rule, rule) {
		g.fit(rule)
	}
	return g
}

// sameLimits reports whether two rules of a tier draw on one bucket, or are
// one: they then share the slice.
func sameLimits(a, b *tier.Rule) bool {
	return len(a.Limits) == len(b.Limits) && (len(a.Limits) == 0 || &a.Limits[0] == &b.Limits[0])
}

// fit takes over the windows of limits that only changed their count: what
// was admitted before a change counts against the new limit.
func (g *group) fit(rule *tier.Rule) {
	old := g.rule
	oldLog := g.log
	var oldWindows []window
	if g.more != nil {
		oldWindows = g.more.windows
	}
	// The count goes on under the new rule.
	if was := ruleID(old, g.bucket); was != ruleID(rule, g.bucket) {
		t := g.total
		g.total = total{}
		*g.other(was) = t
		if g.more != nil {
			g.total = g.takeOther(ruleID(rule, g.bucket))
		}
	}
	g.rule, g.log = rule, rate.Log{}
	if len(rule.Limits) > 1 || oldWindows != nil {
		g.ensureMore().windows = make([]window, len(rule.Limits))
	}
	for i := range rule.Limits {
		l := &rule.Limits[i]
		for j := range old.Limits {
			if o := &old.Limits[j]; o.Window != l.Window || o.Messages != l.Messages || o.PerUser != l.PerUser {
				continue
			}
			if j == 0 {
				*g.appLog(i) = oldLog
			} else {
				*g.appLog(i) = oldWindows[j].app
			}
			if oldWindows != nil {
				g.more.windows[i].users, g.more.windows[i].ips = oldWindows[j].users, oldWindows[j].ips
			}
			break
		}
	}
}

func (g *group) ensureMore() *more {
	if g.more == nil {
		g.more = &more{}
	}
	return g.more
}

// appLog is the app's window of the i-th limit.
func (g *group) appLog(i int) *rate.Log {
	if i == 0 {
		return &g.log
	}
	return &g.more.windows[i].app
}

// keyed gives the windows by user and by address of the i-th limit; make says
// whether they are needed.
func (g *group) keyed(i int, need bool) *window {
	m := g.more
	if m == nil || len(m.windows) <= i {
		if !need {
			return nil
		}
		m = g.ensureMore()
		m.windows = append(m.windows, make([]window, len(g.rule.Limits)-len(m.windows))...)
	}
	return &m.windows[i]
}

// count gives the counts of one of the bucket's rules.
func (g *group) count(rule *tier.Rule, id string) *total {
	if g.rule == rule || ruleID(g.rule, g.bucket) == ruleID(rule, id) {
		return &g.total
	}
	return g.other(ruleID(rule, id))
}

// other gives the counts of a rule that is not the group's first.
func (g *group) other(rule string) *total {
	m := g.ensureMore()
	for i := range m.totals {
		if m.totals[i].rule == rule {
			return &m.totals[i].total
		}
	}
	m.totals = append(m.totals, ruleTotal{rule: rule})
	return &m.totals[len(m.totals)-1].total
}

// takeOther removes the counts of a rule from the others.
func (g *group) takeOther(rule string) (t total) {
	for i, x := range g.more.totals {
		if x.rule == rule {
			g.more.totals = append(g.more.totals[:i], g.more.totals[i+1:]...)
			return x.total
		}
	}
	return total{}
}

// counts gives the counts of all of the bucket's rules.
func (g *group) counts(each func(rule string, t total)) {
	each(ruleID(g.rule, g.bucket), g.total)
	if g.more != nil {
		for _, t := range g.more.totals {
			each(t.rule, t.total)
		}
	}
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
		var dropped []group
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
func (b *Buckets) keep(dropped []group, exists func(app int64) bool) {
	b.totalsMu.Lock()
	defer b.totalsMu.Unlock()
	for i := range dropped {
		g := &dropped[i]
		if !exists(g.app) {
			continue
		}
		g.counts(func(rule string, t total) {
			k := totalKey{g.app, rule}
			sum, ok := b.totals[k]
			if !ok && len(b.totals) >= keepTotals {
				b.makeRoom(exists)
			}
			b.totals[k] = total{sum.admitted + t.admitted, sum.throttled + t.throttled}
		})
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
		n += len(s.groups)
		s.mu.Unlock()
	}
	return n
}

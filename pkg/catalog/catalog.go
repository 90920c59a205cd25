package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/obs"
	"github.com/chappe-im/chappe/pkg/seal"
	"github.com/chappe-im/chappe/pkg/tier"
)

// Tier is a tier in force.
type Tier struct {
	*tier.Compiled
	// Revision is that of the document in etcd.
	Revision int64
}

type appName struct{ org, app string }

// snapshot is one view of everything. It never changes.
type snapshot struct {
	apps     map[appName]*App
	byKey    map[string]*App
	byNumber map[int64]*App
	tiers    map[string]Tier
}

// Catalog is the current view. All look-ups are safe for concurrent use and
// take no lock.
type Catalog struct {
	etcd    *etcdx.Client
	keys    *seal.Keys
	logger  *slog.Logger
	metrics *metrics
	current atomic.Pointer[snapshot]

	cancel context.CancelFunc
	done   sync.WaitGroup

	// mu orders changes of what follows; look-ups do not need it.
	mu    sync.Mutex
	state state
	subs  map[int]chan struct{}
	subID int
}

type metrics struct {
	invalid  *prometheus.CounterVec
	holding  *prometheus.GaugeVec
	tierless prometheus.Gauge
	apps     prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		invalid: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_catalog_invalid_documents_total",
			Help: "Invalid app and tier documents seen in etcd; the last good one stayed in force.",
		}, []string{"kind"}),
		holding: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "chappe_catalog_documents_held", Help: "Documents of which an older version is in force because the stored one is invalid.",
		}, []string{"kind"}),
		tierless: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "chappe_catalog_apps_without_tier", Help: "Apps set to a tier that does not exist.",
		}),
		apps: prometheus.NewGauge(prometheus.GaugeOpts{Name: "chappe_catalog_apps", Help: "Apps known."}),
	}
	return m, obs.Register(reg, "the catalog", m.invalid, m.holding, m.tierless, m.apps)
}

// Watch reads all apps and tiers and follows their changes until Stop. When
// etcd goes away the last view stays in force. keys open the apps' signing keys.
func Watch(ctx context.Context, etcd *etcdx.Client, keys *seal.Keys, logger *slog.Logger, reg prometheus.Registerer) (*Catalog, error) {
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	seeds, err := compiledSeeds()
	if err != nil {
		return nil, err
	}
	c := &Catalog{
		etcd: etcd, keys: keys, logger: logger, metrics: m,
		state: newState(seeds, keys, logger, m), subs: make(map[int]chan struct{}),
	}
	// Tiers first, so that the apps find theirs.
	tiersAt, err := c.loadTiers(ctx)
	if err != nil {
		return nil, fmt.Errorf("read tiers: %w", err)
	}
	appsAt, err := c.loadApps(ctx)
	if err != nil {
		return nil, fmt.Errorf("read apps: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.cancel = cancel
	c.done.Go(func() {
		_ = etcd.Watch(run, logger, TiersPrefix, tiersAt, c.applyTiers, c.loadTiers)
	})
	c.done.Go(func() {
		_ = etcd.Watch(run, logger, AppsPrefix, appsAt, func(ev []etcdx.Event) { c.applyApps(run, ev) }, c.loadApps)
	})
	return c, nil
}

// Stop ends the watch and waits for its goroutines. Look-ups go on to answer
// from the last view. It may be called twice.
func (c *Catalog) Stop() {
	c.cancel()
	c.done.Wait()
}

// Decode is DecodeRecord with the catalog's keys.
func (c *Catalog) Decode(data []byte) (*Record, error) { return DecodeRecord(data, c.keys) }

// Encode is Record.Encode with the catalog's keys.
func (c *Catalog) Encode(r *Record) ([]byte, error) { return r.Encode(c.keys) }

// App finds an app by its names.
func (c *Catalog) App(org, app string) (*App, bool) {
	a, ok := c.current.Load().apps[appName{org, app}]
	return a, ok
}

// AppByKey finds an app by "org#app".
func (c *Catalog) AppByKey(key string) (*App, bool) {
	a, ok := c.current.Load().byKey[key]
	return a, ok
}

// AppByNumber finds an app by its number.
func (c *Catalog) AppByNumber(number int64) (*App, bool) {
	a, ok := c.current.Load().byNumber[number]
	return a, ok
}

// Apps lists all apps by org and name.
func (c *Catalog) Apps() []*App {
	return slices.SortedFunc(maps.Values(c.current.Load().apps), func(a, b *App) int {
		return strings.Compare(a.Key, b.Key)
	})
}

// Tier finds a tier by its name.
func (c *Catalog) Tier(name string) (Tier, bool) {
	t, ok := c.current.Load().tiers[name]
	return t, ok
}

// Tiers lists all tiers by name.
func (c *Catalog) Tiers() []Tier {
	return slices.SortedFunc(maps.Values(c.current.Load().tiers), func(a, b Tier) int {
		return strings.Compare(a.Name, b.Name)
	})
}

// Subscribe gives a channel that is signalled after changes; several may share
// a signal. The function ends the subscription.
func (c *Catalog) Subscribe() (<-chan struct{}, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subID++
	id, ch := c.subID, make(chan struct{}, 1)
	c.subs[id] = ch
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.subs, id)
	}
}

// Wait returns nil once seen is true of the catalog, or ctx's error.
func (c *Catalog) Wait(ctx context.Context, seen func(*Catalog) bool) error {
	changed, cancel := c.Subscribe()
	defer cancel()
	for !seen(c) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
	return nil
}

func (c *Catalog) loadTiers(ctx context.Context) (int64, error) {
	kvs, rev, err := c.etcd.List(ctx, TiersPrefix)
	if err != nil {
		return 0, err
	}
	c.change(func(s *state) { s.replaceTiers(kvs) })
	return rev, nil
}

func (c *Catalog) loadApps(ctx context.Context) (int64, error) {
	kvs, rev, err := c.etcd.List(ctx, AppsPrefix)
	if err != nil {
		return 0, err
	}
	c.change(func(s *state) { s.replaceApps(kvs) })
	return rev, nil
}

func (c *Catalog) applyTiers(events []etcdx.Event) {
	c.change(func(s *state) {
		for _, e := range events {
			if e.Deleted {
				s.deleteTier(e.Key)
			} else {
				s.putTier(e.KV)
			}
		}
	})
}

// applyApps also reads the tiers that the apps name and that are not known
// yet: the watch of the tiers may lag behind that of the apps.
func (c *Catalog) applyApps(ctx context.Context, events []etcdx.Event) {
	var missing []etcdx.KV
	for _, e := range events {
		if e.Deleted {
			continue
		}
		r, err := c.Decode(e.Value)
		if err != nil {
			continue
		}
		if _, ok := c.Tier(r.Tier); ok {
			continue
		}
		if kv, err := c.etcd.Get(ctx, TierKey(r.Tier)); err != nil {
			c.logger.Warn("cannot read the tier of a changed app", "tier", r.Tier, obs.KeyError, err)
		} else if kv != nil {
			missing = append(missing, *kv)
		}
	}
	c.change(func(s *state) {
		for _, kv := range missing {
			s.putTier(kv)
		}
		for _, e := range events {
			if e.Deleted {
				s.deleteApp(e.Key)
			} else {
				s.putApp(e.KV)
			}
		}
	})
}

// change edits the state and makes a new view of it.
func (c *Catalog) change(edit func(*state)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	edit(&c.state)
	c.current.Store(c.state.snapshot())
	for _, ch := range c.subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

package catalog

import (
	"log/slog"
	"strings"

	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/obs"
	"github.com/chappe-im/chappe/pkg/seal"
	"github.com/chappe-im/chappe/pkg/tier"
)

// state is what a Catalog builds its views from: the last good version of
// every document.
type state struct {
	logger  *slog.Logger
	metrics *metrics
	keys    *seal.Keys
	seeds   []*tier.Compiled

	// tiers also keeps deleted tiers, for the apps that still name them.
	tiers map[string]*tierState
	apps  map[string]*appState
}

type tierState struct {
	compiled *tier.Compiled
	revision int64
	deleted  bool
	invalid  bool
}

type appState struct {
	record   *Record
	revision int64
	// app is the last view; it stays as long as nothing it is made of changes.
	app *App
	// plain is the tier that app was made of.
	plain *tier.Compiled
	// invalid says that the stored record does not hold, unfit that its
	// overrides do not fit the tier, tierless that the tier does not exist.
	invalid  bool
	unfit    bool
	tierless bool
}

func newState(seeds []*tier.Compiled, keys *seal.Keys, logger *slog.Logger, m *metrics) state {
	return state{
		logger: logger, metrics: m, keys: keys, seeds: seeds,
		tiers: make(map[string]*tierState), apps: make(map[string]*appState),
	}
}

func (s *state) replaceTiers(kvs []etcdx.KV) {
	present := make(map[string]bool, len(kvs))
	for _, kv := range kvs {
		present[kv.Key] = true
		s.putTier(kv)
	}
	for name, t := range s.tiers {
		if !present[TierKey(name)] && !t.deleted {
			s.deleteTier(TierKey(name))
		}
	}
}

func (s *state) replaceApps(kvs []etcdx.KV) {
	present := make(map[string]bool, len(kvs))
	for _, kv := range kvs {
		present[kv.Key] = true
		s.putApp(kv)
	}
	for key := range s.apps {
		if !present[key] {
			s.deleteApp(key)
		}
	}
}

func (s *state) putTier(kv etcdx.KV) {
	name := strings.TrimPrefix(kv.Key, TiersPrefix)
	t := s.tiers[name]
	if t != nil && kv.Revision <= t.revision && !t.deleted {
		return
	}
	if t == nil {
		t = &tierState{}
	}
	compiled, err := compileTier(name, kv.Value)
	t.revision, t.invalid = kv.Revision, err != nil
	if err != nil {
		s.metrics.invalid.WithLabelValues("tier").Inc()
		s.logger.Error("a tier document in etcd is invalid, the last good one stays in force",
			"tier", name, "revision", kv.Revision, obs.KeyError, err)
		if t.compiled == nil {
			// There never was a good one: to its apps the tier does not exist.
			return
		}
	} else {
		t.compiled = compiled
	}
	t.deleted = false
	s.tiers[name] = t
}

func compileTier(name string, document []byte) (*tier.Compiled, error) {
	d, err := tier.Parse(document)
	if err != nil {
		return nil, err
	}
	if d.Name != name {
		return nil, tier.Faults{{Path: "name", Message: "is " + d.Name + " in the document of " + name}}
	}
	return tier.Compile(d)
}

func (s *state) deleteTier(key string) {
	if t, ok := s.tiers[strings.TrimPrefix(key, TiersPrefix)]; ok {
		t.deleted, t.invalid = true, false
	}
}

func (s *state) putApp(kv etcdx.KV) {
	a := s.apps[kv.Key]
	if a != nil && kv.Revision <= a.revision {
		return
	}
	record, err := DecodeRecord(kv.Value, s.keys)
	if err == nil && AppKey(record.Org, record.App) != kv.Key {
		err = errMisplaced
	}
	if a == nil {
		a = &appState{}
	}
	a.revision, a.invalid = kv.Revision, err != nil
	if err != nil {
		s.metrics.invalid.WithLabelValues("app").Inc()
		s.logger.Error("an app's record in etcd is invalid, the last good one stays in force",
			obs.KeyApp, strings.TrimPrefix(kv.Key, AppsPrefix), "revision", kv.Revision, obs.KeyError, err)
		if a.record == nil {
			return
		}
	} else {
		a.record, a.plain = record, nil
	}
	s.apps[kv.Key] = a
}

func (s *state) deleteApp(key string) { delete(s.apps, key) }

// snapshot makes a view. Apps of which nothing changed are taken over.
func (s *state) snapshot() *snapshot {
	n := len(s.apps)
	out := &snapshot{
		apps: make(map[appName]*App, n), byKey: make(map[string]*App, n), byNumber: make(map[int64]*App, n),
		tiers: make(map[string]Tier, len(s.tiers)),
	}
	heldTiers, heldApps, tierless := 0, 0, 0
	for name, t := range s.tiers {
		if !t.deleted {
			out.tiers[name] = Tier{Compiled: t.compiled, Revision: t.revision}
		}
		if t.invalid {
			heldTiers++
		}
	}
	for _, a := range s.apps {
		s.refresh(a)
		if a.invalid || a.unfit {
			heldApps++
		}
		if a.tierless {
			tierless++
		}
		out.apps[appName{a.app.Org, a.app.Name}] = a.app
		out.byKey[a.app.Key] = a.app
		out.byNumber[a.app.Number] = a.app
	}
	s.metrics.apps.Set(float64(n))
	s.metrics.tierless.Set(float64(tierless))
	s.metrics.holding.WithLabelValues("tier").Set(float64(heldTiers))
	s.metrics.holding.WithLabelValues("app").Set(float64(heldApps))
	return out
}

// refresh makes the view of an app anew if its record or its tier changed.
func (s *state) refresh(a *appState) {
	plain, exists := s.tierOf(a)
	if a.tierless == exists {
		a.tierless = !exists
		if !exists {
			s.logger.Error("an app is set to a tier that does not exist", obs.KeyApp, ident.NewAppKey(a.record.Org, a.record.App),
				"tier", a.record.Tier, "in_force", plain.Name)
		}
	}
	if a.plain == plain {
		return
	}
	effective := plain
	a.unfit = false
	if len(a.record.Overrides) > 0 {
		merged, err := merge(plain, a.record.Overrides)
		if err != nil {
			s.metrics.invalid.WithLabelValues("app").Inc()
			s.logger.Error("an app's overrides do not fit its tier, its limits stay as they are",
				obs.KeyApp, ident.NewAppKey(a.record.Org, a.record.App), "tier", plain.Name, obs.KeyError, err)
			a.unfit = true
			if a.app != nil {
				merged = a.app.Tier
			} else {
				merged = plain
			}
		}
		effective = merged
	}
	a.plain = plain
	a.app = NewApp(a.record, a.revision, effective)
}

// tierOf gives the tier that an app has to go by: its own, else the last known
// version of that, else the compiled-in one of the name, else the smallest.
func (s *state) tierOf(a *appState) (t *tier.Compiled, exists bool) {
	if t, ok := s.tiers[a.record.Tier]; ok {
		return t.compiled, !t.deleted
	}
	for _, seed := range s.seeds {
		if seed.Name == a.record.Tier {
			return seed, false
		}
	}
	return s.seeds[0], false
}

func merge(plain *tier.Compiled, overrides []byte) (*tier.Compiled, error) {
	d, err := tier.Merge(plain.Document(), overrides)
	if err != nil {
		return nil, err
	}
	return tier.Compile(d)
}

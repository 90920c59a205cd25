package catalog_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/pkg/tier"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type rig struct {
	*catalog.Catalog
	t    *testing.T
	etcd *etcdx.Client
	reg  *prometheus.Registry
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, etcd: testkit.Etcd(t), reg: prometheus.NewRegistry()}
	require.NoError(t, catalog.Seed(t.Context(), r.etcd))
	r.watch()
	return r
}

func (r *rig) watch() {
	r.t.Helper()
	r.reg = prometheus.NewRegistry()
	c, err := catalog.Watch(r.t.Context(), r.etcd, testkit.SealKeys(r.t), testkit.Logger(r.t), r.reg)
	require.NoError(r.t, err)
	r.t.Cleanup(c.Stop)
	r.Catalog = c
}

func (r *rig) put(key string, value []byte) {
	r.t.Helper()
	ok, _, err := r.etcd.Commit(r.t.Context(), nil, []etcdx.Write{{Key: key, Value: value, Delete: value == nil}})
	require.NoError(r.t, err)
	require.True(r.t, ok)
}

func (r *rig) await(what string, seen func(*catalog.Catalog) bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(r.t, r.Wait(ctx, seen), what)
}

func (r *rig) metric(name string) string {
	r.t.Helper()
	families, err := r.reg.Gather()
	require.NoError(r.t, err)
	for _, f := range families {
		if f.GetName() == name {
			var b strings.Builder
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					b.WriteString(l.GetValue() + "=")
				}
				fmt.Fprint(&b, m.GetGauge().GetValue()+m.GetCounter().GetValue(), " ")
			}
			return strings.TrimSpace(b.String())
		}
	}
	return ""
}

func record(app, tierName string, number int64) *catalog.Record {
	return &catalog.Record{
		Org: "acme", App: app, Number: number, UUID: "6c1f2e40-7a55-11ee-9c3b-0b6d2f1a9e77", Tier: tierName,
		ClientID: "YXA6id", SecretHash: catalog.HashSecret("YXA6secret"),
		Keys:         []catalog.RecordKey{{ID: 1, Secret: make([]byte, 32)}},
		Registration: catalog.RegistrationOpen, TokenTTLSeconds: 60, Created: 1000,
	}
}

func (r *rig) app(rec *catalog.Record) {
	r.t.Helper()
	value, err := rec.Encode(testkit.SealKeys(r.t))
	require.NoError(r.t, err)
	r.put(catalog.AppKey(rec.Org, rec.App), value)
}

func (r *rig) tier(name, overrides string) *tier.Document {
	r.t.Helper()
	t, ok := r.Tier(name)
	require.True(r.t, ok)
	d, err := tier.Merge(t.Document(), []byte(overrides))
	require.NoError(r.t, err)
	return d
}

func TestLookups(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	require.Len(t, r.Tiers(), 4)
	r.app(record("shop", "basic", 7))
	r.await("the app", func(c *catalog.Catalog) bool { _, ok := c.App("acme", "shop"); return ok })
	a, _ := r.App("acme", "shop")
	require.Equal(t, "acme#shop", a.Key)
	require.Equal(t, int64(7), a.Number)
	require.Equal(t, time.Minute, a.TokenTTL)
	require.Equal(t, int64(300), a.Tier.Quota(tier.QuotaMembersPerGroup))
	require.True(t, a.CheckSecret("YXA6secret"))
	require.Equal(t, uint32(1), a.SigningKey().ID)
	byKey, ok := r.AppByKey("acme#shop")
	require.True(t, ok)
	require.Same(t, a, byKey)
	byNumber, ok := r.AppByNumber(7)
	require.True(t, ok)
	require.Same(t, a, byNumber)
	require.Len(t, r.Apps(), 1)
	for _, miss := range [][2]string{{"acme", "nope"}, {"nope", "shop"}, {"", ""}} {
		_, ok := r.App(miss[0], miss[1])
		require.False(t, ok)
	}

	r.put(catalog.AppKey("acme", "shop"), nil)
	r.await("the deletion", func(c *catalog.Catalog) bool { _, ok := c.App("acme", "shop"); return !ok })
}

func TestTierChangesReachTheApps(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	plain, special := record("plain", "basic", 1), record("special", "basic", 2)
	special.Overrides = []byte(`{"quotas":{"groups":5}}`)
	r.app(plain)
	r.app(special)
	r.app(record("elsewhere", "free", 3))
	r.await("three apps", func(c *catalog.Catalog) bool { return len(c.Apps()) == 3 })
	other, _ := r.App("acme", "elsewhere")

	r.put(catalog.TierKey("basic"), r.tier("basic", `{"quotas":{"groups":50,"chatrooms":60}}`).JSON())
	quotas := func(app string) [2]int64 {
		a, _ := r.App("acme", app)
		return [2]int64{a.Tier.Quota(tier.QuotaGroups), a.Tier.Quota(tier.QuotaChatrooms)}
	}
	r.await("the change", func(*catalog.Catalog) bool { return quotas("plain") == [2]int64{50, 60} })
	require.Equal(t, [2]int64{5, 60}, quotas("special"), "overrides stay on top")
	same, _ := r.App("acme", "elsewhere")
	require.Same(t, other, same, "apps of other tiers are left alone")
}

func TestLastGoodStays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(record("shop", "basic", 1))
	r.await("the app", func(c *catalog.Catalog) bool { return len(c.Apps()) == 1 })

	t.Log("an invalid tier")
	r.put(catalog.TierKey("basic"), []byte(`{"name":"basic","quotas":{"groups":-1}}`))
	require.Eventually(t, func() bool { return r.metric("chappe_catalog_documents_held") == "app=0 tier=1" }, 10*time.Second, time.Millisecond)
	a, _ := r.App("acme", "shop")
	require.Equal(t, int64(100_000), a.Tier.Quota(tier.QuotaGroups))
	require.Equal(t, "tier=1", r.metric("chappe_catalog_invalid_documents_total"))
	r.put(catalog.TierKey("basic"), r.tier("basic", `{"quotas":{"groups":3}}`).JSON())
	r.await("a good one", func(c *catalog.Catalog) bool {
		a, _ := c.App("acme", "shop")
		return a.Tier.Quota(tier.QuotaGroups) == 3
	})
	require.Equal(t, "app=0 tier=0", r.metric("chappe_catalog_documents_held"))

	t.Log("an invalid record")
	r.put(catalog.AppKey("acme", "shop"), []byte(`{}`))
	require.Eventually(t, func() bool { return r.metric("chappe_catalog_documents_held") == "app=1 tier=0" }, 10*time.Second, time.Millisecond)
	_, ok := r.App("acme", "shop")
	require.True(t, ok)

	t.Log("a record under another's key")
	misplaced, err := record("other", "basic", 2).Encode(testkit.SealKeys(t))
	require.NoError(t, err)
	r.put(catalog.AppKey("acme", "thief"), misplaced)
	r.put(catalog.AppKey("acme", "last"), func() []byte { b, _ := record("last", "basic", 3).Encode(testkit.SealKeys(t)); return b }())
	r.await("the app after it", func(c *catalog.Catalog) bool { _, ok := c.App("acme", "last"); return ok })
	_, ok = r.App("acme", "other")
	require.False(t, ok)

	t.Log("overrides that do not fit")
	bad := record("shop", "basic", 1)
	bad.Overrides = []byte(`{"quotas":{"cats":1}}`)
	r.app(bad)
	require.Eventually(t, func() bool { return r.metric("chappe_catalog_documents_held") == "app=1 tier=0" }, 10*time.Second, time.Millisecond)
	a, _ = r.App("acme", "shop")
	require.Equal(t, int64(3), a.Tier.Quota(tier.QuotaGroups))
	bad.Overrides = []byte(`{"quotas":{"groups":1}}`)
	r.app(bad)
	r.await("good overrides", func(c *catalog.Catalog) bool {
		a, _ := c.App("acme", "shop")
		return a.Tier.Quota(tier.QuotaGroups) == 1
	})
	require.Equal(t, "app=0 tier=0", r.metric("chappe_catalog_documents_held"))
}

func TestDeletedTier(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	gold := r.tier("enterprise", `{"quotas":{"groups":9}}`)
	gold.Name = "gold"
	r.put(catalog.TierKey("gold"), gold.JSON())
	r.app(record("shop", "gold", 1))
	r.await("the app", func(c *catalog.Catalog) bool { return len(c.Apps()) == 1 })
	a, _ := r.App("acme", "shop")
	require.Equal(t, int64(9), a.Tier.Quota(tier.QuotaGroups), "also when the app's event comes before the tier's")

	r.put(catalog.TierKey("gold"), nil)
	require.Eventually(t, func() bool { return r.metric("chappe_catalog_apps_without_tier") == "1" }, 10*time.Second, time.Millisecond)
	a, _ = r.App("acme", "shop")
	require.Equal(t, int64(9), a.Tier.Quota(tier.QuotaGroups), "the last good one stays")
	_, ok := r.Tier("gold")
	require.False(t, ok)

	t.Log("after a restart nobody knows it any more: the smallest tier holds")
	r.watch()
	a, ok = r.App("acme", "shop")
	require.True(t, ok)
	require.Equal(t, "free", a.Tier.Name)
	require.Equal(t, "gold", a.TierName)
	require.Equal(t, "1", r.metric("chappe_catalog_apps_without_tier"))
}

func TestSeedLeavesEditsAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.put(catalog.TierKey("basic"), r.tier("basic", `{"quotas":{"groups":3}}`).JSON())
	r.put(catalog.TierKey("free"), nil)
	require.NoError(t, catalog.Seed(t.Context(), r.etcd))
	r.watch()
	basic, _ := r.Tier("basic")
	require.Equal(t, int64(3), basic.Quota(tier.QuotaGroups))
	_, ok := r.Tier("free")
	require.False(t, ok, "a deleted tier does not come back")
	require.Len(t, r.Tiers(), 3)
}

// Look-ups while everything changes see whole views.
func TestConcurrentLookups(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(record("shop", "basic", 1))
	r.await("the app", func(c *catalog.Catalog) bool { return len(c.Apps()) == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				a, ok := r.App("acme", "shop")
				if !ok || a.Tier.Quota(tier.QuotaGroups) != a.Tier.Quota(tier.QuotaChatrooms) && a.Tier.Quota(tier.QuotaGroups) != 100_000 {
					t.Errorf("a torn view: %v", a)
					return
				}
			}
		})
	}
	for i := range 20 {
		r.put(catalog.TierKey("basic"), r.tier("basic", fmt.Sprintf(`{"quotas":{"groups":%d,"chatrooms":%d}}`, i, i)).JSON())
	}
	r.await("the last change", func(c *catalog.Catalog) bool {
		a, _ := c.App("acme", "shop")
		return a.Tier.Quota(tier.QuotaGroups) == 19
	})
	cancel()
	wg.Wait()
}

func TestRecordValidation(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*catalog.Record){
		"org":          func(r *catalog.Record) { r.Org = "a b" },
		"app":          func(r *catalog.Record) { r.App = "Shop" },
		"number":       func(r *catalog.Record) { r.Number = 0 },
		"secret":       func(r *catalog.Record) { r.SecretHash = nil },
		"no keys":      func(r *catalog.Record) { r.Keys = nil },
		"short key":    func(r *catalog.Record) { r.Keys[0].Secret = []byte("x") },
		"registration": func(r *catalog.Record) { r.Registration = "maybe" },
		"ttl":          func(r *catalog.Record) { r.TokenTTLSeconds = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := record("shop", "basic", 1)
			require.NoError(t, rec.Validate())
			edit(rec)
			require.Error(t, rec.Validate())
			_, err := rec.Encode(testkit.SealKeys(t))
			require.Error(t, err)
		})
	}
}

func BenchmarkApp(b *testing.B) {
	etcd := testkit.Etcd(b)
	require.NoError(b, catalog.Seed(b.Context(), etcd))
	value, err := record("shop", "basic", 1).Encode(testkit.SealKeys(b))
	require.NoError(b, err)
	_, _, err = etcd.Commit(b.Context(), nil, []etcdx.Write{{Key: catalog.AppKey("acme", "shop"), Value: value}})
	require.NoError(b, err)
	c, err := catalog.Watch(b.Context(), etcd, testkit.SealKeys(b), testkit.Logger(b), prometheus.NewRegistry())
	require.NoError(b, err)
	b.Cleanup(c.Stop)
	b.ReportAllocs()
	for range b.N {
		if _, ok := c.App("acme", "shop"); !ok {
			b.Fatal("not found")
		}
	}
}

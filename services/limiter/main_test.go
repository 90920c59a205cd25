package limiter

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/pkg/testkit/fixture"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type rig struct {
	*Service
	etcd    *etcdx.Client
	catalog *catalog.Catalog
	clock   *fixture.Clock
}

// newRig starts a limiter on an etcd prefix of its own, with the compiled-in
// tiers and a clock that the test moves.
func newRig(t testing.TB, opts ...Option) *rig {
	t.Helper()
	r := &rig{etcd: testkit.Etcd(t), clock: &fixture.Clock{}}
	require.NoError(t, catalog.Seed(t.Context(), r.etcd))
	reg := prometheus.NewRegistry()
	var err error
	r.catalog, err = catalog.Watch(t.Context(), r.etcd, testkit.SealKeys(t), testkit.Logger(t), reg)
	require.NoError(t, err)
	t.Cleanup(r.catalog.Stop)
	r.Service, err = New(DefaultConfig(), Deps{
		Etcd: r.etcd, Catalog: r.catalog, Logger: testkit.Logger(t), Registerer: reg, Clock: r.clock.Load,
	}, opts...)
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, r.Stop(context.Background())) })
	return r
}

func (r *rig) app(t testing.TB, name, tier string) *catalog.App {
	t.Helper()
	_, err := r.CreateApp(t.Context(), &limiterv1.CreateAppRequest{Org: "acme", App: name, Tier: tier})
	require.NoError(t, err)
	a, ok := r.catalog.App("acme", name)
	require.True(t, ok)
	return a
}

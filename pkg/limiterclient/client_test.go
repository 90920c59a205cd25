package limiterclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/members"
	"github.com/chappe-im/chappe/pkg/secrets"
	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/pkg/tier"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const patient = 20 * time.Second

// access is what limiters and their callers show each other.
var access = grpcx.SecretAccess(secrets.NewSet("the secret of the limiters"))

// rig is a list of limiters in etcd and a catalog with apps.
type rig struct {
	t       testing.TB
	etcd    *etcdx.Client
	catalog *catalog.Catalog
}

func newRig(t testing.TB, apps ...string) *rig {
	t.Helper()
	r := &rig{t: t, etcd: testkit.Etcd(t)}
	require.NoError(t, catalog.Seed(t.Context(), r.etcd))
	for i, app := range apps {
		value, err := (&catalog.Record{
			Org: "acme", App: app, Number: int64(i + 1), UUID: "u", Tier: "basic", ClientID: "c",
			SecretHash: catalog.HashSecret("s"), Keys: []catalog.RecordKey{{ID: 1, Secret: make([]byte, 32)}},
			Registration: catalog.RegistrationOpen,
		}).Encode(testkit.SealKeys(t))
		require.NoError(t, err)
		_, _, err = r.etcd.Commit(t.Context(), nil, []etcdx.Write{{Key: catalog.AppKey("acme", app), Value: value}})
		require.NoError(t, err)
	}
	var err error
	r.catalog, err = catalog.Watch(t.Context(), r.etcd, testkit.SealKeys(t), testkit.Logger(t), prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(r.catalog.Stop)
	return r
}

// limiter is a node that decides as a limiter does: on windows of its own, the
// full limits.
type limiter struct {
	limiterv1.UnimplementedLimiterServiceServer
	limiterv1.UnimplementedAdminServiceServer
	catalog *catalog.Catalog
	windows *local
	calls   atomic.Int64
	checks  atomic.Int64
	// hold, if set, is waited for by every batch.
	hold atomic.Pointer[chan struct{}]

	server *grpcx.Server
	reg    *members.Registration
	id     string
	addr   string
}

func (l *limiter) BatchCheck(ctx context.Context, req *limiterv1.BatchCheckRequest) (*limiterv1.BatchCheckResponse, error) {
	l.calls.Add(1)
	l.checks.Add(int64(len(req.GetChecks())))
	if hold := l.hold.Load(); hold != nil {
		select {
		case <-*hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	resp := &limiterv1.BatchCheckResponse{}
	for _, c := range req.GetChecks() {
		app, ok := l.catalog.App(c.GetOrg(), c.GetApp())
		switch {
		case !ok:
			resp.Results = append(resp.Results, &limiterv1.CheckResponse{Reason: reasonUnknownApp})
		case c.GetCost() < 1:
			resp.Results = append(resp.Results, &limiterv1.CheckResponse{Reason: reasonInvalid})
		default:
			resp.Results = append(resp.Results, l.windows.check(app, c))
		}
	}
	return resp, nil
}

func (l *limiter) Reserve(_ context.Context, req *limiterv1.ReserveRequest) (*limiterv1.ReserveResponse, error) {
	app, ok := l.catalog.App(req.GetOrg(), req.GetApp())
	if !ok {
		return nil, errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	return l.windows.reserve(app, req.GetCost(), time.Duration(req.GetMaxDelayMs())*time.Millisecond), nil
}

func (l *limiter) GetUsage(context.Context, *limiterv1.GetUsageRequest) (*limiterv1.GetUsageResponse, error) {
	return &limiterv1.GetUsageResponse{Backlog: 7}, nil
}

func (l *limiter) ReportBacklog(context.Context, *limiterv1.ReportBacklogRequest) (*limiterv1.ReportBacklogResponse, error) {
	return &limiterv1.ReportBacklogResponse{}, nil
}

func (l *limiter) ListApps(context.Context, *limiterv1.ListAppsRequest) (*limiterv1.ListAppsResponse, error) {
	return &limiterv1.ListAppsResponse{Apps: []*limiterv1.App{{Org: l.id}}}, nil
}

func (r *rig) limiter(id string) *limiter {
	r.t.Helper()
	start := time.Now()
	l := &limiter{
		id: id, catalog: r.catalog,
		windows: newLocal(func() int64 { return int64(time.Since(start)) }, func() int { return 1 }),
	}
	l.server = grpcx.NewServer(grpcx.NewInterceptors(testkit.Logger(r.t), prometheus.NewRegistry()), access)
	limiterv1.RegisterLimiterServiceServer(l.server, l)
	limiterv1.RegisterAdminServiceServer(l.server, l)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(r.t, err)
	l.server.Start(lis)
	l.addr = lis.Addr().String()
	l.register(r)
	r.t.Cleanup(l.kill)
	return l
}

// register enters the limiter in the list.
func (l *limiter) register(r *rig) {
	r.t.Helper()
	reg, err := members.Register(r.t.Context(), r.etcd, testkit.Logger(r.t), members.Limiters, members.Member{ID: l.id, Addr: l.addr})
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = reg.Stop() })
	l.reg = reg
}

// kill breaks all connections, but leaves the entry in etcd as a crash does.
func (l *limiter) kill() { l.server.Server.Stop() }

func (r *rig) client(edit ...func(*Deps)) *Client {
	r.t.Helper()
	deps := Deps{
		Access: access,
		Etcd:   r.etcd, Apps: r.catalog, Logger: testkit.Logger(r.t), Registerer: prometheus.NewRegistry(),
		// A busy machine must not look like a dead owner.
		Timeout: patient,
	}
	for _, e := range edit {
		e(&deps)
	}
	c, err := NewClient(r.t.Context(), deps)
	require.NoError(r.t, err)
	r.t.Cleanup(c.Stop)
	return c
}

func (r *rig) await(c *Client, n int) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return len(c.view.Load().members) == n }, patient, time.Millisecond)
}

func check(app, rule string, cost int64) *limiterv1.CheckRequest {
	return &limiterv1.CheckRequest{Org: "acme", App: app, Rule: rule, Cost: cost}
}

// admissions makes calls until none of a window's are left, and counts.
func admissions(t *testing.T, c limiterv1.LimiterServiceClient, app, rule string) int {
	t.Helper()
	n := 0
	for {
		resp, err := c.Check(t.Context(), check(app, rule, 1))
		require.NoError(t, err)
		if !resp.GetAllowed() {
			return n
		}
		n++
	}
}

// Every client finds the same owner, so that a limit by the minute is met to
// the unit whoever asks.
func TestSeveralLimitersAndCallersKeepOneLimit(t *testing.T) {
	t.Parallel()
	apps := []string{"a", "b", "c", "d", "e", "f"}
	r := newRig(t, apps...)
	var limiters []*limiter
	for i := range 3 {
		limiters = append(limiters, r.limiter(fmt.Sprint("limiter-", i)))
	}
	clients := []*Client{r.client(), r.client(), r.client()}
	for _, c := range clients {
		r.await(c, 3)
	}
	var admitted [6]atomic.Int64
	var wg sync.WaitGroup
	for _, c := range clients {
		for i, app := range apps {
			wg.Go(func() {
				for range 10 {
					resp, err := c.Check(t.Context(), check(app, "get_history_file", 1))
					if err == nil && resp.GetAllowed() {
						admitted[i].Add(1)
					}
				}
			})
		}
	}
	wg.Wait()
	for i := range apps {
		require.Equal(t, int64(10), admitted[i].Load(), "app %s: 30 calls were offered, 10 a minute are allowed", apps[i])
	}
	used := 0
	for _, l := range limiters {
		if l.checks.Load() > 0 {
			used++
		}
	}
	require.Greater(t, used, 1, "the apps have different owners")
}

// TestKillUnderLoad offers three times the limit while an owner dies. By the
// callers' own record no window sees more than one extra window's worth beside
// the owner's, and everybody is answered.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	const callers = 3
	r := newRig(t, "shop")
	limiters := map[string]*limiter{}
	for i := range 2 {
		id := fmt.Sprint("limiter-", i)
		limiters[id] = r.limiter(id)
	}
	var clients []*Client
	for range callers {
		c := r.client(func(d *Deps) { d.Shares, d.Timeout = func() int { return callers }, 0 })
		r.await(c, 2)
		clients = append(clients, c)
	}
	list := clients[0].view.Load().members
	owner := list[list.Owner("acme#shop")]
	start := time.Now()
	var mu sync.Mutex
	var log []time.Duration
	var slowest time.Duration
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for _, c := range clients {
		wg.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond) // 100 calls a second each
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				began := time.Now()
				resp, err := c.Check(context.Background(), check("shop", "get_user", 1))
				took := time.Since(began)
				if err != nil {
					t.Errorf("a check failed: %v", err)
					return
				}
				mu.Lock()
				slowest = max(slowest, took)
				if resp.GetAllowed() {
					log = append(log, time.Since(start))
				}
				mu.Unlock()
			}
		})
	}
	require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(log) > 150 }, patient, time.Millisecond)
	limiters[owner.ID].kill()
	wg.Wait()

	slices.Sort(log)
	most, lo := 0, 0
	for hi := range log {
		for log[hi]-log[lo] >= time.Second {
			lo++
		}
		most = max(most, hi-lo+1)
	}
	t.Logf("%d admitted in 5 s, at most %d in any second; the slowest check took %s", len(log), most, slowest)
	require.LessOrEqual(t, most, 200)
	require.Greater(t, len(log), 300)
}

func TestFallsBackToItsShare(t *testing.T) {
	t.Parallel()
	r := newRig(t, "shop")
	shares := atomic.Int64{}
	shares.Store(4)
	c := r.client(func(d *Deps) {
		d.Shares = func() int { return int(shares.Load()) }
		d.Clock = func() int64 { return 0 }
	})
	require.Equal(t, 25, admissions(t, c, "shop", "get_user"), "no limiter at all: a quarter of 100")
	require.Equal(t, 2, admissions(t, c, "shop", "get_history_file"))
	shares.Store(1000)
	require.Equal(t, 1, admissions(t, c, "shop", "list_users"), "a share is at least 1")

	resp, err := c.Check(t.Context(), check("shop", "send_message_chatrooms", 50))
	require.NoError(t, err)
	require.Equal(t, reasonRate, resp.GetReason(), "too much for the share, not for the limit")
	require.Positive(t, resp.GetRetryAfterMs())
	resp, err = c.Check(t.Context(), check("shop", "send_message_chatrooms", 101))
	require.NoError(t, err)
	require.Equal(t, reasonTooCostly, resp.GetReason())

	_, err = c.Check(t.Context(), check("nope", "get_user", 1))
	require.True(t, errs.Is(err, errs.ReasonAppNotFound))
	_, err = c.Check(t.Context(), check("shop", "get_user", 0))
	require.True(t, errs.Is(err, errs.ReasonIllegalArgument))

	grant, err := c.Reserve(t.Context(), &limiterv1.ReserveRequest{Org: "acme", App: "shop", Cost: 600})
	require.NoError(t, err)
	require.Equal(t, int64(2), grant.GetGranted(), "2,000 a second among 1,000")
	_, err = c.Reserve(t.Context(), &limiterv1.ReserveRequest{Org: "acme", App: "shop"})
	require.Error(t, err)
	_, err = c.GetUsage(t.Context(), &limiterv1.GetUsageRequest{Org: "acme", App: "shop"})
	require.True(t, errs.Is(err, errs.ReasonUnavailable))
	_, err = c.ReportBacklog(t.Context(), &limiterv1.ReportBacklogRequest{Org: "acme", App: "shop"})
	require.True(t, errs.Is(err, errs.ReasonUnavailable))
}

// The owner's list of apps may lag behind the caller's; a new app is not let
// through without limits meanwhile.
func TestOwnerHasNotHeardOfTheApp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := r.limiter("behind")
	known := newRig(t, "shop")
	c := r.client(func(d *Deps) { d.Apps = known.catalog })
	r.await(c, 1)
	require.Equal(t, 10, admissions(t, c, "shop", "get_history_file"))
	require.Equal(t, int64(11), l.checks.Load(), "it was asked each time")
	_, err := c.Check(t.Context(), check("nope", "get_user", 1))
	require.True(t, errs.Is(err, errs.ReasonAppNotFound))
}

// A limiter whose lease runs out, because etcd did not hear from it in time, is
// registered again.
func TestLeaseIsLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, "shop")
	l := r.limiter("only")
	c := r.client()
	r.await(c, 1)
	require.Equal(t, 4, spend(t, c, 4))

	t.Log("the lease is gone: the entry vanishes and comes back")
	before := c.view.Load()
	require.NoError(t, l.reg.Stop())
	l.register(r)
	require.Eventually(t, func() bool {
		now := c.view.Load()
		return now != before && len(now.members) == 1
	}, patient, time.Millisecond)
	require.Equal(t, 6, admissions(t, c, "shop", "get_history_file"), "the windows were kept: it never stopped being the owner")
	require.NoError(t, l.reg.Stop())
	r.await(c, 0)
}

// spend makes n calls and counts those that are admitted.
func spend(t *testing.T, c limiterv1.LimiterServiceClient, n int) (admitted int) {
	t.Helper()
	for range n {
		resp, err := c.Check(t.Context(), check("shop", "get_history_file", 1))
		require.NoError(t, err)
		if resp.GetAllowed() {
			admitted++
		}
	}
	return admitted
}

func TestOwnerComesAndGoes(t *testing.T) {
	t.Parallel()
	r := newRig(t, "shop")
	c := r.client()
	r.await(c, 0)
	first := r.limiter("first")
	r.await(c, 1)
	require.Equal(t, 10, admissions(t, c, "shop", "get_history_file"))

	t.Log("the owner dies: the caller decides alone, at once")
	first.kill()
	require.Equal(t, 10, admissions(t, c, "shop", "get_history_file"), "one extra window's worth")
	require.True(t, c.view.Load().peers[0].down.Load())

	t.Log("a new one takes over when the old one's entry is gone")
	require.NoError(t, first.reg.Stop())
	second := r.limiter("second")
	require.Eventually(t, func() bool {
		live := c.view.Load().members
		i := live.Owner("acme#shop")
		return i >= 0 && live[i].ID == "second"
	}, patient, time.Millisecond)
	before := second.checks.Load()
	_, err := c.Check(t.Context(), check("shop", "get_history_file", 1))
	require.NoError(t, err)
	require.Equal(t, before+1, second.checks.Load())
	usage, err := c.GetUsage(t.Context(), &limiterv1.GetUsageRequest{Org: "acme", App: "shop"})
	require.NoError(t, err)
	require.Equal(t, int64(7), usage.GetBacklog())
}

// An owner that hangs costs those who wait for it their patience. After a few
// it counts as unreachable and nobody waits; when it answers again it is asked
// again.
func TestOwnerHangs(t *testing.T) {
	t.Parallel()
	r := newRig(t, "shop")
	l := r.limiter("slow")
	c := r.client(func(d *Deps) { d.Timeout = 50 * time.Millisecond })
	r.await(c, 1)
	release := make(chan struct{})
	l.hold.Store(&release)
	p := c.view.Load().peers[0]
	for range maxLate - 1 {
		late := p.late.Load()
		resp, err := c.Check(t.Context(), check("shop", "get_user", 1))
		require.NoError(t, err)
		require.True(t, resp.GetAllowed(), "on the local share")
		require.Eventually(t, func() bool { return p.late.Load() > late }, patient, time.Millisecond)
		require.False(t, p.down.Load(), "a pause is not the end")
	}
	_, err := c.Check(t.Context(), check("shop", "get_user", 1))
	require.NoError(t, err)
	require.Eventually(t, p.down.Load, patient, time.Millisecond)
	l.hold.Store(nil)
	close(release)
	require.Eventually(t, func() bool { return !p.down.Load() }, patient, time.Millisecond)
}

// Checks that come while a batch is under way travel together.
func TestChecksAreBatched(t *testing.T) {
	t.Parallel()
	r := newRig(t, "shop")
	c := r.client(func(d *Deps) {
		d.Dial = func(string) (grpc.ClientConnInterface, func(), error) { return nil, nil, errors.New("not used") }
	})
	fake := &gate{open: make(chan struct{}), arrived: make(chan int, 100)}
	p := newPeer(members.Member{ID: "x", Addr: "y"}, fake, func() {}, patient, c.met)
	defer p.stop()
	var wg sync.WaitGroup
	ask := func() {
		wg.Go(func() {
			if _, ok := p.check(t.Context(), check("shop", "get_user", 1)); !ok {
				t.Error("a check was not answered")
			}
		})
	}
	for range senders {
		ask()
		require.Equal(t, 1, <-fake.arrived, "a lone check does not wait")
	}
	for range 30 {
		ask()
	}
	require.Eventually(t, func() bool { return len(p.queue) == 30 }, patient, time.Microsecond)
	close(fake.open)
	wg.Wait()
	most := 0
	for len(fake.arrived) > 0 {
		most = max(most, <-fake.arrived)
	}
	require.Greater(t, most, 1)
}

// gate is a connection that lets nothing through until it is opened.
type gate struct {
	open    chan struct{}
	arrived chan int
}

func (g *gate) Invoke(_ context.Context, _ string, args, reply any, _ ...grpc.CallOption) error {
	n := len(args.(*limiterv1.BatchCheckRequest).GetChecks())
	g.arrived <- n
	<-g.open
	resp := reply.(*limiterv1.BatchCheckResponse)
	for range n {
		resp.Results = append(resp.Results, &limiterv1.CheckResponse{Allowed: true})
	}
	return nil
}

func (g *gate) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams")
}

func TestConn(t *testing.T) {
	t.Parallel()
	r := newRig(t, "shop")
	c := r.client()
	api, admin := limiterv1.NewLimiterServiceClient(c.Conn()), limiterv1.NewAdminServiceClient(c.Conn())
	_, err := admin.ListApps(t.Context(), &limiterv1.ListAppsRequest{})
	require.True(t, errs.Is(err, errs.ReasonUnavailable))
	r.limiter("one")
	r.await(c, 1)

	resp, err := api.Check(t.Context(), check("shop", "get_history_file", 4))
	require.NoError(t, err)
	require.True(t, resp.GetAllowed())
	require.Equal(t, int64(10), resp.GetLimit())
	require.Equal(t, int64(9), resp.GetRemaining())
	batch, err := api.BatchCheck(t.Context(), &limiterv1.BatchCheckRequest{Checks: []*limiterv1.CheckRequest{
		check("shop", "get_user", 1), check("nope", "get_user", 1), check("shop", "get_user", 0),
	}})
	require.NoError(t, err)
	require.True(t, batch.GetResults()[0].GetAllowed())
	require.Equal(t, reasonUnknownApp, batch.GetResults()[1].GetReason())
	require.Equal(t, reasonInvalid, batch.GetResults()[2].GetReason())
	grant, err := api.Reserve(t.Context(), &limiterv1.ReserveRequest{Org: "acme", App: "shop", Cost: 600})
	require.NoError(t, err)
	require.Equal(t, int64(600), grant.GetGranted())
	_, err = api.Reserve(t.Context(), &limiterv1.ReserveRequest{Org: "acme", App: "nope", Cost: 1})
	require.True(t, errs.Is(err, errs.ReasonAppNotFound))
	_, err = api.ReportBacklog(t.Context(), &limiterv1.ReportBacklogRequest{Org: "acme", App: "shop"})
	require.NoError(t, err)
	usage, err := api.GetUsage(t.Context(), &limiterv1.GetUsageRequest{Org: "acme", App: "shop"})
	require.NoError(t, err)
	require.Equal(t, int64(7), usage.GetBacklog())
	apps, err := admin.ListApps(t.Context(), &limiterv1.ListAppsRequest{})
	require.NoError(t, err)
	require.Equal(t, "one", apps.GetApps()[0].GetOrg())
	require.Error(t, c.Conn().Invoke(t.Context(), "/x/y", &healthv1.HealthCheckRequest{}, nil))
}

func TestShare(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	basic, _ := r.catalog.Tier("basic")
	full := basic.Rule("send_message_users")
	third := full.Share(3)
	require.Equal(t, int64(2000), third.Limits[0].Units)
	require.Equal(t, int64(6000), full.Limits[0].Units, "the rule itself is left alone")
	require.Equal(t, int64(1), (&tier.Rule{Limits: basic.Rule("get_history_file").Limits}).Share(50).Limits[0].Units)
}

// processorTime is what the process has used, callers and limiter together.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkOverGRPC compares checks over loopback gRPC from 64 callers, which
// travel in batches, with a plain unary call from as many.
func BenchmarkOverGRPC(b *testing.B) {
	r := newRig(b, "shop")
	l := r.limiter("one")
	c := r.client()
	r.await(c, 1)
	run := func(b *testing.B, call func() error) {
		b.SetParallelism(32) // times two processors
		b.ReportAllocs()
		b.ResetTimer()
		before := processorTime(b)
		defer func() {
			b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		}()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := call(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.Run("batched checks", func(b *testing.B) {
		before := l.calls.Load()
		run(b, func() error {
			_, err := c.Check(context.Background(), check("shop", "get_user", 1))
			return err
		})
		b.ReportMetric(float64(b.N)/float64(max(1, l.calls.Load()-before)), "checks/batch")
	})
	b.Run("unary echo", func(b *testing.B) {
		health := healthv1.NewHealthClient(c.view.Load().peers[0].conn)
		run(b, func() error {
			_, err := health.Check(context.Background(), &healthv1.HealthCheckRequest{})
			return err
		})
	})
}

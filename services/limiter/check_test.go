package limiter

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/tier"
	"github.com/chappe-im/chappe/pkg/windows"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var record []string
	r := newRig(t, WithRecorder(func(app, rule string, cost, atNs int64) {
		mu.Lock()
		defer mu.Unlock()
		record = append(record, fmt.Sprint(app, " ", rule, " ", cost, " ", atNs))
	}))
	r.app(t, "shop", "basic")
	r.clock.Store(5)

	resp, err := r.Check(t.Context(), &limiterv1.CheckRequest{Org: "acme", App: "shop", Rule: "send_message_users", Cost: 600})
	require.NoError(t, err)
	require.True(t, resp.GetAllowed())
	require.Equal(t, int64(6000), resp.GetLimit())
	require.Equal(t, int64(5400), resp.GetRemaining())
	require.Equal(t, int64(60_000), resp.GetResetAfterMs())
	require.Equal(t, []string{"acme#shop send_message_users 600 5"}, record)

	r.clock.Add(int64(time.Millisecond) / 2)
	resp, err = r.Check(t.Context(), &limiterv1.CheckRequest{Org: "acme", App: "shop", Rule: "send_message_users", Cost: 5401})
	require.NoError(t, err)
	require.False(t, resp.GetAllowed())
	require.Equal(t, ReasonRate, resp.GetReason())
	require.Equal(t, int64(60_000), resp.GetRetryAfterMs(), "rounded up")

	resp, err = r.Check(t.Context(), &limiterv1.CheckRequest{Org: "acme", App: "shop", Rule: "send_message_users", Cost: 6001})
	require.NoError(t, err)
	require.False(t, resp.GetAllowed())
	require.Equal(t, ReasonTooCostly, resp.GetReason())
	require.Zero(t, resp.GetRetryAfterMs())
	require.Len(t, record, 1)
}

func TestCheckRefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "shop", "basic")
	long := string(make([]byte, 300))
	for name, c := range map[string]struct {
		req    *limiterv1.CheckRequest
		reason string
	}{
		"cost 0":        {&limiterv1.CheckRequest{Org: "acme", App: "shop", Rule: "get_user"}, errs.ReasonIllegalArgument},
		"negative cost": {&limiterv1.CheckRequest{Org: "acme", App: "shop", Rule: "get_user", Cost: -1}, errs.ReasonIllegalArgument},
		"no rule":       {&limiterv1.CheckRequest{Org: "acme", App: "shop", Cost: 1}, errs.ReasonIllegalArgument},
		"endless user":  {&limiterv1.CheckRequest{Org: "acme", App: "shop", Rule: "get_user", User: long, Cost: 1}, errs.ReasonIllegalArgument},
		"unknown app":   {&limiterv1.CheckRequest{Org: "acme", App: "nope", Rule: "get_user", Cost: 1}, errs.ReasonAppNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := r.Check(t.Context(), c.req)
			require.True(t, errs.Is(err, c.reason), "%v", err)
		})
	}
}

func TestBatchCheck(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "shop", "basic")
	req := &limiterv1.BatchCheckRequest{}
	for range 12 {
		req.Checks = append(req.Checks, &limiterv1.CheckRequest{Org: "acme", App: "shop", Rule: "get_history_file", Cost: 1})
	}
	req.Checks = append(req.Checks,
		&limiterv1.CheckRequest{Org: "acme", App: "nope", Rule: "get_user", Cost: 1},
		&limiterv1.CheckRequest{Org: "acme", App: "shop", Rule: "get_user", Cost: 0})
	resp, err := r.BatchCheck(t.Context(), req)
	require.NoError(t, err)
	require.Len(t, resp.GetResults(), 14)
	for i, x := range resp.GetResults() {
		require.Equal(t, i < 10, x.GetAllowed(), "check %d", i)
	}
	require.Equal(t, ReasonRate, resp.GetResults()[11].GetReason())
	require.Equal(t, ReasonUnknownApp, resp.GetResults()[12].GetReason())
	require.Equal(t, ReasonInvalid, resp.GetResults()[13].GetReason())

	_, err = r.BatchCheck(t.Context(), &limiterv1.BatchCheckRequest{Checks: make([]*limiterv1.CheckRequest, maxBatch+1)})
	require.True(t, errs.Is(err, errs.ReasonIllegalArgument))
}

// A raised limit is in force without a restart, and fast.
func TestTierChangeIsInForceAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "shop", "basic")
	check := func() bool {
		resp, err := r.Check(t.Context(), &limiterv1.CheckRequest{Org: "acme", App: "shop", Rule: "get_user", Cost: 1})
		require.NoError(t, err)
		return resp.GetAllowed()
	}
	for range 100 {
		require.True(t, check())
	}
	require.False(t, check())
	got, err := r.GetTier(t.Context(), &limiterv1.GetTierRequest{Name: "basic"})
	require.NoError(t, err)
	_, err = r.PutTier(t.Context(), &limiterv1.PutTierRequest{
		Name: "basic", Document: replaceLimit(t, got.GetTier().GetDocument(), "get_user", 150), Actor: "test",
	})
	require.NoError(t, err)
	for range 50 {
		require.True(t, check())
	}
	require.False(t, check())
}

func TestReserve(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "shop", "basic")
	r.app(t, "other", "basic")
	reserve := func(app string, cost, maxDelay int64) *limiterv1.ReserveResponse {
		resp, err := r.Reserve(t.Context(), &limiterv1.ReserveRequest{Org: "acme", App: app, Cost: cost, MaxDelayMs: maxDelay})
		require.NoError(t, err)
		return resp
	}
	resp := reserve("shop", 6000, 0)
	require.Equal(t, int64(2000), resp.GetGranted(), "a second's budget at once")
	require.Zero(t, resp.GetDelayUs())
	resp = reserve("shop", 600, 1000)
	require.Equal(t, int64(600), resp.GetGranted())
	require.Equal(t, int64(300_000), resp.GetDelayUs())
	resp = reserve("shop", 600, 500)
	require.Zero(t, resp.GetGranted())
	require.Equal(t, int64(100_000), resp.GetDelayUs(), "when asking again makes sense")
	require.Equal(t, int64(600), reserve("other", 600, 0).GetGranted(), "another app's budget is its own")

	_, err := r.SetAppOverrides(t.Context(), &limiterv1.SetAppOverridesRequest{Org: "acme", App: "shop", Overrides: `{"downstream": {"factor": null}}`})
	require.NoError(t, err)
	resp = reserve("shop", 1_000_000, 0)
	require.True(t, resp.GetUnlimited())
	require.Equal(t, int64(1_000_000), resp.GetGranted())

	for _, bad := range []*limiterv1.ReserveRequest{
		{Org: "acme", App: "shop"}, {Org: "acme", App: "shop", Cost: 1, MaxDelayMs: -1}, {Org: "acme", App: "nope", Cost: 1},
	} {
		_, err := r.Reserve(t.Context(), bad)
		require.Error(t, err)
	}
}

func TestBacklogRefusesSends(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "shop", "basic")
	r.app(t, "other", "basic")
	report := func(reporter string, n int64) {
		_, err := r.ReportBacklog(t.Context(), &limiterv1.ReportBacklogRequest{Org: "acme", App: "shop", Reporter: reporter, Deliveries: n})
		require.NoError(t, err)
	}
	check := func(app, rule string) *limiterv1.CheckResponse {
		resp, err := r.Check(t.Context(), &limiterv1.CheckRequest{Org: "acme", App: app, Rule: rule, Cost: 1})
		require.NoError(t, err)
		return resp
	}
	sends := []string{"send_message", "send_message_users", "send_message_chatgroups", "send_message_chatrooms"}
	report("worker-0", 60_000)
	report("worker-1", 60_000)
	for _, rule := range sends {
		require.True(t, check("shop", rule).GetAllowed(), "60 seconds' worth is not yet too much")
	}
	report("worker-1", 64_000)
	for _, rule := range sends {
		resp := check("shop", rule)
		require.False(t, resp.GetAllowed())
		require.Equal(t, ReasonBacklog, resp.GetReason())
		require.Equal(t, int64(3000), resp.GetRetryAfterMs())
		require.True(t, check("other", rule).GetAllowed())
	}
	require.True(t, check("shop", "get_user").GetAllowed(), "only sends are refused")
	u, err := r.GetUsage(t.Context(), &limiterv1.GetUsageRequest{Org: "acme", App: "shop"})
	require.NoError(t, err)
	require.Equal(t, int64(124_000), u.GetBacklog())

	r.clock.Add(reportAge)
	require.True(t, check("shop", "send_message").GetAllowed(), "reports are forgotten")
	r.budgets.sweep(r.clock.Load())
	require.Zero(t, r.budgets.reporting.Load())
	require.Empty(t, r.budgets.apps)

	report("worker-0", 200_000)
	report("worker-0", 0)
	require.Zero(t, r.budgets.reporting.Load())
	for _, bad := range []*limiterv1.ReportBacklogRequest{
		{Org: "acme", App: "shop", Reporter: "", Deliveries: 1},
		{Org: "acme", App: "shop", Reporter: "x", Deliveries: -1},
		{Org: "acme", App: "nope", Reporter: "x", Deliveries: 1},
	} {
		_, err := r.ReportBacklog(t.Context(), bad)
		require.Error(t, err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "shop", "basic")
	check := func(rule, user string) {
		_, err := r.Check(t.Context(), &limiterv1.CheckRequest{Org: "acme", App: "shop", Rule: rule, User: user, Cost: 1})
		require.NoError(t, err)
	}
	for range 7 {
		check("list_conversations", "amy")
	}
	check("list_conversations", "ben")
	check("some_new_call", "")
	u, err := r.GetUsage(t.Context(), &limiterv1.GetUsageRequest{Org: "acme", App: "shop"})
	require.NoError(t, err)
	got := map[string]*limiterv1.RuleUsage{}
	for _, x := range u.GetRules() {
		got[x.GetRule()+"/"+x.GetScope()] = x
	}
	require.Len(t, got, 126, "120 calls, one of them by user and app, what clients send by both, and one without a rule")
	amy := got["list_conversations/user"]
	require.Equal(t, int64(5), amy.GetUsed())
	require.Equal(t, int64(5), amy.GetLimit())
	require.Equal(t, int64(60_000), amy.GetWindowMs())
	require.Equal(t, int64(6), amy.GetAdmittedTotal())
	require.Equal(t, int64(2), amy.GetThrottledTotal())
	require.Equal(t, int64(6), got["list_conversations/app"].GetUsed())
	require.Equal(t, int64(1), got["some_new_call/app"].GetUsed())
	require.Zero(t, got["get_user/app"].GetUsed())

	_, err = r.GetUsage(t.Context(), &limiterv1.GetUsageRequest{Org: "acme", App: "nope"})
	require.True(t, errs.Is(err, errs.ReasonAppNotFound))
}

// BenchmarkCheck decides on calls as they come in process; answers are
// allocated. Keys are calls of apps, each with its own window; "in parallel"
// uses all processors that the benchmark is given. A request is filled in just
// before, as a decoded one is: 100,000 requests kept for it would be 12 MB of
// memory that no server has to visit.
func BenchmarkCheck(b *testing.B) {
	r := newRig(b)
	start := time.Now()
	r.buckets = windows.New(func() int64 { return int64(time.Since(start)) })
	const apps, rules = 1000, 100
	var ids, names []string
	for _, c := range tier.Catalogue()[:rules] {
		ids = append(ids, c.ID)
	}
	for i := range apps {
		names = append(names, fmt.Sprint("app", i))
		r.app(b, names[i], "basic")
	}
	ctx := b.Context()
	for _, keys := range []int{1, apps * rules} {
		check := func(b *testing.B, req *limiterv1.CheckRequest, i int) {
			// A step without a common divisor visits all keys in no order.
			k := i * 7919 % keys
			req.App, req.Rule = names[k/rules], ids[k%rules]
			if _, err := r.Check(ctx, req); err != nil {
				b.Error(err)
			}
		}
		request := func() *limiterv1.CheckRequest {
			return &limiterv1.CheckRequest{Org: "acme", Ip: "192.0.2.1", User: "amy", Cost: 1}
		}
		b.Run(fmt.Sprintf("keys=%d/alone", keys), func(b *testing.B) {
			req := request()
			for i := range keys {
				check(b, req, i)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				check(b, req, i)
			}
		})
		b.Run(fmt.Sprintf("keys=%d/in parallel", keys), func(b *testing.B) {
			b.ReportAllocs()
			var workers atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				req := request()
				for i := int(workers.Add(1)) * 1000; pb.Next(); i++ {
					check(b, req, i)
				}
			})
		})
	}
}

package limiterclient

import (
	"context"
	"sync"
	"time"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/rate"
	"github.com/chappe-im/chappe/pkg/tier"
	"github.com/chappe-im/chappe/pkg/windows"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// Reasons of refusals, as the limiter gives them.
const (
	reasonRate       = "rate"
	reasonTooCostly  = "too_costly"
	reasonInvalid    = "invalid"
	reasonUnknownApp = "unknown_app"
)

const (
	sweepEvery = time.Second
	// maxShared bounds the rules of which shares are kept; they are cheap to
	// make anew.
	maxShared = 4096
)

// local decides while the owner cannot be reached: on this caller's share of
// every limit, so that all callers together stay near the limit.
type local struct {
	clock   func() int64
	shares  func() int
	buckets *windows.Buckets

	mu     sync.Mutex
	rules  map[shared]*tier.Rule
	pacers map[int64]*rate.Pacer
}

type shared struct {
	rule   *tier.Rule
	shares int
}

func newLocal(clock func() int64, shares func() int) *local {
	return &local{
		clock: clock, shares: shares, buckets: windows.New(clock),
		rules: make(map[shared]*tier.Rule), pacers: make(map[int64]*rate.Pacer),
	}
}

// check decides on a valid check of a known app.
func (l *local) check(app *catalog.App, req *limiterv1.CheckRequest) *limiterv1.CheckResponse {
	full := app.Tier.Rule(req.GetRule())
	v, _ := l.buckets.Check(app.Number, l.share(full), &windows.Call{
		Rule: req.GetRule(), IP: req.GetIp(), User: req.GetUser(), Cost: req.GetCost(),
	})
	resp := &limiterv1.CheckResponse{
		Allowed: v.OK, Limit: v.Limit, Remaining: v.Remaining,
		RetryAfterMs: rate.CeilMillis(v.RetryAfter), ResetAfterMs: rate.CeilMillis(v.ResetAfter),
	}
	switch {
	case v.OK:
	case v.TooCostly && tooCostly(full, req.GetCost()):
		resp.Reason = reasonTooCostly
	case v.TooCostly:
		// More than the share, but not more than the limit: the owner will
		// take it once it is back.
		resp.Reason, resp.RetryAfterMs = reasonRate, 1000
	default:
		resp.Reason = reasonRate
	}
	return resp
}

func tooCostly(rule *tier.Rule, cost int64) bool {
	for i := range rule.Limits {
		if rule.Limits[i].Cost(cost) > rule.Limits[i].Units {
			return true
		}
	}
	return false
}

// share gives a rule with every limit divided among the callers, but at least
// 1: a limit smaller than their number would otherwise admit nobody.
func (l *local) share(rule *tier.Rule) *tier.Rule {
	n := max(1, l.shares())
	if n == 1 {
		return rule
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := shared{rule, n}
	if r, ok := l.rules[key]; ok {
		return r
	}
	if len(l.rules) >= maxShared {
		clear(l.rules)
	}
	r := rule.Share(int64(n))
	l.rules[key] = r
	return r
}

// reserve paces deliveries by this caller's share of the app's budget.
func (l *local) reserve(app *catalog.App, cost int64, maxDelay time.Duration) *limiterv1.ReserveResponse {
	down := app.Tier.Downstream()
	if !down.Limited {
		return &limiterv1.ReserveResponse{Granted: cost, Unlimited: true}
	}
	perSecond := max(1, down.PerSecond/int64(max(1, l.shares())))
	l.mu.Lock()
	defer l.mu.Unlock()
	p, ok := l.pacers[app.Number]
	if !ok {
		p = &rate.Pacer{}
		l.pacers[app.Number] = p
	}
	granted, delay := p.Reserve(l.clock(), rate.Budget{PerSecond: perSecond, Burst: perSecond}, cost, int64(maxDelay))
	return &limiterv1.ReserveResponse{Granted: granted, DelayUs: (delay + 999) / 1000}
}

// sweep forgets what is idle, until ctx ends.
func (l *local) sweep(ctx context.Context) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := l.clock()
		l.buckets.Sweep(now, func(int64) bool { return false })
		l.mu.Lock()
		for app, p := range l.pacers {
			if p.Behind(now) == 0 {
				delete(l.pacers, app)
			}
		}
		l.mu.Unlock()
	}
}

package limiter

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/rate"
	"github.com/chappe-im/chappe/pkg/tier"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

const (
	// reportAge is how long, in nanoseconds, a worker's report of its backlog
	// holds.
	reportAge = 5 * int64(time.Second)
	// maxDeliveries bounds one report, so that sums stay within an int64.
	maxDeliveries = int64(1e12)
	// maxReporters bounds the reports of one app.
	maxReporters = 1024
)

// budgets holds the paced downstream budget and the backlog of each app.
type budgets struct {
	mu   sync.RWMutex
	apps map[int64]*budget
	// reporting counts the apps that have reports, so that checks pass
	// quickly while none has.
	reporting atomic.Int64
}

type budget struct {
	mu      sync.Mutex
	pacer   rate.Pacer
	reports map[string]report
	// gone marks a budget that was forgotten while somebody still held it.
	gone bool
}

type report struct {
	deliveries int64
	at         int64
}

func newBudgets() *budgets { return &budgets{apps: make(map[int64]*budget)} }

// Reserve takes deliveries from an app's downstream budget, at most a second's
// worth.
func (s *Service) Reserve(ctx context.Context, req *limiterv1.ReserveRequest) (*limiterv1.ReserveResponse, error) {
	if o, ok := s.owner(ctx, req.GetOrg(), req.GetApp()); ok {
		return o.Reserve(ctx, req)
	}
	if req.GetCost() < 1 || req.GetMaxDelayMs() < 0 {
		return nil, errs.Invalid("cost must be at least 1 and max_delay_ms not negative")
	}
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	down := app.Tier.Downstream()
	if !down.Limited {
		s.metrics.granted.Add(float64(req.GetCost()))
		return &limiterv1.ReserveResponse{Granted: req.GetCost(), Unlimited: true}, nil
	}
	const maxMillis = int64(24 * time.Hour / time.Millisecond)
	wait := time.Duration(min(req.GetMaxDelayMs(), maxMillis)) * time.Millisecond
	granted, delay := s.budgets.reserve(app.Number, s.deps.Clock,
		rate.Budget{PerSecond: down.PerSecond, Burst: down.PerSecond}, req.GetCost(), wait)
	if granted > 0 {
		s.metrics.granted.Add(float64(granted))
		s.metrics.delay.Observe(delay.Seconds())
	}
	return &limiterv1.ReserveResponse{Granted: granted, DelayUs: int64((delay + time.Microsecond - 1) / time.Microsecond)}, nil
}

func (b *budgets) reserve(app int64, clock func() int64, budget rate.Budget, cost int64, maxDelay time.Duration) (int64, time.Duration) {
	x := b.lock(app)
	defer x.mu.Unlock()
	granted, delay := x.pacer.Reserve(clock(), budget, cost, int64(maxDelay))
	return granted, time.Duration(delay)
}

// ReportBacklog notes how many deliveries of an app wait at a worker.
func (s *Service) ReportBacklog(ctx context.Context, req *limiterv1.ReportBacklogRequest) (*limiterv1.ReportBacklogResponse, error) {
	if o, ok := s.owner(ctx, req.GetOrg(), req.GetApp()); ok {
		return o.ReportBacklog(ctx, req)
	}
	reporter, deliveries := req.GetReporter(), req.GetDeliveries()
	if deliveries < 0 || deliveries > maxDeliveries || reporter == "" || len(reporter) > maxNameBytes {
		return nil, errs.Invalid("reporter must be set and deliveries must be a sensible number")
	}
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	if !s.budgets.report(app.Number, s.deps.Clock, reporter, deliveries) {
		return nil, errs.Invalid("too many reporters of one app's backlog")
	}
	return &limiterv1.ReportBacklogResponse{}, nil
}

func (b *budgets) report(app int64, clock func() int64, reporter string, deliveries int64) bool {
	x := b.lock(app)
	defer x.mu.Unlock()
	before := len(x.reports)
	if deliveries == 0 {
		delete(x.reports, reporter)
	} else {
		if _, known := x.reports[reporter]; !known && before >= maxReporters {
			return false
		}
		if x.reports == nil {
			x.reports = make(map[string]report)
		}
		x.reports[strings.Clone(reporter)] = report{deliveries, clock()}
	}
	b.count(before, len(x.reports))
	return true
}

// late reports whether an app's backlog is so long that sends are refused, and
// the refusal.
func (b *budgets) late(app int64, clock func() int64, down tier.CompiledDownstream) (rate.Verdict, bool) {
	if b.reporting.Load() == 0 {
		return rate.Verdict{}, false
	}
	backlog := b.waiting(app, clock())
	most := down.PerSecond * int64(down.MaxBacklog/time.Second)
	if backlog <= most {
		return rate.Verdict{}, false
	}
	// A second's budget leaves the backlog in a second.
	wait := time.Duration(1+(backlog-most)/down.PerSecond) * time.Second
	return rate.Verdict{Limit: down.PerSecond, RetryAfter: int64(wait), ResetAfter: int64(wait)}, true
}

// waiting sums the reports that still hold.
func (b *budgets) waiting(app, now int64) int64 {
	b.mu.RLock()
	x, ok := b.apps[app]
	b.mu.RUnlock()
	if !ok {
		return 0
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.sum(now)
}

func (x *budget) sum(now int64) (sum int64) {
	for _, r := range x.reports {
		if now-r.at < reportAge {
			sum += r.deliveries
		}
	}
	return sum
}

// backlog sums all apps' reports, for the metric. It may count reports that
// the next sweep forgets.
func (b *budgets) backlog() (sum int64) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, x := range b.apps {
		x.mu.Lock()
		for _, r := range x.reports {
			sum += r.deliveries
		}
		x.mu.Unlock()
	}
	return sum
}

// lock finds or makes an app's budget and locks it.
func (b *budgets) lock(app int64) *budget {
	for {
		b.mu.RLock()
		x, ok := b.apps[app]
		b.mu.RUnlock()
		if !ok {
			b.mu.Lock()
			if x, ok = b.apps[app]; !ok {
				x = &budget{}
				b.apps[app] = x
			}
			b.mu.Unlock()
		}
		x.mu.Lock()
		if !x.gone {
			return x
		}
		x.mu.Unlock()
	}
}

// sweep forgets old reports, and apps that are as good as new.
func (b *budgets) sweep(now int64) {
	b.mu.RLock()
	apps := make(map[int64]*budget, len(b.apps))
	for app, x := range b.apps {
		apps[app] = x
	}
	b.mu.RUnlock()
	for app, x := range apps {
		x.mu.Lock()
		before := len(x.reports)
		for reporter, r := range x.reports {
			if now-r.at >= reportAge {
				delete(x.reports, reporter)
			}
		}
		b.count(before, len(x.reports))
		x.gone = len(x.reports) == 0 && x.pacer.Behind(now) == 0
		gone := x.gone
		x.mu.Unlock()
		if gone {
			b.mu.Lock()
			delete(b.apps, app)
			b.mu.Unlock()
		}
	}
}

// count keeps the number of apps that report.
func (b *budgets) count(before, after int) {
	switch {
	case before == 0 && after > 0:
		b.reporting.Add(1)
	case before > 0 && after == 0:
		b.reporting.Add(-1)
	}
}

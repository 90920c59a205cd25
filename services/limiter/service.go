// Package limiter decides which calls are admitted and how fast deliveries go
// out, and administers apps and tiers. Windows are exact and live in memory;
// every bucket of an app is held by one limiter, the app's owner.
//
// Lock order: an app's budget is locked alone.
package limiter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/windows"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	quotav1 "github.com/chappe-im/chappe/proto/gen/chappe/quota/v1"
)

// Config is what an operator sets.
type Config struct {
	// SweepEvery is how often idle keys are looked for; a key is forgotten
	// within two minutes of its last use.
	SweepEvery time.Duration
	// KeepChanges is how many entries the history of changes keeps.
	KeepChanges int
}

// DefaultConfig returns the settings of every installation.
func DefaultConfig() Config {
	return Config{SweepEvery: time.Second, KeepChanges: 2000}
}

// Validate reports every setting that does not fit.
func (c Config) Validate() error {
	var all error
	if c.SweepEvery <= 0 {
		all = errors.Join(all, fmt.Errorf("limiter sweep interval: %s is not positive", c.SweepEvery))
	}
	if c.KeepChanges < 1 {
		all = errors.Join(all, fmt.Errorf("limiter changes to keep: %d is not positive", c.KeepChanges))
	}
	return all
}

// Deps are what the service works with.
type Deps struct {
	Etcd    *etcdx.Client
	Catalog *catalog.Catalog
	// Quotas are the services that count what apps have of something, by name.
	Quotas map[string]quotav1.QuotaServiceClient
	// OwnerClient returns the way to the owner of an app if that is another
	// limiter; nil if there is only this one.
	OwnerClient func(ctx context.Context, org, app string) (limiterv1.LimiterServiceClient, bool)
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
	// Clock gives nanoseconds that never go back; nil takes the system's
	// monotonic clock.
	Clock func() int64
	// Now is the wall clock for what is stored; nil takes the system's.
	Now func() time.Time
}

// Recorder is told of every admitted check: the app's key, the rule, its cost
// and the time of the limiter's clock under which it was counted, in
// nanoseconds.
type Recorder func(app, rule string, cost int64, atNs int64)

// Option changes a Service at construction.
type Option func(*Service)

// WithRecorder reports every admitted check, for tests that hold the limiter to
// its promise by its own record.
func WithRecorder(r Recorder) Option { return func(s *Service) { s.recorder = r } }

// WithClock sets another clock than the system's: one that gives nanoseconds and
// never goes back.
func WithClock(clock func() int64) Option { return func(s *Service) { s.deps.Clock = clock } }

// Service is the limiter.
type Service struct {
	limiterv1.UnimplementedLimiterServiceServer
	limiterv1.UnimplementedAdminServiceServer

	cfg      Config
	deps     Deps
	metrics  *metrics
	recorder Recorder

	buckets *windows.Buckets
	budgets *budgets

	cancel context.CancelFunc
	done   sync.WaitGroup
}

// New makes a limiter. It starts nothing.
func New(cfg Config, deps Deps, opts ...Option) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Catalog == nil || deps.Etcd == nil || deps.Logger == nil || deps.Registerer == nil {
		return nil, errors.New("limiter: etcd, catalog, logger and registerer must be given")
	}
	if deps.Clock == nil {
		// Differences to one start are monotonic: setting the machine's clock
		// moves no window.
		start := time.Now()
		deps.Clock = func() int64 { return int64(time.Since(start)) }
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	s := &Service{cfg: cfg, deps: deps, budgets: newBudgets()}
	for _, o := range opts {
		o(s)
	}
	s.buckets = windows.New(s.deps.Clock)
	m, err := newMetrics(deps.Registerer, s.decided, s.budgets.backlog)
	if err != nil {
		return nil, err
	}
	s.metrics = m
	return s, nil
}

// app returns the app that a request names.
func (s *Service) app(org, app string) (*catalog.App, error) {
	a, ok := s.deps.Catalog.App(org, app)
	if !ok {
		return nil, errs.AppNotFound(org, app)
	}
	return a, nil
}

func (s *Service) decided() windows.Counts { return s.buckets.Counts() }

// Register makes the service callable.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	limiterv1.RegisterLimiterServiceServer(r, s)
	limiterv1.RegisterAdminServiceServer(r, s)
}

// Start begins to forget what is idle.
func (s *Service) Start(ctx context.Context) error {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.done.Go(func() { s.sweep(run) })
	s.done.Go(func() { s.pruneChanges(run) })
	return nil
}

// Stop ends the service's goroutines and waits for them, at most until ctx
// ends.
func (s *Service) Stop(ctx context.Context) error {
	if s.cancel == nil {
		return nil
	}
	s.cancel()
	ended := make(chan struct{})
	go func() {
		s.done.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("limiter: %w", ctx.Err())
	}
}

func (s *Service) sweep(ctx context.Context) {
	t := time.NewTicker(s.cfg.SweepEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			now := s.deps.Clock()
			s.buckets.Sweep(now, func(app int64) bool {
				_, ok := s.deps.Catalog.AppByNumber(app)
				return ok
			})
			s.budgets.sweep(now)
			s.metrics.keys.Set(float64(s.buckets.Size()))
		}
	}
}

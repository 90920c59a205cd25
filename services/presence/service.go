package presence

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/idgen"
	"github.com/chappe-im/chappe/pkg/members"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/quota"
	"github.com/chappe-im/chappe/pkg/store"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
	quotav1 "github.com/chappe-im/chappe/proto/gen/chappe/quota/v1"
)

// migrationFiles hold the service's schema, for SQLite and PostgreSQL.
//
//go:embed migrations
var migrationFiles embed.FS

// appNumbersVersion is the schema version at which the numbers of apps are
// brought into the database: rows were once keyed by "org#app".
const appNumbersVersion = 2

// Config of the service.
type Config struct {
	// Replicas of the bucket of connections.
	Replicas int
	// GatewayGrace is how long connections outlive their gateway's
	// registration, so that a gateway may renew it. Together with the
	// registration's time to live it is how long a crashed gateway's connections
	// are shown.
	GatewayGrace time.Duration
	// TakeOver says that no gateway can be alive when the service starts,
	// because all of them run in this process: connections that a killed
	// process left are dropped at once.
	TakeOver bool
	// DisconnectWait bounds how long putting a user offline waits for the
	// user's gateways.
	DisconnectWait time.Duration
	// CleanEvery is the time between deletions of subscriptions that have run
	// out. They end without it; it only frees their space.
	CleanEvery time.Duration
}

// DefaultConfig returns the settings of a single node.
func DefaultConfig() Config {
	return Config{Replicas: 1, GatewayGrace: time.Second, DisconnectWait: 2 * time.Second, CleanEvery: time.Minute}
}

// Validate reports every setting that does not fit.
func (c Config) Validate() error {
	var all error
	if c.Replicas < 1 || c.Replicas > 5 {
		all = errors.Join(all, fmt.Errorf("presence replicas: %d is not within 1 to 5", c.Replicas))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"gateway grace", c.GatewayGrace}, {"disconnect wait", c.DisconnectWait}, {"cleaning interval", c.CleanEvery},
	} {
		if d.value <= 0 || d.value > time.Hour {
			all = errors.Join(all, fmt.Errorf("presence %s: %s is not above 0 and up to an hour", d.name, d.value))
		}
	}
	return all
}

// IDs makes the IDs of notices.
type IDs interface {
	Next() int64
}

// Apps finds apps, with what their plan allows.
type Apps interface {
	App(org, app string) (*catalog.App, bool)
	AppByKey(key string) (*catalog.App, bool)
}

// Deps are what the service works with.
type Deps struct {
	DB   *store.DB
	NATS *natsx.Conn
	Etcd *etcdx.Client
	Apps Apps
	// Accounts tells which users exist.
	Accounts accountv1.UserServiceClient
	// IDs of notices; nil makes the service use a generator of its own.
	IDs        IDs
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Service is the presence service.
type Service struct {
	presencev1.UnimplementedConnectionServiceServer
	presencev1.UnimplementedPresenceServiceServer
	quotav1.UnimplementedQuotaServiceServer

	cfg     Config
	deps    Deps
	metrics *metrics
	index   *index
	users   *users
	store   *statusStore
	notices *notifier
	records *recorder
	reaper  *reaper
	admit   [64]sync.Mutex // by app; see admission

	bucket   *natsx.Bucket
	live     atomic.Pointer[members.Members]
	gateways *members.Watcher
	events   *natsx.Subscription
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// New builds the service. It starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.IDs == nil {
		// A notice's ID only has to differ from those a client saw just before.
		ids, err := idgen.New(rand.IntN(idgen.MaxNode+1), deps.Now)
		if err != nil {
			return nil, err
		}
		deps.IDs = ids
	}
	s := &Service{cfg: cfg, deps: deps, index: newIndex()}
	s.live.Store(&members.Members{})
	var err error
	if s.metrics, err = newMetrics(deps.Registerer, s.index); err != nil {
		return nil, err
	}
	if s.users, err = newUsers(deps.Accounts, deps.Now); err != nil {
		return nil, err
	}
	s.store = &statusStore{db: deps.DB}
	s.notices = newNotifier(s)
	s.records = newRecorder(s)
	s.reaper = newReaper(s)
	return s, nil
}

// Register makes the service callable.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	presencev1.RegisterConnectionServiceServer(r, s)
	presencev1.RegisterPresenceServiceServer(r, s)
	quota.Register(r, "presence", s)
}

// Start migrates the schema and returns once all connections are known.
func (s *Service) Start(ctx context.Context) error {
	migrations, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return fmt.Errorf("presence: %w", err)
	}
	numbers := store.Step{Version: appNumbersVersion, Run: s.numberApps}
	if err := s.deps.DB.Migrate(ctx, migrations, numbers); err != nil {
		return fmt.Errorf("presence: %w", err)
	}
	s.bucket, err = s.deps.NATS.OpenBucket(ctx, natsx.BucketSpec{Name: bucketName, Replicas: s.cfg.Replicas, MarkerTTL: markerTTL})
	if err != nil {
		return fmt.Errorf("presence: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	if err := s.start(ctx, run); err != nil {
		return errors.Join(fmt.Errorf("presence: %w", err), s.Stop(ctx))
	}
	return nil
}

func (s *Service) start(ctx, run context.Context) error {
	var err error
	if s.events, err = s.followUsers(); err != nil {
		return err
	}
	s.gateways, err = members.Watch(ctx, s.deps.Etcd, s.deps.Logger, members.Gateways, func(live members.Members) {
		s.live.Store(&live)
		s.reaper.wake()
	})
	if err != nil {
		return err
	}
	loaded := make(chan struct{})
	s.running.Go(func() { s.followBucket(run, sync.OnceFunc(func() { close(loaded) })) })
	select {
	case <-loaded:
	case <-ctx.Done():
		return fmt.Errorf("load connections: %w", ctx.Err())
	}
	if s.cfg.TakeOver {
		s.reaper.dropAllGateways()
	}
	s.running.Go(func() { s.reaper.run(run) })
	s.running.Go(func() { s.records.run(run) })
	for i := range s.notices.queues {
		s.running.Go(func() { s.notices.run(run, i) })
	}
	s.running.Go(func() { s.clean(run) })
	s.running.Go(func() { s.followDeletions(run) })
	return nil
}

// Stop ends the service's work and waits for it. It may be called twice.
func (s *Service) Stop(ctx context.Context) error {
	if s.cancel == nil {
		return nil
	}
	// What was recorded but not yet written would be lost.
	s.records.flush(ctx)
	if s.gateways != nil {
		s.gateways.Stop()
	}
	if s.events != nil {
		_ = s.events.Unsubscribe()
	}
	s.cancel()
	s.running.Wait()
	s.cancel = nil
	return nil
}

// app returns the app that a request names.
func (s *Service) app(org, app string) (*catalog.App, error) {
	a, ok := s.deps.Apps.App(org, app)
	if !ok {
		return nil, errs.AppNotFound(org, app)
	}
	return a, nil
}

func (s *Service) appByKey(key ident.AppKey) (*catalog.App, bool) {
	return s.deps.Apps.AppByKey(string(key))
}

// invalid is a request that does not fit and has no text of its own.
func invalid() error { return errs.Invalid(errs.MessageInvalidRequest) }

// Package messaging accepts messages, commits them to the log, gives them
// their place in their conversation, archives and distributes them, and brings
// devices up to date.
//
// The way of a message: a send is checked and committed to one of the
// partitions of the JetStream log; only then is its sender answered. Each
// partition has one worker at a time, which reads the log in order, numbers the
// messages of each conversation 1, 2, 3 …, archives them together with its
// place in the log in one SQL transaction, and meanwhile pushes them to the
// gateways. What a push misses, devices fetch from the archive.
package messaging

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/idgen"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/usercache"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// Config of the service.
type Config struct {
	// Partitions of the log. It is fixed when a cluster first starts.
	Partitions int
	// LogAge is how long the log is kept for redo and for subscribers.
	LogAge time.Duration
	// LogBytes bounds the log of all partitions together; 0 for no bound.
	LogBytes int64
	// Replicas of the log's streams.
	Replicas int
	// TakeOver says that no other instance can be alive, because etcd is
	// embedded here: claims left by a killed process are taken at once.
	TakeOver bool
	// SessionTTL is how long claims outlive a crash.
	SessionTTL time.Duration
	// RetentionEvery is how often messages past their tier's days are looked
	// for; a tier's change is in force by then.
	RetentionEvery time.Duration
	// PushEvents publishes a PushEvent for each message to a user who is not
	// connected.
	PushEvents bool
	// PushZone is where users' do-not-disturb hours are told; nil is UTC.
	PushZone *time.Location
}

func (c Config) zone() *time.Location {
	if c.PushZone == nil {
		return time.UTC
	}
	return c.PushZone
}

// DefaultConfig gives the settings of a single node.
func DefaultConfig() Config {
	return Config{Partitions: 4, LogAge: 24 * time.Hour, Replicas: 1, SessionTTL: 5 * time.Second, RetentionEvery: 15 * time.Second}
}

// Validate reports every setting that does not fit.
func (c Config) Validate() error {
	var all error
	if c.Partitions < 1 || c.Partitions > 256 {
		all = errors.Join(all, fmt.Errorf("messaging partitions: %d is not within 1 to 256", c.Partitions))
	}
	if c.LogAge < time.Minute {
		all = errors.Join(all, fmt.Errorf("messaging log age: %s is less than a minute", c.LogAge))
	}
	return all
}

// Apps gives the app a request names.
type Apps interface {
	App(org, app string) (*catalog.App, bool)
	AppByKey(key string) (*catalog.App, bool)
	Apps() []*catalog.App
}

// Deps are what the service works with.
type Deps struct {
	DB         *store.DB
	NATS       *natsx.Conn
	Etcd       *etcdx.Client
	Apps       Apps
	Users      accountv1.UserServiceClient
	Push       accountv1.PushServiceClient
	Presence   presencev1.PresenceServiceClient
	Limiter    limiterv1.LimiterServiceClient
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Service is the messaging service.
type Service struct {
	messagingv1.UnimplementedMessagingServiceServer
	messagingv1.UnimplementedSyncServiceServer

	cfg        Config
	deps       Deps
	metrics    *metrics
	recipients *recipientCache
	// pushUsers are users with their push settings, forgotten like recipients.
	pushUsers *usercache.Cache[pushSettings]
	archive   *archive
	settling  *settling
	gates     *gates
	devices   *deviceStore

	// node is the number under which ids are made.
	node   int
	ids    *idgen.Generator
	orders []sync.Mutex // by partition; see commit

	session  *etcdx.Session
	events   *natsx.Subscription
	owner    *owner
	backlogs *backlogs
	cancel   context.CancelFunc
	done     sync.WaitGroup
	// archived ends after done: what workers have submitted is still written.
	archived sync.WaitGroup
}

// New builds the service. It starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	pushUsers, err := usercache.New[pushSettings](pushCacheSize, pushCacheAge, deps.Now)
	if err != nil {
		return nil, err
	}
	recipients, err := newRecipientCache(deps.Users, pushUsers, deps.Now)
	if err != nil {
		return nil, err
	}
	m := newMetrics(deps.Registerer)
	settling := newSettling(deps.DB, deps.NATS, cfg.Partitions)
	gates := newGates(cfg.Partitions, deps.NATS.Times)
	return &Service{
		cfg:        cfg,
		deps:       deps,
		metrics:    m,
		recipients: recipients,
		pushUsers:  pushUsers,
		archive:    newArchive(deps.DB, m, settling, gates, deps.Logger),
		settling:   settling,
		gates:      gates,
		devices:    &deviceStore{db: deps.DB, now: deps.Now},
		orders:     make([]sync.Mutex, cfg.Partitions),
	}, nil
}

// Register makes the service callable.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	messagingv1.RegisterMessagingServiceServer(r, s)
	messagingv1.RegisterSyncServiceServer(r, s)
}

// Start migrates the schema, makes the streams, and takes up its share of the
// partitions.
func (s *Service) Start(ctx context.Context) error {
	sub, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return err
	}
	if err := s.deps.DB.Migrate(ctx, sub); err != nil {
		return err
	}
	if err := s.archive.prepare(ctx); err != nil {
		return err
	}
	if err := s.fixPartitions(ctx); err != nil {
		return err
	}
	for p := range s.cfg.Partitions {
		if err := s.ensureStreams(ctx, p); err != nil {
			return err
		}
	}
	if s.cfg.PushEvents {
		if err := s.ensurePush(ctx); err != nil {
			return err
		}
	}
	if s.session, err = s.deps.Etcd.NewSession(ctx, s.cfg.SessionTTL); err != nil {
		return err
	}
	if s.node, err = claimNode(ctx, s.session); err != nil {
		return err
	}
	if s.ids, err = idgen.New(s.node, s.deps.Now); err != nil {
		return err
	}
	newest, err := s.newestID(ctx)
	if err != nil {
		return err
	}
	s.ids.Advance(newest)
	if s.events, err = s.deps.NATS.Subscribe(bus.UserEventFilter, s.recipients.onEvent); err != nil {
		return err
	}
	s.deps.NATS.OnLoss(s.recipients.forgetAll)
	s.deps.NATS.OnChange(s.gates.closeAll)

	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.archived.Go(func() { s.archive.run(run) })
	s.backlogs = &backlogs{svc: s, all: map[*distributor]struct{}{}}
	s.owner = newOwner(s)
	if s.cfg.TakeOver {
		err = s.owner.takeOver(ctx)
	}
	if err == nil {
		err = s.owner.register(ctx)
	}
	if err != nil {
		return errors.Join(err, s.Stop(ctx))
	}
	s.done.Go(func() { s.owner.run(run) })
	s.done.Go(func() { s.runCompare(run) })
	s.done.Go(func() { s.backlogs.run(run) })
	s.done.Go(func() { s.follow(run, deletionConsumer, bus.UserEventFilter, s.onDeletion) })
	s.done.Go(func() { s.follow(run, rosterConsumer, bus.RosterEventFilter, s.onRoster) })
	s.done.Go(func() { (&retention{svc: s, swept: map[int64]int64{}}).run(run) })
	if !s.gates.awaitOpen(ctx, settleAtStart) {
		s.deps.Logger.Warn("sends are refused until log and archive agree", "reasons", s.gates.health().Refusing)
	}
	return nil
}

// Stop ends the workers after the batches they are at and waits for them.
// Messages in the log that were not archived yet are archived by the next
// worker.
func (s *Service) Stop(ctx context.Context) error {
	if s.cancel == nil {
		return nil
	}
	_ = s.events.Unsubscribe()
	s.settling.stop()
	s.cancel()
	s.cancel = nil
	finished := make(chan struct{})
	go func() {
		s.done.Wait()
		close(s.archive.queue)
		s.archived.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-ctx.Done():
		return fmt.Errorf("messaging workers did not end: %w", ctx.Err())
	}
	return nil
}

func (s *Service) ensureStreams(ctx context.Context, p int) error {
	if err := s.deps.NATS.EnsureStream(ctx, natsx.StreamSpec{
		Name: bus.LogStream(p), Subjects: []string{bus.LogFilter(p)}, MaxAge: s.cfg.LogAge,
		MaxBytes:        s.cfg.LogBytes / int64(s.cfg.Partitions),
		DuplicateWindow: logWindow, Replicas: s.cfg.Replicas,
	}); err != nil {
		return err
	}
	return s.deps.NATS.EnsureStream(ctx, natsx.StreamSpec{
		Name: bus.SpillStream(p), Subjects: []string{bus.SpillSubject(p, "*")}, WorkQueue: true,
		DuplicateWindow: 2 * time.Minute, Replicas: s.cfg.Replicas,
	})
}

func (s *Service) newestID(ctx context.Context) (int64, error) {
	var id sql.NullInt64
	if err := s.deps.DB.Read().QueryRowContext(ctx, `SELECT MAX(id) FROM message`).Scan(&id); err != nil {
		return 0, store.Translate(err)
	}
	return id.Int64, nil
}

// settleAtStart bounds how long Start waits until log and archive are known to
// agree; sends are refused until then, whoever comes first.
const settleAtStart = 5 * time.Second

// spillSettle is how long a queue of waiting deliveries must be empty before
// its drainer ends.
const spillSettle = 500 * time.Millisecond

// Package messaging accepts messages, commits them to the log, numbers them in
// their conversation, archives and distributes them, and brings devices up to
// date.
//
// The way of a message: a send is checked and committed to one of the
// partitions of the JetStream log; only then is its sender answered. Each
// partition has one worker at a time, which reads the log in order, numbers the
// messages of each conversation 1, 2, 3 …, archives them together with its
// position in the log in one SQL transaction, and meanwhile pushes them to the
// gateways. What a push misses, devices fetch from the archive.
//
// This package is what callers see. Package partition takes an accepted send to
// the gateways, package history keeps what is read later; neither knows of this
// one, nor history of partition.
package messaging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/store"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
	"github.com/chappe-im/chappe/services/messaging/history"
	"github.com/chappe-im/chappe/services/messaging/partition"
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
	return Config{Partitions: 4, LogAge: 24 * time.Hour, Replicas: 1, RetentionEvery: 15 * time.Second}
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
	barrier    *history.ReadBarrier
	archive    *history.Archive
	devices    *history.Devices
	retention  *history.Retention
	log        *partition.Log
	owner      *partition.Owner
	recipients *recipientCache
	notifier   *notifier // nil without push events

	events *natsx.Subscription
	cancel context.CancelFunc
	done   sync.WaitGroup
	// archived ends after done: what workers have submitted is still written.
	archived sync.WaitGroup
}

// New builds the service from the bottom up. It starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, deps: deps, metrics: newMetrics(deps.Registerer)}
	var err error
	if s.recipients, err = newRecipientCache(deps.Users, deps.Push, deps.Now); err != nil {
		return nil, err
	}
	if s.log, err = partition.NewLog(partition.LogConfig{
		Partitions: cfg.Partitions, Age: cfg.LogAge, Bytes: cfg.LogBytes, Replicas: cfg.Replicas,
	}, deps.NATS, deps.Now); err != nil {
		return nil, err
	}
	s.barrier = history.NewReadBarrier(deps.DB, cfg.Partitions, s.log.End)
	s.archive = history.NewArchive(deps.DB, s.barrier, s.log.Archived, deps.Logger, deps.Registerer)
	s.devices = history.NewDevices(deps.DB, deps.Now)
	var jobs []partition.Job
	if cfg.PushEvents {
		s.notifier = &notifier{
			nats: deps.NATS, presence: deps.Presence, users: s.recipients, zone: cfg.zone(), now: deps.Now, logger: deps.Logger,
		}
		jobs = append(jobs, s.notifier.run)
	}
	s.owner = partition.NewOwner(partition.Deps{
		Log: s.log, Archive: s.archive, Barrier: s.barrier, Etcd: deps.Etcd, Apps: deps.Apps, Limiter: deps.Limiter,
		Logger: deps.Logger, Registerer: deps.Registerer, Now: deps.Now,
	}, jobs...)
	s.retention = history.NewRetention(s.archive, deps.Apps, s.owner.OwnsFirst, deps.Now, deps.Logger)
	return s, nil
}

// Register makes the service callable.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	messagingv1.RegisterMessagingServiceServer(r, s)
	messagingv1.RegisterSyncServiceServer(r, s)
}

// Start migrates the schema, makes the streams, and takes up its share of the
// partitions.
func (s *Service) Start(ctx context.Context) error {
	if err := s.archive.Prepare(ctx); err != nil {
		return err
	}
	if err := partition.FixCount(ctx, s.deps.Etcd, s.cfg.Partitions); err != nil {
		return err
	}
	if err := s.log.Start(ctx); err != nil {
		return err
	}
	if s.notifier != nil {
		if err := s.notifier.prepare(ctx, s.cfg.Partitions, s.cfg.Replicas); err != nil {
			return err
		}
	}
	var err error
	if s.events, err = s.deps.NATS.Subscribe(bus.UserEventFilter, s.recipients.onEvent); err != nil {
		return err
	}
	s.deps.NATS.OnLoss(s.recipients.forgetAll)
	if err := s.owner.Start(ctx, s.cfg.TakeOver); err != nil {
		return errors.Join(err, s.events.Unsubscribe())
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.archived.Go(func() { s.archive.Run(run) })
	s.done.Go(func() { s.owner.Run(run) })
	s.done.Go(func() {
		s.deps.NATS.FollowStream(run, bus.EventStream, deletionConsumer, bus.UserEventFilter, s.onDeletion)
	})
	s.done.Go(func() {
		s.deps.NATS.FollowStream(run, bus.EventStream, rosterConsumer, bus.RosterEventFilter, s.onRoster)
	})
	s.done.Go(func() { s.retention.Run(run, s.cfg.RetentionEvery) })
	if !s.log.AwaitOpen(ctx, openAtStart) {
		s.deps.Logger.Warn("sends are refused until log and archive agree", "reasons", s.log.Health().Refusing)
	}
	return nil
}

// openAtStart bounds how long Start waits until log and archive are known to
// agree; sends are refused until then, whichever instance they reach.
const openAtStart = 5 * time.Second

// Stop ends the workers after the batches they are at and waits for them.
// Messages in the log that were not archived yet are archived by the next
// worker.
func (s *Service) Stop(ctx context.Context) error {
	if s.cancel == nil {
		return nil
	}
	_ = s.events.Unsubscribe()
	s.barrier.Stop()
	s.cancel()
	s.cancel = nil
	finished := make(chan struct{})
	go func() {
		s.done.Wait()
		s.archive.Close()
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

// LogHealth returns how the message log is, as this process knows it.
func (s *Service) LogHealth() LogHealth { return s.log.Health() }

// LogHealth says how the message log is, for operators.
type LogHealth = partition.Health

// Refuse has sends refused for a reason that lies outside of the log, until it
// is called with none.
func (s *Service) Refuse(why string) { s.log.Refuse(why) }

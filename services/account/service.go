package account

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/idgen"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	"github.com/chappe-im/chappe/pkg/outbox"
	"github.com/chappe-im/chappe/pkg/quota"
	"github.com/chappe-im/chappe/pkg/revocation"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/usercache"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	quotav1 "github.com/chappe-im/chappe/proto/gen/chappe/quota/v1"
)

//go:embed migrations
var migrationFiles embed.FS

// Migrations gives the service's schema, for store.DB.Migrate.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		panic("account: the migrations are compiled in: " + err.Error())
	}
	return sub
}

// eventsKept is how long domain events stay for services that were away.
const eventsKept = 24 * time.Hour

// Apps finds apps.
type Apps interface {
	App(org, app string) (*catalog.App, bool)
}

// Deps are what the service works with. The database is migrated by whoever
// opens it; the connection to NATS is the service's own.
type Deps struct {
	DB         *store.DB
	NATS       *natsx.Conn
	Apps       Apps
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Changed, if set, is told of every user that something was changed of
	// before the change is answered, for services of the same process: they need
	// not wait for its event.
	Changed func(appKey, user string)
	// Now is the clock; nil is the real one.
	Now func() time.Time
}

// Service implements the services of chappe.account.v1.
type Service struct {
	accountv1.UnimplementedUserServiceServer
	accountv1.UnimplementedTokenServiceServer
	accountv1.UnimplementedAttributeServiceServer
	accountv1.UnimplementedRelationServiceServer
	accountv1.UnimplementedPushServiceServer
	accountv1.UnimplementedMuteServiceServer
	quotav1.UnimplementedQuotaServiceServer

	cfg       Config
	told      func(appKey, user string)
	db        *store.DB
	nats      *natsx.Conn
	apps      Apps
	logger    *slog.Logger
	now       func() time.Time
	passwords *passwords
	cache     *usercache.Cache[cachedUser]
	outbox    *outbox.Relay
	ids       *idgen.Generator

	subscription *natsx.Subscription
}

// New builds the service. It starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.DB == nil || deps.NATS == nil || deps.Apps == nil || deps.Logger == nil || deps.Registerer == nil {
		return nil, errors.New("account: a dependency is missing")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	// A notice's ID only has to differ from those a client saw just before.
	ids, err := idgen.New(rand.IntN(idgen.MaxNode+1), deps.Now) // not a secret
	if err != nil {
		return nil, err
	}
	pw, err := newPasswords(cfg, deps.Registerer)
	if err != nil {
		return nil, err
	}
	known, err := usercache.New[cachedUser](cfg.UserCache, cacheAge, deps.Now)
	if err != nil {
		return nil, fmt.Errorf("user cache: %w", err)
	}
	relay, err := outbox.NewRelay(outbox.Config{
		Service: "account", DB: deps.DB, Publisher: deps.NATS, Logger: deps.Logger, Registerer: deps.Registerer,
	})
	if err != nil {
		return nil, err
	}
	return &Service{
		cfg: cfg, told: deps.Changed, db: deps.DB, nats: deps.NATS, apps: deps.Apps, logger: deps.Logger, now: deps.Now,
		passwords: pw, cache: known, ids: ids, outbox: relay,
	}, nil
}

// Register makes the service callable.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	accountv1.RegisterUserServiceServer(r, s)
	accountv1.RegisterTokenServiceServer(r, s)
	accountv1.RegisterAttributeServiceServer(r, s)
	accountv1.RegisterRelationServiceServer(r, s)
	accountv1.RegisterPushServiceServer(r, s)
	accountv1.RegisterMuteServiceServer(r, s)
	quota.Register(r, "account", s)
}

// Start brings the schema up to date, makes the streams that the service
// publishes into and begins to publish, first what an earlier run left.
func (s *Service) Start(ctx context.Context) error {
	if err := s.db.Migrate(ctx, Migrations()); err != nil {
		return fmt.Errorf("account: %w", err)
	}
	err := s.nats.EnsureStream(ctx, natsx.StreamSpec{
		Name: bus.EventStream, Subjects: []string{bus.EventFilter}, MaxAge: eventsKept,
		DuplicateWindow: 2 * time.Minute, Replicas: s.cfg.Replicas,
	})
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	if _, err := revocation.Ensure(ctx, s.nats, s.cfg.Replicas); err != nil {
		return fmt.Errorf("account: %w", err)
	}
	if s.subscription, err = s.nats.Subscribe(bus.UserEventFilter, s.onEvent); err != nil {
		return fmt.Errorf("account: %w", err)
	}
	s.nats.OnLoss(s.cache.ForgetAll)
	s.outbox.Start()
	return nil
}

// Stop publishes what is left, as long as ctx allows, and ends.
func (s *Service) Stop(ctx context.Context) error {
	err := s.outbox.Stop(ctx)
	if s.subscription != nil {
		// Fails only on a connection that is closed already.
		_ = s.subscription.Unsubscribe()
	}
	return err
}

// app finds the app that a request names.
func (s *Service) app(org, app string) (*catalog.App, error) {
	a, ok := s.apps.App(org, app)
	if !ok {
		return nil, errs.AppNotFound(org, app)
	}
	return a, nil
}

// invalid is a request that does not fit and has no text of its own.
func invalid() error { return errs.Invalid(errs.MessageInvalidRequest) }

// fits reports whether a text may be stored: valid UTF-8 of at most so many
// characters, without NUL, which not every database takes.
func fits(text string, maxChars int) bool {
	return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 && utf8.RuneCountInString(text) <= maxChars
}

// settle waits until what was committed is published, so that its effect is
// there when the caller gets the answer. If NATS is away it goes out later.
func (s *Service) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.SettleTimeout)
	defer cancel()
	if err := s.outbox.Flush(ctx); err != nil {
		s.logger.WarnContext(ctx, "an account's change takes effect late", obs.KeyError, err)
	}
}

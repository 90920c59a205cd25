package run

import (
	"context"
	"time"

	"github.com/chappe-im/chappe/pkg/ident"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
	"github.com/chappe-im/chappe/services/account"
	"github.com/chappe-im/chappe/services/limiter"
	"github.com/chappe-im/chappe/services/messaging"
	"github.com/chappe-im/chappe/services/presence"
)

// module is an entry of the table of services.
type module struct {
	// name is that of the target, of the service's schema and of its peers.
	name string
	// start builds the service, registers it with s.services and starts it.
	start func(s *Server, ctx context.Context) (stopper, error)
}

// modules is the table of services: what a process can run, in the order in
// which it starts them. A service may call those before it at its start, and
// all of them later. The gateway comes last, when everything can be called.
func modules() []module {
	return []module{
		{TargetLimiter, (*Server).startLimiter},
		{TargetAccount, (*Server).startAccount},
		{TargetPresence, (*Server).startPresence},
		{TargetMessaging, (*Server).startMessaging},
		{TargetGateway, (*Server).startGateway},
	}
}

// targets returns the names of all targets but "all".
func targets() []string {
	var out []string
	for _, m := range modules() {
		out = append(out, m.name)
	}
	return out
}

func (s *Server) startLimiter(ctx context.Context) (stopper, error) {
	quotas, err := s.quotaClients()
	if err != nil {
		return nil, err
	}
	deps := limiter.Deps{Etcd: s.etcd, Catalog: s.catalog, Quotas: quotas, Logger: s.logger, Registerer: s.registry, Now: time.Now}
	if s.clustered() {
		if _, err := s.Conn(TargetLimiter); err != nil {
			return nil, err
		}
		deps.OwnerClient = s.limiters.client.OwnerClient
	}
	svc, err := limiter.New(limiter.DefaultConfig(), deps, s.limiterOptions...)
	if err != nil {
		return nil, err
	}
	svc.Register(s.services)
	return svc, svc.Start(ctx)
}

func (s *Server) startAccount(ctx context.Context) (stopper, error) {
	db, err := s.openDB(ctx, "account")
	if err != nil {
		return nil, err
	}
	conn, err := s.connectNATS(ctx, "account")
	if err != nil {
		return nil, err
	}
	cfg := account.DefaultConfig()
	cfg.Replicas = s.cfg.LogReplicas
	svc, err := account.New(cfg, account.Deps{
		DB: db, NATS: conn, Apps: s.catalog, Logger: s.logger, Registerer: s.registry, Now: time.Now,
		Changed: func(app, user string) {
			if told := s.userChanged.Load(); told != nil {
				(*told)(ident.User{App: ident.AppKey(app), ID: ident.UserID(user)})
			}
		},
	})
	if err != nil {
		return nil, err
	}
	svc.Register(s.services)
	return svc, svc.Start(ctx)
}

func (s *Server) startPresence(ctx context.Context) (stopper, error) {
	db, err := s.openDB(ctx, "presence")
	if err != nil {
		return nil, err
	}
	conn, err := s.connectNATS(ctx, "presence")
	if err != nil {
		return nil, err
	}
	accounts, err := s.Conn(TargetAccount)
	if err != nil {
		return nil, err
	}
	cfg := presence.DefaultConfig()
	cfg.Replicas = s.cfg.LogReplicas
	cfg.TakeOver = s.embeddedEtcd()
	svc, err := presence.New(cfg, presence.Deps{
		DB: db, NATS: conn, Etcd: s.etcd, Apps: s.catalog, Accounts: accountv1.NewUserServiceClient(accounts),
		Logger: s.logger, Registerer: s.registry, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	svc.Register(s.services)
	return svc, svc.Start(ctx)
}

func (s *Server) startMessaging(ctx context.Context) (stopper, error) {
	db, err := s.openDB(ctx, "messaging")
	if err != nil {
		return nil, err
	}
	conn, err := s.connectNATS(ctx, "messaging")
	if err != nil {
		return nil, err
	}
	accounts, err := s.Conn(TargetAccount)
	if err != nil {
		return nil, err
	}
	presences, err := s.Conn(TargetPresence)
	if err != nil {
		return nil, err
	}
	limits, err := s.Conn(TargetLimiter)
	if err != nil {
		return nil, err
	}
	cfg := messaging.DefaultConfig()
	cfg.Partitions, cfg.LogAge, cfg.Replicas = s.cfg.Partitions, s.cfg.LogAge, s.cfg.LogReplicas
	cfg.LogBytes = s.cfg.LogSize
	cfg.TakeOver, cfg.PushEvents = s.embeddedEtcd(), s.cfg.PushEvents
	if cfg.PushZone, err = time.LoadLocation(s.cfg.PushZone); err != nil {
		return nil, err
	}
	svc, err := messaging.New(cfg, messaging.Deps{
		DB: db, NATS: conn, Etcd: s.etcd, Apps: s.catalog,
		Users: accountv1.NewUserServiceClient(accounts), Push: accountv1.NewPushServiceClient(accounts), Presence: presencev1.NewPresenceServiceClient(presences),
		Limiter: limiterv1.NewLimiterServiceClient(limits),
		Logger:  s.logger, Registerer: s.registry, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	told := svc.UserChanged
	s.userChanged.Store(&told)
	svc.Register(s.services)
	s.messaging.Store(svc)
	return svc, svc.Start(ctx)
}

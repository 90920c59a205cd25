// Package run puts a process together: which services run in it, what they
// depend on, and in which order they start and stop.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/diskspace"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/installation"
	"github.com/chappe-im/chappe/pkg/lifecycle"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/quota"
	"github.com/chappe-im/chappe/pkg/secrets"
	"github.com/chappe-im/chappe/pkg/store"
	quotav1 "github.com/chappe-im/chappe/proto/gen/chappe/quota/v1"
	"github.com/chappe-im/chappe/services/gateway"
	"github.com/chappe-im/chappe/services/limiter"
	"github.com/chappe-im/chappe/services/messaging"
)

// Embedded starts the servers that a process may carry within itself. The node
// binary has none.
type Embedded interface {
	// Etcd starts etcd with its data below a directory.
	Etcd(ctx context.Context, dir string) (*etcdx.Client, func(), error)
	// NATS starts NATS with its data below a directory; listen is an address
	// to serve other processes on, or empty, token what connections then have to
	// show.
	NATS(dir, listen, token string, syncAlways bool, logger *slog.Logger) (natsx.InProcessServer, func(), error)
}

// Server is a process that is put together.
type Server struct {
	cfg      Config
	embedded Embedded
	logger   *slog.Logger
	out      io.Writer
	registry *prometheus.Registry
	group    *lifecycle.Group

	channel  *grpcx.Channel
	services registrar
	grpc     *grpcx.Server
	ops      *opsServer
	etcd     *etcdx.Client
	natsIn   natsx.InProcessServer
	token    string // of the embedded NATS
	access   grpcx.Access
	probe    atomic.Pointer[natsx.Conn]
	catalog  *catalog.Catalog
	// installation is the ID that all parts carry.
	installation string
	databases    map[string]*store.DB
	front        *gateway.Gateway
	conns        map[string]grpc.ClientConnInterface

	// userChanged is told of changed users by the accounts of this process.
	userChanged atomic.Pointer[func(ident.User)]

	// messaging is the service, once it has started, if it runs here.
	messaging atomic.Pointer[messaging.Service]
	disk      atomic.Pointer[diskWatch]
	// diskFree tells the free bytes of a directory's disk.
	diskFree func(dir string) (uint64, error)

	limiters       limiters
	limiterOptions []limiter.Option
}

// Option changes a process that is put together, for tests.
type Option func(*Server)

// WithLimiterOptions passes options on to the limiter.
func WithLimiterOptions(opts ...limiter.Option) Option {
	return func(s *Server) { s.limiterOptions = append(s.limiterOptions, opts...) }
}

// WithLimiterPatience sets how long a limiter may take to answer before its
// callers decide by themselves. On a busy machine a pause must not look like a
// dead limiter.
func WithLimiterPatience(d time.Duration) Option {
	return func(s *Server) { s.limiters.timeout = d }
}

// WithDiskFree sets what tells the free bytes of a directory's disk.
func WithDiskFree(free func(dir string) (uint64, error)) Option {
	return func(s *Server) { s.diskFree = free }
}

// New puts a process together and starts nothing. out gets what a person at a
// terminal is told; embedded may be nil.
func New(cfg Config, embedded Embedded, logger *slog.Logger, out io.Writer, opts ...Option) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, embedded: embedded, logger: logger, out: out,
		registry: prometheus.NewRegistry(), group: lifecycle.New(logger), conns: map[string]grpc.ClientConnInterface{},
		databases: map[string]*store.DB{},
		limiters:  limiters{id: newLimiterID()}, diskFree: diskspace.Free,
	}
	for _, opt := range opts {
		opt(s)
	}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	in := grpcx.NewInterceptors(logger, s.registry)
	s.channel = grpcx.NewChannel(in)
	if err := s.makePrivate(); err != nil {
		return nil, err
	}
	var err error
	if s.access, err = s.grpcAccess(); err != nil {
		return nil, err
	}
	s.grpc = grpcx.NewServer(in, s.access)
	s.services = registrar{grpcx.Registrars{s.channel, s.grpc}, &quota.Server{}}
	quotav1.RegisterQuotaServiceServer(s.services, s.services.Server)

	s.group.Add(lifecycle.Part{Name: "ops", Start: s.startOps, Stop: s.stopOps})
	s.group.Add(lifecycle.Part{Name: "etcd", Start: s.startEtcd})
	s.group.Add(lifecycle.Part{Name: "nats", Start: s.startNATS})
	s.group.Add(lifecycle.Part{Name: "installation", Start: s.checkInstallation})
	s.group.Add(lifecycle.Part{Name: "catalog", Start: s.startCatalog})
	for _, m := range modules() {
		if m.name == TargetGateway {
			if cfg.DiskReserve > 0 && len(cfg.storedDirs()) > 0 {
				s.addService(module{name: "disk", start: (*Server).startDiskWatch})
			}
			s.group.Add(lifecycle.Part{Name: "grpc", Start: s.startGRPC, Stop: s.grpc.Stop})
			if cfg.Runs(TargetLimiter) && s.clustered() {
				s.group.Add(s.limiterRegistration())
			}
		}
		if cfg.Runs(m.name) {
			s.addService(m)
		}
	}
	return s, nil
}

// stopper is what a started service leaves for later.
type stopper interface {
	Stop(ctx context.Context) error
}

func (s *Server) addService(m module) {
	var running stopper
	s.group.Add(lifecycle.Part{
		Name: m.name,
		Start: func(ctx context.Context) (err error) {
			running, err = m.start(s, ctx)
			return err
		},
		Stop: func(ctx context.Context) error { return running.Stop(ctx) },
	})
}

// Start starts everything and returns when the process serves.
func (s *Server) Start(ctx context.Context) error {
	began := time.Now()
	if err := s.group.Start(ctx); err != nil {
		return err
	}
	if s.cfg.Demo {
		if err := s.createDemo(ctx); err != nil {
			return errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
		}
	}
	if s.ops != nil {
		s.ops.ready.Store(true)
	}
	s.logger.Info("ready", "took_ms", time.Since(began).Milliseconds(), "http", s.HTTPAddr(), "grpc", s.GRPCAddr(), "ops", s.OpsAddr())
	return nil
}

// Stop drains and stops everything, in at most the configured time.
func (s *Server) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DrainTimeout)
	defer cancel()
	if s.ops != nil {
		s.ops.ready.Store(false)
	}
	return s.group.Stop(ctx)
}

// HTTPAddr is where REST and client connections are served; empty without a
// gateway.
func (s *Server) HTTPAddr() string {
	if s.front == nil {
		return ""
	}
	return s.front.Addr()
}

// GRPCAddr is where gRPC is served.
func (s *Server) GRPCAddr() string { return s.grpc.Addr() }

// OpsAddr is where operators are served; empty if nowhere.
func (s *Server) OpsAddr() string {
	if s.ops == nil {
		return ""
	}
	return s.ops.lis.Addr().String()
}

// Conn gives a connection to a service, in this process or where it is.
func (s *Server) Conn(target string) (grpc.ClientConnInterface, error) {
	if c, ok := s.conns[target]; ok {
		return c, nil
	}
	c := s.channel.Conn()
	switch {
	case target == TargetLimiter && s.clustered():
		var err error
		if c, err = s.limiterConn(); err != nil {
			return nil, err
		}
	case !s.cfg.Runs(target):
		dialed, err := grpcx.Dial(s.cfg.peerAddr(target), s.access)
		if err != nil {
			return nil, err
		}
		c = dialed
	}
	s.conns[target] = c
	return c, nil
}

func (s *Server) embeddedEtcd() bool { return len(s.cfg.Etcd) == 0 }

func (s *Server) startOps(ctx context.Context) error {
	if s.cfg.Ops == "" {
		return nil
	}
	var access secrets.Set
	if s.cfg.OpsSecretFile != "" {
		var err error
		if access, err = s.secret(s.cfg.OpsSecretFile); err != nil {
			return fmt.Errorf("ops secret: %w", err)
		}
	}
	var err error
	s.ops, err = startOps(ctx, s.cfg.Ops, access, s.registry, s.health)
	return err
}

func (s *Server) stopOps(ctx context.Context) error {
	for _, c := range s.conns {
		if closer, ok := c.(io.Closer); ok {
			_ = closer.Close()
		}
	}
	if s.ops == nil {
		return nil
	}
	return s.ops.stop(ctx)
}

// health tells how what the process depends on is right now.
func (s *Server) health() health {
	probe := s.probe.Load()
	h := health{Dependencies: map[string]bool{"nats": probe != nil && probe.Connected()}}
	if m := s.messaging.Load(); m != nil {
		log := m.LogHealth()
		h.Log, h.Reasons = &log, append(h.Reasons, log.Refusing...)
	}
	if d := s.disk.Load(); d != nil {
		if why := d.low.Load(); why != nil {
			h.Reasons = append(h.Reasons, *why)
		}
	}
	return h
}

func (s *Server) startEtcd(ctx context.Context) error {
	if !s.embeddedEtcd() {
		c, err := etcdx.Dial(s.cfg.Etcd, "")
		if err != nil {
			return err
		}
		s.etcd = c
		s.onStop("etcd client", func() { _ = c.Close() })
		return nil
	}
	if s.embedded == nil {
		return errors.New("this binary carries no etcd: name its endpoints with --etcd")
	}
	c, stop, err := s.embedded.Etcd(ctx, s.cfg.Data)
	if err != nil {
		return err
	}
	s.etcd = c
	s.onStop("etcd", stop)
	return nil
}

func (s *Server) startNATS(ctx context.Context) error {
	if s.cfg.NATS == "" {
		if s.embedded == nil {
			return errors.New("this binary carries no NATS: name its servers with --nats")
		}
		var err error
		if s.token, err = s.natsToken(); err != nil {
			return err
		}
		in, stop, err := s.embedded.NATS(s.cfg.Data, s.cfg.NATSListen, s.token, s.cfg.Durability == DurabilityPower, s.logger)
		if err != nil {
			return err
		}
		s.natsIn = in
		s.onStop("nats", stop)
	}
	probe, err := s.connectNATS(ctx, "probe")
	s.probe.Store(probe)
	return err
}

// connectNATS makes a connection for one service; it is closed when the
// process stops, after the service.
func (s *Server) connectNATS(ctx context.Context, name string) (*natsx.Conn, error) {
	c, err := natsx.Connect(ctx, natsx.Config{URL: s.cfg.NATS, InProcess: s.natsIn, Token: s.token, Name: "chappe-" + name, Installation: s.installation, Logger: s.logger})
	if err != nil {
		return nil, err
	}
	s.onStop("nats connection of "+name, func() {
		dctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = c.Drain(dctx)
	})
	return c, nil
}

func (s *Server) startCatalog(ctx context.Context) error {
	keys, err := s.sealKeys(ctx)
	if err != nil {
		return err
	}
	if s.cfg.Runs(TargetLimiter) {
		if err := catalog.Seed(ctx, s.etcd); err != nil {
			return err
		}
		n, err := catalog.SealAll(ctx, s.etcd, keys)
		if err != nil {
			return err
		}
		if n > 0 {
			s.logger.Info("the signing keys of apps were sealed anew", "apps", n, "key", keys.ID())
		}
	}
	c, err := catalog.Watch(ctx, s.etcd, keys, s.logger, s.registry)
	if err != nil {
		return err
	}
	s.catalog = c
	s.onStop("catalog", c.Stop)
	return nil
}

// checkInstallation refuses to go on with parts of different installations.
func (s *Server) checkInstallation(ctx context.Context) error {
	parts := []installation.Part{installation.InNATS(s.probe.Load())}
	for _, service := range []string{TargetAccount, TargetPresence, TargetMessaging} {
		if !s.cfg.Runs(service) {
			continue
		}
		db, err := s.openDB(ctx, service)
		if err != nil {
			return err
		}
		parts = append(parts, installation.InSQL(service, db))
	}
	var err error
	s.installation, err = installation.Check(ctx, s.etcd, parts, s.cfg.AcceptInstallation, s.logger)
	return err
}

// openDB opens a service's schema, once; it is closed when the process stops,
// after the service.
func (s *Server) openDB(ctx context.Context, service string) (*store.DB, error) {
	if db, ok := s.databases[service]; ok {
		return db, nil
	}
	db, err := store.Open(ctx, store.Config{
		URL: s.cfg.databaseURL(), Service: service, SyncFull: s.cfg.Durability == DurabilityPower,
	})
	if err != nil {
		return nil, err
	}
	s.onStop("database of "+service, func() { _ = db.Close() })
	s.databases[service] = db
	return db, nil
}

// onStop adds something to be undone when the part that is starting has been
// stopped.
func (s *Server) onStop(name string, undo func()) {
	s.group.Undo(name, func(context.Context) error {
		undo()
		return nil
	})
}

func (s *Server) startGRPC(ctx context.Context) error {
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.GRPC)
	if err != nil {
		return err
	}
	s.grpc.Start(lis)
	return nil
}

func (s *Server) trustedProxies() []netip.Prefix {
	out := make([]netip.Prefix, 0, len(s.cfg.TrustedProxies))
	for _, p := range s.cfg.TrustedProxies {
		if prefix, err := netip.ParsePrefix(p); err == nil { // validated before
			out = append(out, prefix)
		}
	}
	return out
}

// Package gateway is what the outside world talks to: the REST API and the
// client connections. It keeps nothing that must survive it and knows the
// other services only as gRPC connections.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe-im/chappe/services/gateway/auth"
	"github.com/chappe-im/chappe/services/gateway/openapi"
	"github.com/chappe-im/chappe/services/gateway/rest"
	"github.com/chappe-im/chappe/services/gateway/routes"
)

// Config are the settings of a Gateway. Zero values stand for defaults, except
// AccessLogEvery.
type Config struct {
	// Listen is the TCP address to serve on. It is not used with Listener.
	Listen   string
	Listener net.Listener
	// MaxBodyBytes bounds the bodies of REST calls; 1 MiB.
	MaxBodyBytes int64
	// TrustedProxies are networks of proxies whose X-Forwarded-… headers count.
	TrustedProxies []netip.Prefix
	// ReadHeaderTimeout bounds how long a request's head may take, ReadTimeout
	// the whole request, WriteTimeout request and answer, IdleTimeout how long a
	// connection waits for the next one; 10 s, 60 s, 120 s, 120 s.
	ReadHeaderTimeout, ReadTimeout, WriteTimeout, IdleTimeout time.Duration
	// CallTimeout is the deadline of a call to a service; 15 s.
	CallTimeout time.Duration
	// AdmissionTimeout is how long a call waits for the limiter; 250 ms.
	AdmissionTimeout time.Duration
	// AccessLogEvery logs one REST call in so many; 0 logs none but failures of
	// ours and slow calls.
	AccessLogEvery int
	// OpenAPI serves the description of the REST API at openapi.Path.
	OpenAPI bool
}

func (c Config) withDefaults() Config {
	for d, v := range map[*time.Duration]time.Duration{
		&c.ReadHeaderTimeout: 10 * time.Second, &c.ReadTimeout: time.Minute,
		&c.WriteTimeout: 2 * time.Minute, &c.IdleTimeout: 2 * time.Minute,
	} {
		if *d == 0 {
			*d = v
		}
	}
	return c
}

// Validate joins all that is wrong with a Config.
func (c Config) Validate() error {
	var all error
	if c.Listen == "" && c.Listener == nil {
		all = errors.Join(all, errors.New("an address to listen on is missing"))
	}
	if c.MaxBodyBytes < 0 || c.AccessLogEvery < 0 {
		all = errors.Join(all, errors.New("body limit and log sampling must not be negative"))
	}
	for _, d := range []time.Duration{c.ReadHeaderTimeout, c.ReadTimeout, c.WriteTimeout, c.IdleTimeout, c.CallTimeout, c.AdmissionTimeout} {
		if d < 0 {
			all = errors.Join(all, errors.New("timeouts must not be negative"))
			break
		}
	}
	return all
}

// Conns lead to the other services.
type Conns = rest.Conns

// Deps is what a Gateway works with.
type Deps struct {
	Conns Conns
	// Apps is the catalog, Revocations the list of void tokens.
	Apps        auth.Apps
	Revocations auth.Revocations
	// WebSocket serves client connections on /ws and /websocket. It may be nil.
	WebSocket  http.Handler
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is time.Now unless set.
	Now func() time.Time
}

// Gateway is the HTTP front of a process.
type Gateway struct {
	cfg    Config
	logger *slog.Logger
	rest   http.Handler
	socket http.Handler
	server *http.Server

	mu   sync.Mutex
	lis  net.Listener
	done chan error
}

// New makes a Gateway; Start begins to serve.
func New(ctx context.Context, cfg Config, deps Deps) (*Gateway, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	cfg = cfg.withDefaults()
	api, err := rest.New(ctx, rest.Config{
		MaxBodyBytes: cfg.MaxBodyBytes, TrustedProxies: cfg.TrustedProxies, CallTimeout: cfg.CallTimeout,
		AdmissionTimeout: cfg.AdmissionTimeout, AccessLogEvery: cfg.AccessLogEvery,
	}, rest.Deps{
		Conns: deps.Conns, Apps: deps.Apps, Verifier: auth.NewVerifier(deps.Apps, deps.Revocations, deps.Now),
		Logger: deps.Logger, Registerer: deps.Registerer,
	}, routes.All())
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g := &Gateway{cfg: cfg, logger: deps.Logger, rest: api, socket: deps.WebSocket, done: make(chan error, 1)}
	g.server = &http.Server{
		Handler:           g,
		ReadHeaderTimeout: cfg.ReadHeaderTimeout,
		ReadTimeout:       cfg.ReadTimeout,
		WriteTimeout:      cfg.WriteTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(deps.Logger.Handler(), slog.LevelDebug),
	}
	return g, nil
}

// ServeHTTP serves one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.socket != nil && (r.URL.Path == "/ws" || r.URL.Path == "/websocket") {
		g.socket.ServeHTTP(w, r)
		return
	}
	if g.cfg.OpenAPI && r.URL.Path == openapi.Path && r.Method == http.MethodGet {
		openapi.Handler(w, r)
		return
	}
	g.rest.ServeHTTP(w, r)
}

// Start listens and serves.
func (g *Gateway) Start(ctx context.Context) error {
	lis := g.cfg.Listener
	if lis == nil {
		var err error
		var lc net.ListenConfig
		if lis, err = lc.Listen(ctx, "tcp", g.cfg.Listen); err != nil {
			return fmt.Errorf("gateway: %w", err)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lis != nil {
		return errors.New("gateway: started twice")
	}
	g.lis = lis
	go func() { g.done <- g.server.Serve(refusalListener{lis}) }()
	return nil
}

// Addr is where the gateway listens; empty before Start.
func (g *Gateway) Addr() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lis == nil {
		return ""
	}
	return g.lis.Addr().String()
}

// Stop accepts nothing more, lets requests in flight finish until ctx ends,
// then breaks them off, and waits. Connections that became WebSockets are
// their handler's to close.
func (g *Gateway) Stop(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lis == nil {
		return nil
	}
	err := g.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("gateway: requests were broken off: %w", err), g.server.Close())
	}
	if served := <-g.done; served != nil && !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("gateway: %w", served))
	}
	g.lis = nil
	return err
}

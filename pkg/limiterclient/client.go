// Package limiterclient is the limiter for its callers: it makes one limiter of
// many. Every caller picks the owner of an app by rendezvous hashing over the
// live limiters, sends it its checks in batches, and decides alone, on a share
// of the limits, while the owner cannot be reached.
package limiterclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/members"
	"github.com/chappe-im/chappe/pkg/obs"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

const defaultTimeout = 40 * time.Millisecond

// Apps gives the app that a check ident.
type Apps interface {
	App(org, app string) (*catalog.App, bool)
}

// Deps are what a Client works with.
type Deps struct {
	Etcd *etcdx.Client
	Apps Apps
	// Shares is how many callers divide the limits among themselves while an
	// owner cannot be reached, such as the number of living gateways; nil is
	// one.
	Shares func() int
	// Self and SelfConn name the limiter of this process, if it has one, and
	// the way to it without a socket.
	Self     string
	SelfConn grpc.ClientConnInterface
	// Access lets this process in at the limiters.
	Access grpcx.Access
	// Dial connects to a limiter; nil takes gRPC with Access.
	Dial func(addr string) (grpc.ClientConnInterface, func(), error)
	// Timeout is how long an owner may take to answer; 0 is 40 ms.
	Timeout    time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Clock gives nanoseconds that never go back; nil takes the system's
	// monotonic clock.
	Clock func() int64
}

// Client is the limiter for its callers: it finds the owner of each app. It is
// a limiterv1.LimiterServiceClient.
type Client struct {
	deps  Deps
	met   *metrics
	local *local

	view    atomic.Pointer[view]
	watcher *members.Watcher
	cancel  context.CancelFunc
	done    sync.WaitGroup
	once    sync.Once
}

// view is the living limiters and how to reach them, in the same order.
type view struct {
	members members.Members
	peers   []*peer
}

type metrics struct {
	local *prometheus.CounterVec
	down  prometheus.Gauge
	batch prometheus.Histogram
	lives prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		local: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_limiter_local_decisions_total",
			Help: "Decisions made on a local share because the owning limiter could not be reached.",
		}, []string{"call", "outcome"}),
		down:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "chappe_limiter_owners_unreachable", Help: "Registered limiters that do not answer."}),
		lives: prometheus.NewGauge(prometheus.GaugeOpts{Name: "chappe_limiter_owners", Help: "Registered limiters."}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "chappe_limiter_batch_checks", Help: "Checks sent to a limiter in one request.", Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
	}
	return m, obs.Register(reg, "the limiter client", m.local, m.down, m.batch, m.lives)
}

// NewClient reads the list of limiters and follows it until Stop.
func NewClient(ctx context.Context, deps Deps) (*Client, error) {
	if deps.Shares == nil {
		deps.Shares = func() int { return 1 }
	}
	if deps.Timeout <= 0 {
		deps.Timeout = defaultTimeout
	}
	if deps.Dial == nil {
		deps.Dial = func(addr string) (grpc.ClientConnInterface, func(), error) { return dial(addr, deps.Access) }
	}
	if deps.Clock == nil {
		start := time.Now()
		deps.Clock = func() int64 { return int64(time.Since(start)) }
	}
	m, err := newMetrics(deps.Registerer)
	if err != nil {
		return nil, err
	}
	c := &Client{deps: deps, met: m, local: newLocal(deps.Clock, deps.Shares)}
	c.view.Store(&view{})
	if c.watcher, err = members.Watch(ctx, deps.Etcd, deps.Logger, members.Limiters, c.changed); err != nil {
		c.dropPeers()
		return nil, err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.cancel = cancel
	c.done.Go(func() { c.local.sweep(run) })
	return c, nil
}

// dial tries again soon after a failure: an owner that is back should not wait
// for its callers.
func dial(addr string, access grpcx.Access) (grpc.ClientConnInterface, func(), error) {
	b := backoff.DefaultConfig
	b.BaseDelay, b.MaxDelay = 50*time.Millisecond, 500*time.Millisecond
	conn, err := grpc.NewClient(addr, append(access.DialOptions(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: b, MinConnectTimeout: time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
	)...)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the limiter at %s: %w", addr, err)
	}
	return conn, func() { _ = conn.Close() }, nil
}

// Stop ends the client and waits for its goroutines. It may be called twice.
func (c *Client) Stop() {
	c.once.Do(func() {
		c.watcher.Stop()
		c.cancel()
		c.done.Wait()
		c.dropPeers()
	})
}

func (c *Client) dropPeers() {
	for _, p := range c.view.Swap(&view{}).peers {
		p.stop()
	}
}

// changed connects to the limiters that are new and leaves those that are
// gone. Only the watch calls it.
func (c *Client) changed(live members.Members) {
	old := c.view.Load()
	known := make(map[members.Member]*peer, len(old.peers))
	for _, p := range old.peers {
		known[p.member] = p
	}
	next := &view{}
	for _, m := range live {
		if m.Addr == "" {
			c.deps.Logger.Error("the list of limiters holds one without an address, it is left out", "limiter", m.ID)
			continue
		}
		p, ok := known[m]
		if !ok {
			var err error
			if p, err = c.connect(m); err != nil {
				c.deps.Logger.Error("cannot connect to a limiter", "limiter", m.ID, "addr", m.Addr, obs.KeyError, err)
				continue
			}
		}
		delete(known, m)
		next.members, next.peers = append(next.members, m), append(next.peers, p)
	}
	c.view.Store(next)
	c.met.lives.Set(float64(len(next.peers)))
	for _, p := range known {
		p.stop()
	}
}

func (c *Client) connect(m members.Member) (*peer, error) {
	if m.ID == c.deps.Self && c.deps.SelfConn != nil {
		p := newPeer(m, c.deps.SelfConn, func() {}, c.deps.Timeout, c.met)
		p.direct = true
		return p, nil
	}
	conn, closeConn, err := c.deps.Dial(m.Addr)
	if err != nil {
		return nil, err
	}
	return newPeer(m, conn, closeConn, c.deps.Timeout, c.met), nil
}

// owner gives the limiter that owns an app, nil if none is known.
func (c *Client) owner(org, app string) *peer {
	v := c.view.Load()
	if len(v.members) == 0 {
		return nil
	}
	return v.peers[v.members.Owner(string(ident.NewAppKey(org, app)))]
}

// Check asks the owner of the app, and decides on the local share if it cannot
// be reached or has not heard of the app yet. The error is illegal_argument or an unknown app, never that the
// owner is away.
func (c *Client) Check(ctx context.Context, req *limiterv1.CheckRequest, _ ...grpc.CallOption) (*limiterv1.CheckResponse, error) {
	resp := c.decide(ctx, req)
	switch resp.GetReason() {
	case reasonInvalid:
		return nil, errs.Invalid("the check is not valid: rule must be set and cost at least 1")
	case reasonUnknownApp:
		return nil, errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	return resp, nil
}

func (c *Client) decide(ctx context.Context, req *limiterv1.CheckRequest) *limiterv1.CheckResponse {
	p := c.owner(req.GetOrg(), req.GetApp())
	if p != nil {
		if p.direct {
			// No socket, nothing to gather for.
			if resp, err := p.api.Check(ctx, req); err == nil {
				return resp
			}
		} else if resp, ok := p.check(ctx, req); ok && resp.GetReason() != reasonUnknownApp {
			return resp
		}
	}
	// An owner that does not know the app has not heard of it yet, if this
	// process has.
	app, ok := c.deps.Apps.App(req.GetOrg(), req.GetApp())
	if !ok {
		return &limiterv1.CheckResponse{Reason: reasonUnknownApp}
	}
	if req.GetCost() < 1 || req.GetRule() == "" {
		return &limiterv1.CheckResponse{Reason: reasonInvalid}
	}
	resp := c.local.check(app, req)
	outcome := "admitted"
	if !resp.GetAllowed() {
		outcome = "refused"
	}
	c.met.local.WithLabelValues("check", outcome).Inc()
	return resp
}

// BatchCheck decides on several checks, each by its own owner.
func (c *Client) BatchCheck(ctx context.Context, req *limiterv1.BatchCheckRequest, _ ...grpc.CallOption) (*limiterv1.BatchCheckResponse, error) {
	resp := &limiterv1.BatchCheckResponse{Results: make([]*limiterv1.CheckResponse, len(req.GetChecks()))}
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(maxBatch, len(req.GetChecks())) {
		wg.Go(func() {
			for i := range next {
				resp.Results[i] = c.decide(ctx, req.GetChecks()[i])
			}
		})
	}
	for i := range req.GetChecks() {
		next <- i
	}
	close(next)
	wg.Wait()
	return resp, nil
}

// Reserve asks the owner of the app for deliveries, and paces by the local
// share if it cannot be reached.
func (c *Client) Reserve(ctx context.Context, req *limiterv1.ReserveRequest, opts ...grpc.CallOption) (*limiterv1.ReserveResponse, error) {
	if p := c.owner(req.GetOrg(), req.GetApp()); p != nil && !p.down.Load() {
		pctx, cancel := context.WithTimeout(ctx, c.deps.Timeout)
		resp, err := p.api.Reserve(routed(pctx), req, opts...)
		cancel()
		if err == nil {
			p.late.Store(0)
			return resp, nil
		}
		e := errs.From(err)
		if !away(e) {
			return nil, e
		}
		p.failed(e)
	}
	app, ok := c.deps.Apps.App(req.GetOrg(), req.GetApp())
	if !ok {
		return nil, errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	if req.GetCost() < 1 || req.GetMaxDelayMs() < 0 {
		return nil, errs.Invalid("cost must be at least 1 and max_delay_ms not negative")
	}
	c.met.local.WithLabelValues("reserve", "admitted").Inc()
	return c.local.reserve(app, req.GetCost(), time.Duration(min(req.GetMaxDelayMs(), 86_400_000))*time.Millisecond), nil
}

// ReportBacklog tells the owner of the app.
func (c *Client) ReportBacklog(ctx context.Context, req *limiterv1.ReportBacklogRequest, opts ...grpc.CallOption) (*limiterv1.ReportBacklogResponse, error) {
	p := c.owner(req.GetOrg(), req.GetApp())
	if p == nil {
		return nil, errNone()
	}
	return wrap(p.api.ReportBacklog(routed(ctx), req, opts...))
}

// GetUsage asks the owner of the app.
func (c *Client) GetUsage(ctx context.Context, req *limiterv1.GetUsageRequest, opts ...grpc.CallOption) (*limiterv1.GetUsageResponse, error) {
	p := c.owner(req.GetOrg(), req.GetApp())
	if p == nil {
		return nil, errNone()
	}
	return wrap(p.api.GetUsage(routed(ctx), req, opts...))
}

// away reports whether an error says that the owner was not reached.
func away(e *errs.Error) bool {
	return e.Reason == errs.ReasonUnavailable || e.Reason == errs.ReasonDeadline
}

// wrap makes a call's error the *errs.Error that it was.
func wrap[T any](v T, err error) (T, error) {
	if err != nil {
		var none T
		return none, errs.From(err)
	}
	return v, nil
}

func errNone() error { return errs.Unavailable("the limiter", errors.New("no limiter is registered")) }

var _ limiterv1.LimiterServiceClient = (*Client)(nil)

// routedKey marks, in gRPC metadata, calls that went to the app's owner by
// their caller's list of limiters. If the two lists differ for a moment, the
// limiter that was asked answers, instead of sending the call in circles.
const routedKey = "chappe-routed"

func routed(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, routedKey, "1")
}

// OwnerClient returns the way to an app's owner if that is not the limiter of this
// process; false also for a call that was routed already. It is for limiters
// that are asked by somebody who does not know the owners.
func (c *Client) OwnerClient(ctx context.Context, org, app string) (limiterv1.LimiterServiceClient, bool) {
	p := c.owner(org, app)
	if p == nil || p.direct || p.down.Load() || len(metadata.ValueFromIncomingContext(ctx, routedKey)) > 0 {
		return nil, false
	}
	return c, true
}

// Limiters tells how many limiters are registered.
func (c *Client) Limiters() int { return len(c.view.Load().members) }

// Package rest serves the REST API: grpc-gateway's generated handlers inside a
// chain that adds what they lack. From the outside in that is: request id,
// access log and metrics, recovery, cross-origin rules, the bound on bodies;
// then the mux; then, for a matched route, the app, authentication and the
// query; then decoding; then, in front of the service, what a decoded request
// is allowed and admission. Every answer is a JSON object.
package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/obs"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	"github.com/chappe-im/chappe/services/gateway/auth"
	"github.com/chappe-im/chappe/services/gateway/guard"
	"github.com/chappe-im/chappe/services/gateway/routes"
)

// Config are the settings of a Handler. Zero values stand for defaults, except
// AccessLogEvery.
type Config struct {
	// MaxBodyBytes bounds request bodies; 1 MiB.
	MaxBodyBytes int64
	// TrustedProxies may say in X-Forwarded-… whom they speak for.
	TrustedProxies []netip.Prefix
	// CallTimeout is the deadline of a call to a service; 15 seconds.
	CallTimeout time.Duration
	// AdmissionTimeout is how long a call waits for a limiter elsewhere; 250 ms.
	AdmissionTimeout time.Duration
	// AccessLogEvery logs one call in so many; 0 logs none. Slow calls and those
	// that end in a status of 500 or more are always logged.
	AccessLogEvery int
}

func (c Config) withDefaults() Config {
	if c.MaxBodyBytes == 0 {
		c.MaxBodyBytes = 1 << 20
	}
	if c.CallTimeout == 0 {
		c.CallTimeout = 15 * time.Second
	}
	if c.AdmissionTimeout == 0 {
		c.AdmissionTimeout = 250 * time.Millisecond
	}
	return c
}

// Verifier checks tokens; *auth.Verifier does.
type Verifier interface {
	VerifyFor(app *catalog.App, rawToken string) (auth.Principal, error)
}

// Deps is what a Handler works with.
type Deps struct {
	Conns      Conns
	Apps       auth.Apps
	Verifier   Verifier
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Handler serves the REST API. It holds no connections and no goroutines.
type Handler struct {
	cfg      Config
	apps     auth.Apps
	verifier Verifier
	limiter  limiterv1.LimiterServiceClient
	// limiterRemote says that the limiter is asked over a network, where a
	// question may stay without an answer.
	limiterRemote bool

	logger    *slog.Logger
	metrics   *metrics
	addresses *Addresses

	table routes.Table
	// endpoints are all bindings by "METHOD /pattern", areas the muxes by the
	// third segment of the path.
	endpoints map[string]*endpoint
	areas     map[string]*runtime.ServeMux
	calls     pool

	fromREST    metadata.MD
	idPrefix    string
	served      atomic.Uint64
	ids         atomic.Uint64
	limiterDown throttle

	guard    *guard.Guard
	guardLog throttle
}

// New makes a Handler of a routes table. It fails unless the table has an entry
// for each RPC with a path, and no other.
func New(ctx context.Context, cfg Config, deps Deps, table routes.Table) (*Handler, error) {
	m, err := newMetrics(deps.Registerer)
	if err != nil {
		return nil, err
	}
	g, err := guard.New(time.Now)
	if err != nil {
		return nil, fmt.Errorf("guard of credentials: %w", err)
	}
	h := &Handler{
		guard: g, cfg: cfg.withDefaults(), apps: deps.Apps, verifier: deps.Verifier,
		limiter: limiterv1.NewLimiterServiceClient(deps.Conns.Limiter),
		logger:  deps.Logger, metrics: m, addresses: NewAddresses(cfg.TrustedProxies),
		table: table, endpoints: make(map[string]*endpoint), areas: make(map[string]*runtime.ServeMux),
		fromREST: metadata.Pairs(SourceKey, SourceREST),
		idPrefix: strconv.FormatUint(rand.Uint64(), 36) + "-", // request ids only have to differ
	}
	_, h.limiterRemote = deps.Conns.Limiter.(*grpc.ClientConn)
	if err := h.build(ctx, deps.Conns); err != nil {
		return nil, fmt.Errorf("rest routes: %w", err)
	}
	return h, nil
}

// ServeHTTP serves one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := h.calls.get()
	c.h, c.req, c.began = h, r, time.Now()
	c.w = writer{ResponseWriter: w}
	h.metrics.inFlight.Inc()
	defer func() { h.finish(c, recover()) }()

	c.id = h.requestID(r)
	header := w.Header()
	header["X-Request-Id"] = []string{c.id}
	header["Access-Control-Allow-Origin"] = anyOrigin
	header["Access-Control-Expose-Headers"] = exposedHeaders
	switch {
	case r.Method == http.MethodOptions:
		c.preflight()
	case r.ContentLength > h.cfg.MaxBodyBytes:
		c.fail(errs.TooLarge())
	case !utf8.ValidString(r.URL.Path):
		c.fail(errs.Invalid(errs.MessageInvalidRequest))
	default:
		h.serve(c, r)
	}
}

// enter does for a call what comes before its request is decoded: the app,
// authentication, the query. It reports whether the call may go on; if not, it
// has been answered. r is the mux's request; the call has the caller's.
func (h *Handler) enter(c *call, r *http.Request, params map[string]string) bool {
	app, ok := h.apps.App(params["org"], params["app"])
	if !ok {
		c.fail(errs.AppNotFound(params["org"], params["app"]))
		return false
	}
	c.access.App = app
	if err := h.authenticate(c, params); err != nil {
		c.fail(errs.From(err))
		return false
	}
	form, ok := c.endpoint.query(r.URL.RawQuery)
	if !ok {
		c.fail(c.charge(r.Context(), errs.Invalid(errs.MessageInvalidRequest)))
		return false
	}
	c.access.Pattern = c.endpoint.Path
	if c.endpoint.Body {
		c.form = form // generated handlers of calls with a body leave the query alone
	}
	c.env.App = app
	c.env.Action = lowerMethod(r.Method)
	c.env.Scheme, c.env.Host = h.origin(c.req)
	c.env.Path, c.env.Query = strings.TrimSuffix(c.req.URL.EscapedPath(), "/"), c.req.URL.RawQuery

	r.Form, r.PostForm = form, form
	return true
}

// authenticate applies the route's policy.
func (h *Handler) authenticate(c *call, params map[string]string) error {
	p, err := h.verifier.VerifyFor(c.access.App, auth.Bearer(first(c.req.Header["Authorization"])))
	route := c.endpoint.route
	if c.user = p.User; route.Self != "" {
		// Whoever asks, the call is about the user in the path. What no user
		// ID can be is counted under its beginning.
		c.user = ident.FoldUser(params[route.Self])
		c.user = c.user[:min(len(c.user), maxUserBytes)]
	}
	if route.Policy == routes.Open {
		c.access.Principal, c.access.TokenError = p, err
		return nil
	}
	if err != nil {
		return err
	}
	c.access.Principal = p
	switch {
	case p.IsApp(), route.Policy == routes.AppOrUser:
		return nil
	case route.Policy == routes.AppOrSelf && ident.FoldUser(params[route.Self]) == p.User:
		return nil
	case route.NotSelf != nil:
		return route.NotSelf()
	default:
		return auth.NotAllowed()
	}
}

// maxUserBytes is beyond the longest user ID.
const maxUserBytes = 128

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// noForm is the form of requests whose query sets nothing.
var noForm = url.Values{}

// query keeps what a call's query may set. Of a parameter that comes twice the
// last counts. A flag is set by "true" in any case and by nothing else.
func (e *endpoint) query(raw string) (url.Values, bool) {
	if raw == "" || len(e.route.Query) == 0 {
		return noForm, true
	}
	values, err := routes.ParseForm(raw)
	if err != nil {
		return nil, false
	}
	form := make(url.Values, len(e.route.Query))
	for _, name := range e.route.Query {
		v := values[name]
		if len(v) == 0 {
			continue
		}
		if !utf8.ValidString(v[len(v)-1]) {
			return nil, false
		}
		form[name] = v[len(v)-1:]
		if slices.Contains(e.flags, name) {
			form[name] = []string{strconv.FormatBool(strings.EqualFold(form[name][0], "true"))}
		}
	}
	return form, true
}

// origin gives the scheme and host that the caller used.
func (h *Handler) origin(r *http.Request) (scheme, host string) {
	scheme, host = "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if len(h.cfg.TrustedProxies) == 0 || !h.addresses.Trusted(r) {
		return scheme, host
	}
	if s := strings.ToLower(first(r.Header["X-Forwarded-Proto"])); s == "http" || s == "https" {
		scheme = s
	}
	if s := first(r.Header["X-Forwarded-Host"]); s != "" {
		host = s
	}
	return scheme, host
}

func lowerMethod(method string) string {
	switch method {
	case http.MethodPost:
		return "post"
	case http.MethodGet:
		return "get"
	case http.MethodPut:
		return "put"
	case http.MethodDelete:
		return "delete"
	default:
		return strings.ToLower(method)
	}
}

const maxRequestID = 64

// requestID takes the caller's id of the request if it is a sane one.
func (h *Handler) requestID(r *http.Request) string {
	if id := first(r.Header["X-Request-Id"]); id != "" && saneID(id) {
		return id
	}
	return h.idPrefix + strconv.FormatUint(h.ids.Add(1), 36)
}

func saneID(id string) bool {
	if len(id) > maxRequestID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.', c == ':':
		default:
			return false
		}
	}
	return true
}

// finish ends a call. p is what it panicked with, or nil.
func (h *Handler) finish(c *call, p any) {
	abort := false
	if p != nil {
		abort = h.recovered(c, p)
	}
	h.metrics.inFlight.Dec()
	c.done(time.Since(c.began))
	if abort {
		panic(http.ErrAbortHandler)
	}
	// A call that panicked may be in any state.
	if p == nil {
		h.calls.put(c)
	}
}

// recovered answers for a panic. It reports whether the connection has to be
// broken off instead, because half an answer must not look like a whole one.
func (h *Handler) recovered(c *call, p any) (abort bool) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return true
	}
	h.metrics.panics.Inc()
	h.logger.Error("panic in a request", obs.KeyRequestID, c.id, obs.KeyError, fmt.Sprint(p), "stack", string(debug.Stack()))
	if c.w.status != 0 {
		return true
	}
	c.fail(errs.Internal(nil))
	return false
}

package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
	"github.com/chappe-im/chappe/services/gateway/routes"
)

// Conns lead to the services behind the REST API.
type Conns struct {
	Account, Messaging, Presence, Limiter grpc.ClientConnInterface
}

// registration puts the generated handlers of one service into the mux.
type registration func(ctx context.Context, mux *runtime.ServeMux) error

// registrations lists all services. The mux asks the handlers that came last
// first, so the hottest stand at the end.
func registrations(h *Handler, conns Conns) []registration {
	account := &conn{h: h, next: conns.Account}
	presence := &conn{h: h, next: conns.Presence}
	messaging := &conn{h: h, next: conns.Messaging}
	return []registration{
		func(ctx context.Context, mux *runtime.ServeMux) error {
			return accountv1.RegisterMuteServiceHandlerClient(ctx, mux, accountv1.NewMuteServiceClient(account))
		},
		func(ctx context.Context, mux *runtime.ServeMux) error {
			return accountv1.RegisterPushServiceHandlerClient(ctx, mux, accountv1.NewPushServiceClient(account))
		},
		func(ctx context.Context, mux *runtime.ServeMux) error {
			return accountv1.RegisterRelationServiceHandlerClient(ctx, mux, accountv1.NewRelationServiceClient(account))
		},
		func(ctx context.Context, mux *runtime.ServeMux) error {
			return accountv1.RegisterAttributeServiceHandlerClient(ctx, mux, accountv1.NewAttributeServiceClient(account))
		},
		func(ctx context.Context, mux *runtime.ServeMux) error {
			return presencev1.RegisterConnectionServiceHandlerClient(ctx, mux, presencev1.NewConnectionServiceClient(presence))
		},
		func(ctx context.Context, mux *runtime.ServeMux) error {
			return presencev1.RegisterPresenceServiceHandlerClient(ctx, mux, presencev1.NewPresenceServiceClient(presence))
		},
		func(ctx context.Context, mux *runtime.ServeMux) error {
			return accountv1.RegisterTokenServiceHandlerClient(ctx, mux, accountv1.NewTokenServiceClient(account))
		},
		func(ctx context.Context, mux *runtime.ServeMux) error {
			return accountv1.RegisterUserServiceHandlerClient(ctx, mux, accountv1.NewUserServiceClient(account))
		},
		func(ctx context.Context, mux *runtime.ServeMux) error {
			return messagingv1.RegisterMessagingServiceHandlerClient(ctx, mux, messagingv1.NewMessagingServiceClient(messaging))
		},
	}
}

// endpoint is one path pattern of one RPC.
type endpoint struct {
	route   *routes.Route
	pattern string
	// segments of the pattern; a parameter is empty and has its name in params.
	segments, params []string
	methods          []string
	// next is the generated handler.
	next   runtime.HandlerFunc
	meters map[string]meters
}

func newEndpoint(route *routes.Route, pattern string, next runtime.HandlerFunc) *endpoint {
	e := &endpoint{route: route, pattern: pattern, next: next, meters: make(map[string]meters)}
	for s := range strings.SplitSeq(strings.TrimPrefix(pattern, "/"), "/") {
		param := ""
		if strings.HasPrefix(s, "{") {
			s, param = "", strings.Trim(s, "{}")
		}
		e.segments, e.params = append(e.segments, s), append(e.params, param)
	}
	return e
}

func (e *endpoint) matches(path string) bool {
	rest := strings.TrimPrefix(path, "/")
	for i, want := range e.segments {
		segment, more, found := strings.Cut(rest, "/")
		if want != "" && segment != want || found == (i == len(e.segments)-1) {
			return false
		}
		rest = more
	}
	return true
}

// example is a path that matches.
func (e *endpoint) example() string {
	var b strings.Builder
	for _, s := range e.segments {
		b.WriteByte('/')
		if s == "" {
			s = "x"
		}
		b.WriteString(s)
	}
	return b.String()
}

// probe asks generated handlers what they are for. The generated code does not
// tell otherwise; it does put the RPC's name and the path pattern into the
// context before it looks at a request, and then misses the parameters.
type probe struct {
	method, pattern string
	matched         *endpoint
	params          map[string]string
}

type probeKey struct{}

func probeFrom(ctx context.Context) *probe {
	p, _ := ctx.Value(probeKey{}).(*probe)
	return p
}

func (p *probe) request(method, path string) *http.Request {
	r := &http.Request{Method: method, URL: &url.URL{Path: path}, Header: http.Header{}, Body: http.NoBody}
	return r.WithContext(context.WithValue(context.Background(), probeKey{}, p))
}

// nowhere takes the answers to probes.
type nowhere struct{}

// Header gives a header that is lost.
func (nowhere) Header() http.Header { return http.Header{} }

// Write drops b.
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader does nothing.
func (nowhere) WriteHeader(int) {}

// build makes the mux and its endpoints.
func (h *Handler) build(ctx context.Context, table routes.Table, conns Conns) error {
	var problems []error
	middleware := func(next runtime.HandlerFunc) runtime.HandlerFunc {
		p := &probe{}
		next(nowhere{}, p.request(http.MethodGet, "/"), nil)
		route, ok := table[p.method]
		if !ok {
			problems = append(problems, fmt.Errorf("%q %s has no entry in the routes table", p.method, p.pattern))
			return next
		}
		e := newEndpoint(route, p.pattern, next)
		h.endpoints = append(h.endpoints, e)
		return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
			h.serveRouted(e, next, w, r, params)
		}
	}
	drop := func(string) (string, bool) { return "", false }
	h.mux = runtime.NewServeMux(
		runtime.WithMiddlewares(middleware),
		runtime.WithMarshalerOption(runtime.MIMEWildcard, marshaler{}),
		runtime.WithForwardResponseRewriter(rewrite),
		runtime.WithErrorHandler(h.onError),
		runtime.WithRoutingErrorHandler(h.onRoutingError),
		runtime.WithIncomingHeaderMatcher(drop),
		runtime.WithOutgoingHeaderMatcher(drop),
		runtime.WithOutgoingTrailerMatcher(drop),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
	)
	for _, register := range registrations(h, conns) {
		if err := register(ctx, h.mux); err != nil {
			problems = append(problems, err)
		}
	}
	for _, e := range h.endpoints {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			p := &probe{}
			h.mux.ServeHTTP(nowhere{}, p.request(method, e.example()))
			if p.matched == e {
				e.methods = append(e.methods, method)
				e.meters[method] = h.metrics.metersOf(e.pattern, method)
				if !h.router.add(method, e) {
					problems = append(problems, fmt.Errorf("%s has too many segments", e.pattern))
				}
			}
		}
		if len(e.methods) == 0 {
			problems = append(problems, fmt.Errorf("%s is never reached", e.pattern))
		}
	}
	return errors.Join(problems...)
}

// rewrite puts the call in the place of its answer; the marshaler knows what
// to make of it.
func rewrite(ctx context.Context, resp proto.Message) (any, error) {
	c := callFrom(ctx)
	if c == nil {
		return nil, errNoCall
	}
	c.resp = resp
	return c, nil
}

// onError answers calls that a generated handler or a service failed.
func (h *Handler) onError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, _ http.ResponseWriter, _ *http.Request, err error) {
	if p := probeFrom(ctx); p != nil {
		p.method, _ = runtime.RPCMethod(ctx)
		p.pattern, _ = runtime.HTTPPathPattern(ctx)
		return
	}
	c := callFrom(ctx)
	if c == nil {
		return
	}
	switch {
	case c.failure != nil:
		c.fail(c.charge(ctx, errs.From(c.failure)))
	case c.message == nil:
		// Nothing was decoded, so it is a path or query that does not fit.
		c.fail(c.charge(ctx, errs.Invalid(errs.MessageInvalidRequest)))
	default:
		c.fail(errs.From(err))
	}
}

// onRoutingError answers what matches no route.
func (h *Handler) onRoutingError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, _ http.ResponseWriter, _ *http.Request, status int) {
	c := callFrom(ctx)
	if c == nil {
		return
	}
	switch status {
	case http.StatusMethodNotAllowed:
		c.fail(methodNotAllowed())
	case http.StatusNotFound:
		c.fail(h.notFound(c.req.URL.Path))
	default:
		c.fail(errs.Invalid(errs.MessageInvalidRequest))
	}
}

// notFound tells an unknown app from an unknown path within one.
func (h *Handler) notFound(path string) *errs.Error {
	parts := strings.SplitN(strings.TrimPrefix(path, "/"), "/", 3)
	if len(parts) == 3 {
		if _, ok := h.apps.App(parts[0], parts[1]); !ok {
			return errs.AppNotFound(parts[0], parts[1])
		}
	}
	return errs.NotFound()
}

// allowed lists the methods of a path.
func (h *Handler) allowed(path string) string {
	var methods []string
	for _, e := range h.endpoints {
		if e.matches(path) {
			methods = append(methods, e.methods...)
		}
	}
	slices.Sort(methods)
	return strings.Join(append(slices.Compact(methods), http.MethodOptions), ", ")
}

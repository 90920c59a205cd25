package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

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

// service is a gRPC service with REST calls.
type service struct {
	name string
	// register puts its generated handlers into a mux.
	register func(ctx context.Context, mux *runtime.ServeMux) error
}

// generated binds a service's generated handlers to a connection.
func generated[C any](
	name string, register func(context.Context, *runtime.ServeMux, C) error, client func(grpc.ClientConnInterface) C, conn grpc.ClientConnInterface,
) service {
	return service{name, func(ctx context.Context, mux *runtime.ServeMux) error { return register(ctx, mux, client(conn)) }}
}

// services lists all services. A mux tries the handlers that came last first,
// so the hottest stand at the end.
func services(account, presence, messaging grpc.ClientConnInterface) []service {
	return []service{
		generated(accountv1.MuteService_ServiceDesc.ServiceName, accountv1.RegisterMuteServiceHandlerClient, accountv1.NewMuteServiceClient, account),
		generated(accountv1.PushService_ServiceDesc.ServiceName, accountv1.RegisterPushServiceHandlerClient, accountv1.NewPushServiceClient, account),
		generated(accountv1.RelationService_ServiceDesc.ServiceName, accountv1.RegisterRelationServiceHandlerClient, accountv1.NewRelationServiceClient, account),
		generated(accountv1.AttributeService_ServiceDesc.ServiceName, accountv1.RegisterAttributeServiceHandlerClient, accountv1.NewAttributeServiceClient, account),
		generated(presencev1.ConnectionService_ServiceDesc.ServiceName, presencev1.RegisterConnectionServiceHandlerClient, presencev1.NewConnectionServiceClient, presence),
		generated(presencev1.PresenceService_ServiceDesc.ServiceName, presencev1.RegisterPresenceServiceHandlerClient, presencev1.NewPresenceServiceClient, presence),
		generated(accountv1.TokenService_ServiceDesc.ServiceName, accountv1.RegisterTokenServiceHandlerClient, accountv1.NewTokenServiceClient, account),
		generated(accountv1.UserService_ServiceDesc.ServiceName, accountv1.RegisterUserServiceHandlerClient, accountv1.NewUserServiceClient, account),
		generated(messagingv1.MessagingService_ServiceDesc.ServiceName, messagingv1.RegisterMessagingServiceHandlerClient, messagingv1.NewMessagingServiceClient, messaging),
	}
}

// endpoint is one binding of one RPC, as it is served.
type endpoint struct {
	routes.Binding

	route *routes.Route
	// flags are those fields of the query that are true or false.
	flags []string
	meters
}

// build makes the endpoints and, for each area of the paths, a mux with the
// services that have calls in it.
func (h *Handler) build(ctx context.Context, conns Conns) error {
	bindings, err := routes.Bindings()
	if err != nil {
		return err
	}
	var problems []error
	served := make(map[string]bool)
	needed := make(map[string]map[string]bool) // the services of each area
	for _, b := range bindings {
		route, ok := h.table[b.RPC]
		if !ok {
			problems = append(problems, fmt.Errorf("%s has a path and no entry in the routes table", b.RPC))
			continue
		}
		served[b.RPC] = true
		e := &endpoint{Binding: b, route: route, meters: h.metrics.metersOf(b.Path, b.Method)}
		for _, name := range route.Query {
			f := route.Descriptor().Input().Fields().ByJSONName(name)
			switch {
			case f == nil:
				problems = append(problems, fmt.Errorf("%s has no field %s for its query", b.RPC, name))
			case f.Kind() == protoreflect.BoolKind:
				e.flags = append(e.flags, name)
			}
		}
		h.endpoints[b.Method+" "+b.Path] = e
		if needed[b.Area()] == nil {
			needed[b.Area()] = make(map[string]bool)
		}
		needed[b.Area()][b.Service()] = true
	}
	for rpc := range h.table {
		if !served[rpc] {
			problems = append(problems, fmt.Errorf("%s has an entry in the routes table and no path", rpc))
		}
	}
	messaging := h.checked(conns.Messaging)
	all := services(h.checked(conns.Account), h.checked(conns.Presence), messaging)
	for area, names := range needed {
		mux := h.newMux()
		for _, s := range all {
			if names[s.name] {
				problems = append(problems, s.register(ctx, mux))
				delete(names, s.name)
			}
		}
		for name := range names {
			problems = append(problems, fmt.Errorf("%s has paths and is not among the services", name))
		}
		h.areas[area] = mux
	}
	for _, own := range h.handlers(messaging) {
		mux := h.areas[routes.Area(own.path)]
		if h.endpoints[own.method+" "+own.path] == nil || mux == nil {
			problems = append(problems, fmt.Errorf("%s %s has a handler and is not in proto/http.yaml", own.method, own.path))
			continue
		}
		problems = append(problems, mux.HandlePath(own.method, own.path, own.serve))
	}
	return errors.Join(problems...)
}

func (h *Handler) newMux() *runtime.ServeMux {
	drop := func(string) (string, bool) { return "", false }
	return runtime.NewServeMux(
		runtime.WithMiddlewares(h.admitCaller),
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
}

// serve finds the area of a call and lets its mux serve it, with a copy of the
// request that has only what the mux and the handlers should see: nothing of a
// request becomes gRPC metadata, and its body is read by the call.
func (h *Handler) serve(c *call, r *http.Request) {
	r = r.WithContext(&callContext{Context: r.Context(), c: c})
	r.Header, r.Host, r.RemoteAddr = nil, "", ""
	r.Body = lazyBody{c}
	if !strings.HasPrefix(r.URL.Path, "/") {
		c.fail(errs.Invalid(errs.MessageInvalidRequest))
		return
	}
	u, ok := plain(r.Method, r.URL)
	if !ok || slashInSegment(r.URL) {
		c.fail(h.notFound(c.req.URL))
		return
	}
	r.URL = u
	mux, ok := h.areas[routes.Area(r.URL.Path)]
	if !ok {
		c.fail(h.notFound(c.req.URL))
		return
	}
	mux.ServeHTTP(&c.w, r)
}

// admitCaller is the middleware of all handlers: it does for a call what needs
// no decoded request, before anything of its body is read.
func (h *Handler) admitCaller(next runtime.HandlerFunc) runtime.HandlerFunc {
	// The mux tells a handler's pattern to the calls of the handler only.
	var known atomic.Pointer[endpoint]
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		c := callFrom(r.Context())
		e := known.Load()
		if e == nil {
			pattern, _ := runtime.HTTPPattern(r.Context())
			e = h.endpoints[r.Method+" "+strings.ReplaceAll(pattern.String(), "=*}", "}")]
			known.Store(e)
		}
		if c == nil || e == nil {
			panic(fmt.Sprintf("rest: %s %s is none of the bindings", r.Method, r.URL.Path))
		}
		c.endpoint = e
		if h.enter(c, r, params) {
			next(w, r, params)
		}
	}
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
	switch {
	case c == nil:
	case status == http.StatusMethodNotAllowed:
		c.fail(methodNotAllowed())
	case status == http.StatusNotFound:
		c.fail(h.notFound(c.req.URL))
	default:
		c.fail(errs.Invalid(errs.MessageInvalidRequest))
	}
}

// notFound tells an unknown app from an unknown path within one.
func (h *Handler) notFound(u *url.URL) *errs.Error {
	parts := strings.SplitN(strings.TrimPrefix(u.EscapedPath(), "/"), "/", 3)
	if len(parts) == 3 {
		org, _ := url.PathUnescape(parts[0]) // it is an escaped path
		app, _ := url.PathUnescape(parts[1])
		if _, ok := h.apps.App(org, app); !ok {
			return errs.AppNotFound(org, app)
		}
	}
	return errs.NotFound()
}

// allowed lists the methods of a path.
func (h *Handler) allowed(path string) string {
	var methods []string
	for _, e := range h.endpoints {
		if matches(e.Path, path) {
			methods = append(methods, e.Method)
		}
	}
	slices.Sort(methods)
	return strings.Join(append(slices.Compact(methods), http.MethodOptions), ", ")
}

// matches reports whether a path is one of a pattern.
func matches(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	return len(want) == len(got) && !slices.ContainsFunc(want, func(s string) bool {
		g := got[0]
		got = got[1:]
		return s != g && !strings.HasPrefix(s, "{")
	})
}

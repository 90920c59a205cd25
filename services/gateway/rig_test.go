package gateway_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/pkg/tier"
	"github.com/chappe-im/chappe/pkg/token"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
	"github.com/chappe-im/chappe/services/gateway"
)

// apps is a catalog of fixed apps.
type apps map[string]*catalog.App

func (a apps) App(org, app string) (*catalog.App, bool) {
	x, ok := a[org+"/"+app]
	return x, ok
}

type nothingRevoked struct{}

func (nothingRevoked) Revoked(string, string, time.Time) bool { return false }

// backend stands for all services: it records calls and answers with what the
// test says.
type backend struct {
	mu       sync.Mutex
	answers  map[string]answerer
	calls    []recorded
	checks   []*limiterv1.CheckRequest
	check    func(*limiterv1.CheckRequest) (*limiterv1.CheckResponse, error)
	metadata metadata.MD
}

type answerer = func(context.Context, proto.Message) (proto.Message, error)

type recorded struct {
	method string
	req    proto.Message
}

// answer sets what an RPC answers.
func (b *backend) answer(method string, resp proto.Message, err error) {
	b.answerFunc(method, func(context.Context, proto.Message) (proto.Message, error) { return resp, err })
}

func (b *backend) answerFunc(method string, f answerer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers[method] = f
}

// last gives the newest request of a type.
func last[T proto.Message](t *testing.T, b *backend) T {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := len(b.calls) - 1; i >= 0; i-- {
		if m, ok := b.calls[i].req.(T); ok {
			return m
		}
	}
	var none T
	require.Failf(t, "no such call", "%T", none)
	return none
}

func (b *backend) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.calls)
}

func (b *backend) admitted() []*limiterv1.CheckRequest {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*limiterv1.CheckRequest(nil), b.checks...)
}

// intercept answers every call in the place of the services.
func (b *backend) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
	m := proto.Clone(req.(proto.Message))
	b.mu.Lock()
	if check, ok := m.(*limiterv1.CheckRequest); ok {
		b.checks = append(b.checks, check)
		f := b.check
		b.mu.Unlock()
		if f != nil {
			return f(check)
		}
		return &limiterv1.CheckResponse{Allowed: true}, nil
	}
	b.calls = append(b.calls, recorded{info.FullMethod, m})
	b.metadata, _ = metadata.FromIncomingContext(ctx)
	f := b.answers[info.FullMethod]
	b.mu.Unlock()
	if f == nil {
		return nil, context.DeadlineExceeded
	}
	resp, err := f(ctx, m)
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// through puts the backend in front of services that never are called.
type through struct {
	ch *grpcx.Channel
	b  *backend
}

func (x through) RegisterService(desc *grpc.ServiceDesc, impl any) {
	d := *desc
	d.Methods = append([]grpc.MethodDesc(nil), desc.Methods...)
	for i, m := range d.Methods {
		full := "/" + d.ServiceName + "/" + m.MethodName
		handler := m.Handler
		d.Methods[i].Handler = func(srv any, ctx context.Context, dec func(any) error, outer grpc.UnaryServerInterceptor) (any, error) {
			return handler(srv, ctx, dec, func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				answer := func(ctx context.Context, req any) (any, error) {
					return x.b.intercept(ctx, req, &grpc.UnaryServerInfo{Server: srv, FullMethod: full}, next)
				}
				if outer == nil {
					return answer(ctx, req)
				}
				return outer(ctx, req, info, answer)
			})
		}
	}
	x.ch.RegisterService(&d, impl)
}

// rig is a gateway before a backend, on a real listener.
type rig struct {
	*backend
	t    *testing.T
	url  string
	app  *catalog.App
	open *catalog.App
	reg  *prometheus.Registry
}

const appUUID = "b7d3c5a0-1f0e-11ee-8a44-5d0c9be1f201"

func newRig(t *testing.T, change ...func(*gateway.Config, *gateway.Deps)) *rig {
	t.Helper()
	key := func(s string) []token.Key {
		return []token.Key{{ID: 1, Secret: []byte("a secret of some length for " + s)}}
	}
	r := &rig{
		backend: &backend{answers: make(map[string]answerer)}, t: t,
		app: &catalog.App{
			Org: "acme", Name: "chat", Key: "acme#chat", Number: 1, UUID: appUUID,
			Registration: catalog.RegistrationAuthorized, Keys: key("acme/chat"), Tier: enterprise(t),
		},
		open: &catalog.App{
			Org: "acme", Name: "open", Key: "acme#open", Number: 2, UUID: appUUID,
			Registration: catalog.RegistrationOpen, Keys: key("acme/open"), Tier: enterprise(t),
		},
		reg: prometheus.NewRegistry(),
	}
	ch := grpcx.NewChannel(grpcx.NewInterceptors(testkit.Logger(t), prometheus.NewRegistry()))
	reg := through{ch, r.backend}
	accountv1.RegisterUserServiceServer(reg, accountv1.UnimplementedUserServiceServer{})
	accountv1.RegisterTokenServiceServer(reg, accountv1.UnimplementedTokenServiceServer{})
	accountv1.RegisterAttributeServiceServer(reg, accountv1.UnimplementedAttributeServiceServer{})
	accountv1.RegisterRelationServiceServer(reg, accountv1.UnimplementedRelationServiceServer{})
	accountv1.RegisterMuteServiceServer(reg, accountv1.UnimplementedMuteServiceServer{})
	presencev1.RegisterPresenceServiceServer(reg, presencev1.UnimplementedPresenceServiceServer{})
	presencev1.RegisterConnectionServiceServer(reg, presencev1.UnimplementedConnectionServiceServer{})
	messagingv1.RegisterMessagingServiceServer(reg, messagingv1.UnimplementedMessagingServiceServer{})
	limiterv1.RegisterLimiterServiceServer(reg, limiterv1.UnimplementedLimiterServiceServer{})

	cfg := gateway.Config{Listen: "127.0.0.1:0", AccessLogEvery: 1}
	deps := gateway.Deps{
		Conns:       gateway.Conns{Account: ch.Conn(), Messaging: ch.Conn(), Presence: ch.Conn(), Limiter: ch.Conn()},
		Apps:        apps{"acme/chat": r.app, "acme/open": r.open},
		Revocations: nothingRevoked{}, Logger: testkit.Logger(t), Registerer: r.reg,
	}
	for _, f := range change {
		f(&cfg, &deps)
	}
	g, err := gateway.New(t.Context(), cfg, deps)
	require.NoError(t, err)
	require.NoError(t, g.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		require.NoError(t, g.Stop(ctx))
	})
	r.url = "http://" + g.Addr()
	return r
}

func sign(app *catalog.App, kind token.Kind, user string) string {
	now := time.Now()
	return token.Sign(app.Keys[0], token.Claims{Kind: kind, App: app.Number, User: user, IssuedAt: now, ExpiresAt: now.Add(time.Hour)})
}

func (r *rig) appToken() string             { return sign(r.app, token.App, "") }
func (r *rig) userToken(user string) string { return sign(r.app, token.User, user) }

// reply is an answer with its body read.
type reply struct {
	status int
	header http.Header
	text   string
	body   map[string]any
}

// request is a call as a test writes it.
type request struct {
	method, path, body string
	token              string // app token unless set; "-" sends none
	header             map[string]string
}

func (r *rig) do(q request) reply {
	r.t.Helper()
	var body io.Reader
	if q.body != "" {
		body = strings.NewReader(q.body)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), q.method, r.url+q.path, body)
	require.NoError(r.t, err)
	switch q.token {
	case "":
		req.Header.Set("Authorization", "Bearer "+r.appToken())
	case "-":
	default:
		req.Header.Set("Authorization", "Bearer "+q.token)
	}
	for k, v := range q.header {
		if k == "Host" {
			req.Host = v
		}
		req.Header.Set(k, v)
	}
	return send(r.t, req)
}

func send(t *testing.T, req *http.Request) reply {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	out := reply{status: resp.StatusCode, header: resp.Header, text: string(b)}
	require.NoError(t, json.Unmarshal(b, &out.body), "every answer is a JSON object: %s", b)
	require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	require.Equal(t, "*", resp.Header.Get("Access-Control-Allow-Origin"))
	require.NotEmpty(t, resp.Header.Get("X-Request-Id"))
	return out
}

// fails checks an error answer field by field.
func (x reply) fails(t *testing.T, status int, name, description string) {
	t.Helper()
	require.Equal(t, status, x.status, x.text)
	require.Equal(t, name, x.body["error"], x.text)
	if description != "" {
		require.Equal(t, description, x.body["error_description"], x.text)
	}
	require.NotEmpty(t, x.body["exception"])
	require.IsType(t, float64(0), x.body["timestamp"])
	require.IsType(t, float64(0), x.body["duration"])
}

func trusting(networks ...string) func(*gateway.Config, *gateway.Deps) {
	return func(c *gateway.Config, _ *gateway.Deps) {
		for _, n := range networks {
			c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix(n))
		}
	}
}

func newRegistry() *prometheus.Registry { return prometheus.NewRegistry() }

func amelia() *accountv1.User {
	return &accountv1.User{
		Uuid: "6c1f2e40-7a55-11ee-9c3b-0b6d2f1a9e77", Created: 1700000000123, Modified: 1700000000123,
		Username: "amelia", Activated: true, Nickname: proto.String("Amelia P."),
	}
}

// enterprise returns the compiled-in tier of that name.
func enterprise(t *testing.T) *tier.Compiled {
	t.Helper()
	docs, err := tier.Seeds()
	require.NoError(t, err)
	for _, d := range docs {
		if d.Name == "enterprise" {
			compiled, err := tier.Compile(d)
			require.NoError(t, err)
			return compiled
		}
	}
	require.FailNow(t, "there is no such tier")
	return nil
}

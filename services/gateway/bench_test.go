package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/token"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	"github.com/chappe-im/chappe/services/gateway"
)

const benchBody = `{"from":"shop","to":["lena"],"type":"txt","body":{"msg":"see you at nine, at the usual place"},"ext":{"order":17}}`

type benchMessaging struct {
	messagingv1.UnimplementedMessagingServiceServer
}

func (benchMessaging) SendToUsers(_ context.Context, req *messagingv1.SendToUsersRequest) (*messagingv1.SendToUsersResponse, error) {
	return &messagingv1.SendToUsersResponse{Results: []*messagingv1.SendResult{{Target: req.GetTo()[0], MessageId: "1212345678901234567"}}}, nil
}

type benchLimiter struct {
	limiterv1.UnimplementedLimiterServiceServer
}

func (benchLimiter) Check(context.Context, *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error) {
	return &limiterv1.CheckResponse{Allowed: true, Limit: 6000, Remaining: 5000}, nil
}

func benchGateway(b *testing.B) (*gateway.Gateway, string) {
	b.Helper()
	logger := slog.New(slog.DiscardHandler)
	ch := grpcx.NewChannel(grpcx.NewInterceptors(logger, prometheus.NewRegistry()))
	messagingv1.RegisterMessagingServiceServer(ch, benchMessaging{})
	limiterv1.RegisterLimiterServiceServer(ch, benchLimiter{})
	app := &catalog.App{
		Org: "acme", Name: "chat", Key: "acme#chat", Number: 1, UUID: appUUID,
		Keys: []token.Key{{ID: 1, Secret: []byte("a secret of some length")}},
	}
	g, err := gateway.New(b.Context(), gateway.Config{Listen: "127.0.0.1:0", AccessLogEvery: 100}, gateway.Deps{
		Conns: gateway.Conns{Account: ch.Conn(), Messaging: ch.Conn(), Presence: ch.Conn(), Limiter: ch.Conn()},
		Apps:  apps{"acme/chat": app}, Revocations: nothingRevoked{}, Logger: logger, Registerer: prometheus.NewRegistry(),
	})
	require.NoError(b, err)
	return g, token.Sign(app.Keys[0], token.Claims{Kind: token.App, App: 1, IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)})
}

// echo is the plain JSON handler that sends are measured against.
func echo(w http.ResponseWriter, r *http.Request) {
	var m struct {
		From string          `json:"from"`
		To   []string        `json:"to"`
		Type string          `json:"type"`
		Body json.RawMessage `json:"body"`
		Ext  json.RawMessage `json:"ext"`
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(m)
}

// cpu reports the processor time of an operation, which holds on a busy
// machine.
func cpu(b *testing.B) func() {
	b.Helper()
	spent := func() time.Duration {
		var u syscall.Rusage
		require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	began := spent()
	return func() { b.ReportMetric(float64(spent()-began)/float64(b.N), "cpu-ns/op") }
}

type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkHandler measures the handlers without the HTTP server.
func BenchmarkHandler(b *testing.B) {
	g, bearer := benchGateway(b)
	for name, h := range map[string]http.Handler{"send": g, "echo": http.HandlerFunc(echo)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			body := []byte(benchBody)
			reader := bytes.NewReader(body)
			template, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://127.0.0.1/acme/chat/messages/users", reader)
			require.NoError(b, err)
			template.RemoteAddr = "127.0.0.1:1234"
			template.Header.Set("Authorization", "Bearer "+bearer)
			template.Header.Set("Content-Type", "application/json")
			template.Body = io.NopCloser(reader)
			w := &discard{h: make(http.Header)}
			report := cpu(b)
			for b.Loop() {
				reader.Reset(body)
				r := *template
				clear(w.h)
				h.ServeHTTP(w, &r)
			}
			report()
		})
	}
}

// BenchmarkServer measures both behind a real HTTP server on loopback; the
// client is the same for both.
func BenchmarkServer(b *testing.B) {
	g, bearer := benchGateway(b)
	for name, h := range map[string]http.Handler{"send": g, "echo": http.HandlerFunc(echo)} {
		b.Run(name, func(b *testing.B) {
			srv := httptest.NewServer(h)
			defer srv.Close()
			client := srv.Client()
			client.Transport.(*http.Transport).MaxIdleConnsPerHost = 64 //nolint:forcetypeassert // httptest's
			b.ReportAllocs()
			b.SetParallelism(16)
			report := cpu(b)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, srv.URL+"/acme/chat/messages/users", bytes.NewReader([]byte(benchBody)))
					if err != nil {
						b.Error(err)
						return
					}
					req.Header.Set("Authorization", "Bearer "+bearer)
					resp, err := client.Do(req)
					if err != nil {
						b.Error(err)
						return
					}
					if resp.StatusCode != http.StatusOK {
						b.Error(resp.Status)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			})
			report()
		})
	}
}

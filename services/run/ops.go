package run

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/chappe-im/chappe/pkg/secrets"
	"github.com/chappe-im/chappe/services/gateway/openapi"
	"github.com/chappe-im/chappe/services/messaging"
)

// opsServer serves operators on a private address: metrics, health, profiles,
// and the description of the REST API.
type opsServer struct {
	server *http.Server
	lis    net.Listener
	ready  atomic.Bool
	done   chan error
}

// health is what /readyz answers.
type health struct {
	Ready bool `json:"ready"`
	// Dependencies tells what can be reached right now.
	Dependencies map[string]bool `json:"dependencies"`
	// Reasons are why the process is not ready, besides dependencies.
	Reasons []string `json:"reasons,omitempty"`
	// Log is how the message log is, in processes that run messaging.
	Log *messaging.LogHealth `json:"log,omitempty"`
}

// startOps listens at once, so that a probe sees a process that is starting.
// Unless access is empty, metrics and profiles ask for one of its secrets; health
// does not, because probes have none. look tells how what the process depends on
// is.
func startOps(ctx context.Context, addr string, access secrets.Set, reg *prometheus.Registry, look func() health) (*opsServer, error) {
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	o := &opsServer{lis: lis, done: make(chan error, 1)}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", guard(access, promhttp.HandlerFor(reg, promhttp.HandlerOpts{})))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		h := look()
		h.Ready = o.ready.Load() && len(h.Reasons) == 0
		for _, up := range h.Dependencies {
			h.Ready = h.Ready && up
		}
		status := http.StatusOK
		if !h.Ready {
			status = http.StatusServiceUnavailable
		}
		answer(w, status, h)
	})
	mux.HandleFunc("GET "+openapi.Path, openapi.Handler)
	for path, h := range map[string]http.HandlerFunc{
		"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
	} {
		mux.Handle("/debug/pprof/"+path, guard(access, h))
	}
	o.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { o.done <- o.server.Serve(lis) }()
	return o, nil
}

// guard asks for a secret of the set as a bearer token; an empty set asks nobody.
func guard(access secrets.Set, next http.Handler) http.Handler {
	if access.Empty() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || !access.Accepts(secret) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "this address needs the secret of --ops-secret-file as a bearer token", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (o *opsServer) stop(ctx context.Context) error {
	if err := o.server.Shutdown(ctx); err != nil {
		_ = o.server.Close()
	}
	if err := <-o.done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

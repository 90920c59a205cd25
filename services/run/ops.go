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
)

// opsServer serves operators on a private address: metrics, health, profiles.
type opsServer struct {
	server *http.Server
	lis    net.Listener
	ready  atomic.Bool
	done   chan error
}

// startOps listens at once, so that a probe sees a process that is starting.
// Unless access is empty, metrics and profiles ask for one of its secrets; health
// does not, because probes have none. healthy tells whether what the process
// depends on can be reached.
func startOps(ctx context.Context, addr string, access secrets.Set, reg *prometheus.Registry, healthy func() map[string]bool) (*opsServer, error) {
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
		deps := healthy()
		ok := o.ready.Load()
		for _, up := range deps {
			ok = ok && up
		}
		status := http.StatusOK
		if !ok {
			status = http.StatusServiceUnavailable
		}
		answer(w, status, map[string]any{"ready": ok, "dependencies": deps})
	})
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

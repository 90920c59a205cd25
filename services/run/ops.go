package run

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/chappe-im/chappe/services/gateway/openapi"
)

// opsServer serves operators on a private address: metrics, health, profiles,
// and the description of the REST API.
type opsServer struct {
	server *http.Server
	lis    net.Listener
	ready  atomic.Bool
	done   chan error
}

// startOps listens at once, so that a probe sees a process that is starting.
// healthy tells whether what the process depends on can be reached.
func startOps(ctx context.Context, addr string, reg *prometheus.Registry, healthy func() map[string]bool) (*opsServer, error) {
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	o := &opsServer{lis: lis, done: make(chan error, 1)}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
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
	mux.HandleFunc("GET "+openapi.Path, openapi.Handler)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	o.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { o.done <- o.server.Serve(lis) }()
	return o, nil
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

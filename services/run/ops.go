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

	"github.com/chappe-im/chappe/services/messaging"
)

// opsServer serves operators on a private address: metrics, health, profiles.
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
// look tells how what the process depends on is.
func startOps(ctx context.Context, addr string, reg *prometheus.Registry, look func() health) (*opsServer, error) {
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

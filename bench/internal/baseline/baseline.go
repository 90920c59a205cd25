// Package baseline holds the plain servers that Chappe is compared with. Each
// does the least that a server of its kind must do, and nothing more.
package baseline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/chappe-im/chappe/pkg/embed"
	"github.com/chappe-im/chappe/pkg/natsx"
)

// Server is a baseline that is being served.
type Server struct {
	// Addr is host:port.
	Addr string

	http    *http.Server
	cleanup []func()
	done    chan error
}

// serve starts a handler on addr; cleanup runs when the server has stopped.
func serve(addr string, h http.Handler, cleanup ...func()) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	s := &Server{
		Addr:    l.Addr().String(),
		http:    &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second},
		cleanup: cleanup,
		done:    make(chan error, 1),
	}
	go func() { s.done <- s.http.Serve(l) }()
	return s, nil
}

// Stop ends the server and what belongs to it.
func (s *Server) Stop(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if serveErr := <-s.done; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	for _, f := range s.cleanup {
		f()
	}
	return err
}

// message is the request that the echoes take apart and put together again.
type message struct {
	From string          `json:"from,omitempty"`
	To   []string        `json:"to"`
	Type string          `json:"type"`
	Body json.RawMessage `json:"body"`
	Ext  json.RawMessage `json:"ext,omitempty"`
}

func echo(before func(ctx context.Context, m []byte) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out, err := json.Marshal(m)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if before != nil {
			if err := before(r.Context(), out); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(out)
	})
}

// Echo serves JSON in, JSON out with net/http and encoding/json.
func Echo(addr string) (*Server, error) { return serve(addr, echo(nil)) }

// publishTimeout bounds the wait for an acknowledgement.
const publishTimeout = 10 * time.Second

// Publish is Echo with one publish into an embedded JetStream stream, on disk
// under dir, acknowledged before the answer.
func Publish(ctx context.Context, addr, dir string) (*Server, error) {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	nats, err := embed.StartNATS(embed.NATSConfig{Dir: dir, Logger: logger})
	if err != nil {
		return nil, err
	}
	conn, err := natsx.Connect(ctx, natsx.Config{InProcess: nats, Name: "baseline", Logger: logger})
	if err != nil {
		nats.Stop()
		return nil, err
	}
	stop := func() {
		ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
		defer cancel()
		_ = conn.Drain(ctx)
		nats.Stop()
	}
	if err := conn.EnsureStream(ctx, natsx.StreamSpec{Name: "BASELINE", Subjects: []string{"baseline"}}); err != nil {
		stop()
		return nil, err
	}
	s, err := serve(addr, echo(func(ctx context.Context, m []byte) error {
		ctx, cancel := context.WithTimeout(ctx, publishTimeout)
		defer cancel()
		return conn.PublishStored(ctx, "baseline", m, "")
	}), stop)
	if err != nil {
		stop()
		return nil, err
	}
	return s, nil
}

// Package session holds the client connections of the gateway: MSYNC over
// WebSocket, as the official SDKs speak it.
//
// A connection logs in, is told what is unread and pulls it queue by queue, one
// queue for each conversation. Afterwards new entries are pushed to it as they
// come. Pushes arrive over NATS and may be lost; the archive is the guarantee:
// whenever a place in a conversation is missing, the device is made to pull it
// from there, and nothing is shown of a conversation before it is known what
// comes first (opening.go). What a device has confirmed is kept here and handed on to the
// messaging service in batches.
//
// Lock order: shard.mu before nothing, conn.mu before outbox.mu, conn.mu before
// flusher.mu; no lock is held during a call to another service.
package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/lxzan/gws"

	"github.com/chappe-im/chappe/pkg/msync"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// Server accepts connections and keeps them. It is an http.Handler.
type Server struct {
	cfg      Config
	limits   queueLimits
	deps     Deps
	logger   *slog.Logger
	metrics  *metrics
	presence presencev1.ConnectionServiceClient
	syncs    messagingv1.SyncServiceClient
	messages messagingv1.MessagingServiceClient
	limiter  limiterv1.LimiterServiceClient

	upgrader *gws.Upgrader
	// directJID names the queue of what is pushed past the queues.
	directJID []byte
	buffers   buffers
	shards    []*shard
	flusher   *flusher
	handOns   handOns
	opener    *opener
	memory    memory
	logins    chan struct{}
	closings  chan struct{}

	mu       sync.Mutex
	conns    []*conn // each knows its place
	started  bool
	stopping bool

	// lost: pushes may have been lost since the last sweep.
	lost atomic.Bool

	limiterDown throttle

	// ctx ends the work of connections; background ends the shared goroutines.
	ctx        context.Context //nolint:containedctx // the life of the server, from Start to Stop
	cancel     context.CancelFunc
	readers    sync.WaitGroup
	writers    sync.WaitGroup
	background sync.WaitGroup
	stopOnce   sync.Once
	stopped    chan struct{}
}

// New makes a Server; Start begins its work.
func New(cfg Config, deps Deps) (*Server, error) {
	if deps.Auth == nil || deps.Presence == nil || deps.Messaging == nil || deps.Limiter == nil || deps.NATS == nil || deps.Logger == nil || deps.Metrics == nil {
		return nil, errors.New("client connections: a dependency is missing")
	}
	cfg = cfg.withDefaults()
	if deps.Now == nil {
		deps.Now = time.Now
	}
	s := &Server{
		cfg:      cfg,
		limits:   cfg.queueLimits(),
		deps:     deps,
		logger:   deps.Logger.With(obs.KeyService, "session"),
		presence: presencev1.NewConnectionServiceClient(deps.Presence),
		syncs:    messagingv1.NewSyncServiceClient(deps.Messaging),
		messages: messagingv1.NewMessagingServiceClient(deps.Messaging),
		limiter:  limiterv1.NewLimiterServiceClient(deps.Limiter),
		logins:   make(chan struct{}, concurrentLogins),
		closings: make(chan struct{}, concurrentClosings),
		stopped:  make(chan struct{}),
	}
	s.directJID = msync.DirectJID()
	s.memory.bound = cfg.PageMemory
	s.metrics = newMetrics(deps.Metrics, &s.memory)
	s.flusher = newFlusher(s)
	s.handOns = handOns{srv: s, ch: make(chan *natsx.Msg, waitingHandOns)}
	s.opener = newOpener(s)
	for range shardCount() {
		s.shards = append(s.shards, newShard(s))
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.upgrader = gws.NewUpgrader(socketEvents{s}, &gws.ServerOption{
		ReadBufferSize:     readBufferBytes,
		ReadMaxPayloadSize: maxFrameBytes,
		ParallelGolimit:    1,
		NewSession:         func() gws.SessionStorage { return nil },
		Logger:             gwsLogger{s.logger},
	})
	return s, nil
}

// Start begins to take in pushes and connections.
func (s *Server) Start(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started || s.stopping {
		return errors.New("client connections: started twice")
	}
	if err := s.handOns.listen(); err != nil {
		return err
	}
	s.started = true
	s.background.Go(func() { s.handOns.run(s.ctx) })
	for _, sh := range s.shards {
		s.background.Go(func() { sh.run(s.ctx) })
	}
	s.background.Go(func() { s.opener.run(s.ctx) })
	s.background.Go(s.sweep)
	s.flusher.start()
	s.deps.NATS.OnLoss(func() { s.lost.Store(true) })
	return nil
}

// Stop closes all connections with "going away", hands on what they confirmed
// and waits for every goroutine. When ctx ends connections are cut off.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		defer close(s.stopped)
		s.mu.Lock()
		s.stopping = true
		all := slices.Clone(s.conns)
		s.mu.Unlock()
		for _, c := range all {
			c.shutdown(closeGoingAway, "server is stopping")
		}
		gone := make(chan struct{})
		go func() {
			s.readers.Wait()
			close(gone)
		}()
		select {
		case <-gone:
		case <-ctx.Done():
			for _, c := range all {
				_ = c.wire.Conn.Close()
			}
			s.cancel()
			<-gone
		}
		s.flusher.stop(ctx)
		s.cancel()
		s.background.Wait()
		s.writers.Wait()
	})
	<-s.stopped
	return nil
}

// Connections is the number of connections, logged in or not.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// ServeHTTP upgrades a request to a connection. It returns at once: the
// connection goes on by itself, and all that net/http holds is released.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	ready := s.started && !s.stopping
	if ready {
		s.readers.Add(1)
	}
	s.mu.Unlock()
	if !ready {
		http.Error(w, "not accepting connections", http.StatusServiceUnavailable)
		return
	}
	c := &conn{srv: s, ip: s.cfg.ClientIP(r)}
	c.wire.c = c
	now := s.deps.Now().UnixMilli()
	c.seen.Store(now)
	c.opened = now
	c.id = uuid.NewString()
	socket, err := s.upgrader.Upgrade(newHijacker(w, &c.wire), r)
	if err != nil {
		s.readers.Done()
		return
	}
	c.wire.open = true
	if !s.admit(c) {
		s.readers.Done()
		_ = c.wire.Conn.Close()
		return
	}
	go s.read(c, socket)
}

func (s *Server) admit(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	c.place = len(s.conns)
	s.conns = append(s.conns, c)
	s.metrics.connections.Set(float64(len(s.conns)))
	return true
}

// read is a connection's life.
func (s *Server) read(c *conn, socket *gws.Conn) {
	defer s.readers.Done()
	socket.ReadLoop()
	c.leave()
	s.forget(c)
	c.close()
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.conns) - 1
	s.conns[c.place] = s.conns[last]
	s.conns[c.place].place = c.place
	s.conns[last] = nil
	s.conns = s.conns[:last]
	s.metrics.connections.Set(float64(last))
}

func newHijacker(w http.ResponseWriter, to *wire) http.ResponseWriter {
	return &hijackWriter{ResponseWriter: w, w: to}
}

func socketIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

type gwsLogger struct{ l *slog.Logger }

func (g gwsLogger) Error(v ...any) { g.l.Warn("websocket", "error", fmt.Sprint(v...)) }

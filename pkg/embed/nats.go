package embed

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/chappe-im/chappe/pkg/diskspace"
	"github.com/chappe-im/chappe/pkg/obs"
)

// NATS is a running embedded NATS server with JetStream. When its files cannot
// be written, because the disk is full or for a moment broken, JetStream gives
// up for good: the server is then ended, and started anew within the process
// once there is room; its clients connect again.
type NATS struct {
	cfg    NATSConfig
	opts   server.Options
	unlock func()

	mu     sync.RWMutex
	server *server.Server // nil while it has ended

	// failed gets a signal when files could not be written.
	failed chan struct{}
	once   sync.Once
	quit   chan struct{}
	done   sync.WaitGroup
}

// NATSConfig sets up the embedded server.
type NATSConfig struct {
	// Dir holds JetStream's files.
	Dir string
	// SyncAlways makes every acknowledged publish survive a power cut, at the
	// price of an fsync each.
	SyncAlways bool
	// Listen is an address to serve other processes on, port 0 for any; empty
	// serves only this one.
	Listen string
	// Token is what every connection has to show, those within the process too.
	// A server that listens must have one.
	Token string
	// MinFree is how many bytes must be free on the disk before a server whose
	// files could not be written is started anew; 0 is 8 MiB.
	MinFree uint64
	Logger  *slog.Logger
}

const (
	// defaultMinFree is room for what a server writes at its start.
	defaultMinFree = 8 << 20
	// restartPause is the shortest time between two starts of a server whose
	// files could not be written, maxRestartPause the longest.
	restartPause    = 250 * time.Millisecond
	maxRestartPause = 4 * time.Second
)

// StartNATS starts a server and returns when it takes connections.
func StartNATS(cfg NATSConfig) (*NATS, error) {
	if cfg.Listen != "" && cfg.Token == "" {
		return nil, errors.New("embedded NATS: a server that listens must ask for a token")
	}
	if cfg.MinFree == 0 {
		cfg.MinFree = defaultMinFree
	}
	n := &NATS{cfg: cfg, failed: make(chan struct{}, 1), quit: make(chan struct{})}
	n.opts = server.Options{
		ServerName:         "chappe",
		JetStream:          true,
		StoreDir:           filepath.Join(cfg.Dir, "nats"),
		SyncAlways:         cfg.SyncAlways,
		DontListen:         cfg.Listen == "",
		Authorization:      cfg.Token,
		NoSigs:             true,
		MaxPayload:         8 << 20,
		JetStreamMaxMemory: 1 << 30,
		JetStreamMaxStore:  1 << 40,
	}
	if cfg.Listen != "" {
		host, port, err := net.SplitHostPort(cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("embedded NATS: %w", err)
		}
		if n.opts.Host, n.opts.Port = host, server.RANDOM_PORT; port != "0" {
			if n.opts.Port, err = strconv.Atoi(port); err != nil {
				return nil, fmt.Errorf("embedded NATS: %w", err)
			}
		}
	}
	unlock, err := lockDir(n.opts.StoreDir)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	if n.server, err = n.start(); err != nil {
		unlock()
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	if addr, ok := n.server.Addr().(*net.TCPAddr); ok {
		n.opts.Port = addr.Port // the next one is where this one was
	}
	n.unlock = unlock
	n.done.Go(n.supervise)
	return n, nil
}

func (n *NATS) start() (*server.Server, error) {
	opts := n.opts
	dropDamagedIndexes(opts.StoreDir, n.cfg.Logger)
	s, err := server.NewServer(&opts)
	if err != nil {
		return nil, err
	}
	s.SetLoggerV2(natsLogger{n.cfg.Logger, n.onError}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, errors.New("it did not get ready in 20 s")
	}
	return s, nil
}

// onError looks at what the server reports for a failure to write, after which
// a stream takes nothing more.
func (n *NATS) onError(text string) {
	for _, sign := range []string{"Critical write error", "failed to store a msg", "no space left", "will be DISABLED"} {
		if strings.Contains(text, sign) {
			select {
			case n.failed <- struct{}{}:
			default:
			}
			return
		}
	}
}

// supervise starts the server anew after its files could not be written.
func (n *NATS) supervise() {
	pause, last := restartPause, time.Now()
	for {
		select {
		case <-n.quit:
			return
		case <-n.failed:
		}
		if time.Since(last) > time.Minute {
			pause = restartPause
		}
		n.cfg.Logger.Error("the embedded NATS cannot write its files: it is ended, and started anew when there is room", "dir", n.opts.StoreDir)
		// At once, so that whoever waits for it to store something hears of it.
		n.end()
		for {
			select {
			case <-n.quit:
				return
			case <-time.After(pause):
			}
			if free, err := diskspace.Free(n.opts.StoreDir); err == nil && free < n.cfg.MinFree {
				continue
			}
			pause, last = min(2*pause, maxRestartPause), time.Now()
			if err := n.begin(); err != nil {
				n.cfg.Logger.Error("the embedded NATS does not start anew", obs.KeyError, err)
				continue
			}
			n.cfg.Logger.Info("the embedded NATS was started anew")
			break
		}
	}
}

// end shuts the server down.
func (n *NATS) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server != nil {
		n.server.Shutdown()
		n.server.WaitForShutdown()
		n.server = nil
	}
}

// begin starts the server after it was ended.
func (n *NATS) begin() error {
	select {
	case <-n.failed: // said by the one that has ended
	default:
	}
	s, err := n.start()
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.server = s
	return nil
}

// InProcessConn connects to the server without a socket.
func (n *NATS) InProcessConn() (net.Conn, error) {
	if !n.mu.TryRLock() {
		return nil, errors.New("embedded NATS: it is being started anew")
	}
	defer n.mu.RUnlock()
	if n.server == nil {
		return nil, errors.New("embedded NATS: it is not running")
	}
	return n.server.InProcessConn()
}

// URL returns where other processes reach the server, if it listens, without
// the token.
func (n *NATS) URL() string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.server == nil {
		return ""
	}
	return n.server.ClientURL()
}

// Stop shuts the server down and waits for it. It may be called again.
func (n *NATS) Stop() {
	n.once.Do(func() {
		close(n.quit)
		n.done.Wait()
		n.end()
		n.unlock()
	})
}

// natsLogger passes the server's warnings and errors on; its notices are of
// interest only when looking for a fault.
type natsLogger struct {
	l *slog.Logger
	// failed is told of errors.
	failed func(text string)
}

func (n natsLogger) Noticef(format string, v ...any) {
	n.l.Debug("nats", "text", fmt.Sprintf(format, v...))
}

func (n natsLogger) Warnf(format string, v ...any) {
	n.l.Warn("nats", "text", fmt.Sprintf(format, v...))
}

func (n natsLogger) Fatalf(format string, v ...any) {
	n.l.Error("nats", "text", fmt.Sprintf(format, v...))
}

func (n natsLogger) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	n.l.Error("nats", "text", text)
	n.failed(text)
}

func (n natsLogger) Debugf(string, ...any) {}
func (n natsLogger) Tracef(string, ...any) {}

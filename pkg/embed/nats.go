package embed

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// NATS is a running embedded NATS server with JetStream.
type NATS struct {
	server *server.Server
	unlock func()
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
	Token  string
	Logger *slog.Logger
}

// StartNATS starts a server and returns when it takes connections.
func StartNATS(cfg NATSConfig) (*NATS, error) {
	if cfg.Listen != "" && cfg.Token == "" {
		return nil, errors.New("embedded NATS: a server that listens must ask for a token")
	}
	opts := &server.Options{
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
		if opts.Host, opts.Port = host, server.RANDOM_PORT; port != "0" {
			if opts.Port, err = strconv.Atoi(port); err != nil {
				return nil, fmt.Errorf("embedded NATS: %w", err)
			}
		}
	}
	unlock, err := lockDir(opts.StoreDir)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	s, err := server.NewServer(opts)
	if err != nil {
		unlock()
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	s.SetLoggerV2(natsLogger{cfg.Logger}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		s.Shutdown()
		s.WaitForShutdown()
		unlock()
		return nil, errors.New("embedded NATS did not get ready in 20 s")
	}
	return &NATS{server: s, unlock: unlock}, nil
}

// Server is what an in-process connection is made to.
func (n *NATS) Server() *server.Server { return n.server }

// URL returns where other processes reach the server, if it listens, without
// the token.
func (n *NATS) URL() string { return n.server.ClientURL() }

// Stop shuts the server down and waits for it.
func (n *NATS) Stop() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
	n.unlock()
}

// natsLogger passes the server's warnings and errors on; its notices are of
// interest only when looking for a fault.
type natsLogger struct{ l *slog.Logger }

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
	n.l.Error("nats", "text", fmt.Sprintf(format, v...))
}
func (n natsLogger) Debugf(string, ...any) {}
func (n natsLogger) Tracef(string, ...any) {}

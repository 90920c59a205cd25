// Package testkit gives tests the real things: an embedded etcd, an embedded
// NATS server with JetStream, SQLite files and, where it is installed, a
// PostgreSQL server.
package testkit

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/embed"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/natsx"
)

// shared holds what is dear to start: one for each test binary, stopped by
// Main.
type shared struct {
	mu       sync.Mutex
	dir      string
	etcd     *embed.Etcd
	postgres *postgresServer
	prefixes int
}

var servers shared

// Main runs a package's tests and stops the shared servers. Packages that use
// Etcd or Databases call it from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	servers.stop()
	os.Exit(code)
}

func (s *shared) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.etcd != nil {
		s.etcd.Stop()
	}
	if s.postgres != nil {
		s.postgres.stop()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

func (s *shared) directory() (string, error) {
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "chappe-test-")
		if err != nil {
			return "", err
		}
		s.dir = dir
	}
	return s.dir, nil
}

// Etcd gives a client of the package's etcd server with a key prefix of the
// test's own.
func Etcd(t testing.TB) *etcdx.Client {
	t.Helper()
	servers.mu.Lock()
	defer servers.mu.Unlock()
	if servers.etcd == nil {
		dir, err := servers.directory()
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		servers.etcd, err = embed.StartEtcd(ctx, dir)
		require.NoError(t, err)
	}
	servers.prefixes++
	return etcdx.Wrap(servers.etcd.Client(), fmt.Sprintf("/test-%d", servers.prefixes))
}

// NATSServer starts a NATS server of the test's own with JetStream on disk.
func NATSServer(t testing.TB) *embed.NATS {
	t.Helper()
	s, err := embed.StartNATS(embed.NATSConfig{Dir: t.TempDir(), Logger: Logger(t)})
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	return s
}

// NATS starts a server and connects to it.
func NATS(t testing.TB) *natsx.Conn {
	t.Helper()
	return Connect(t, NATSServer(t))
}

// Connect makes one more connection to a server.
func Connect(t testing.TB, s *embed.NATS) *natsx.Conn {
	t.Helper()
	c, err := natsx.Connect(t.Context(), natsx.Config{InProcess: s, Name: t.Name(), Logger: Logger(t)})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = c.Drain(ctx)
	})
	return c
}

// Logger writes into the test's log.
func Logger(t testing.TB) *slog.Logger {
	w := &testWriter{t: t}
	t.Cleanup(w.close)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// testWriter drops what comes after the test's end instead of panicking.
type testWriter struct {
	mu   sync.Mutex
	t    testing.TB
	done bool
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done {
		w.t.Log(strings.TrimSuffix(string(p), "\n"))
	}
	return len(p), nil
}

func (w *testWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
}

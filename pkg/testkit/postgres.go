package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// PostgresServer is a PostgreSQL server of one test's own, which can be killed,
// frozen and started again.
type PostgresServer struct {
	server *postgresServer
}

// StartPostgres starts a server of the test's own. It skips the test where the
// machine has no PostgreSQL.
func StartPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "chappe-postgres-") //nolint:usetesting // the server's user must pass through, t.TempDir is closed to others
	require.NoError(t, err)
	s, err := startPostgres(dir)
	require.NoError(t, err)
	if s.url == "" {
		t.Skip("no PostgreSQL server programs on this machine")
	}
	p := &PostgresServer{s}
	t.Cleanup(func() {
		p.Thaw(t)
		s.stop()
		_ = os.RemoveAll(dir)
	})
	return p
}

// Addr is where the server listens.
func (p *PostgresServer) Addr() string { return "127.0.0.1:" + strconv.Itoa(p.server.port) }

// URL of the server's database, as seen at an address: its own or that of a
// proxy before it.
func (p *PostgresServer) URL(addr string) string {
	return fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", addr)
}

// Kill ends the server and all its processes at once, as a crash of its host
// does, and waits until they are gone.
func (p *PostgresServer) Kill(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
	_ = p.server.cmd.Wait()
	p.server.cmd = nil
}

// Start starts the server again after Kill; it recovers what it had committed.
func (p *PostgresServer) Start(t testing.TB) {
	t.Helper()
	require.NoError(t, p.server.start())
}

// Freeze stops all processes of the server in the middle of what they do.
func (p *PostgresServer) Freeze(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGSTOP)
}

// Thaw lets them go on.
func (p *PostgresServer) Thaw(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGCONT)
}

// signal sends a signal to the server's first process and then to its children,
// which are in sessions of their own.
func (p *PostgresServer) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if p.server.cmd == nil {
		return
	}
	first := p.server.cmd.Process.Pid
	// The first process is held while its children are looked up: it makes no
	// further ones then.
	require.NoError(t, syscall.Kill(first, syscall.SIGSTOP))
	children := childrenOf(first)
	require.NoError(t, syscall.Kill(first, sig))
	for _, pid := range children {
		_ = syscall.Kill(pid, sig) // may have ended by itself
	}
}

// childrenOf lists the children of a process; it is empty where there is no
// /proc.
func childrenOf(pid int) []int {
	var out []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		raw, err := os.ReadFile(path) // a file of /proc
		if err != nil {
			continue
		}
		// "pid (name) state ppid": the name may hold spaces and brackets.
		text := string(raw)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		if child, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			out = append(out, child)
		}
	}
	return out
}

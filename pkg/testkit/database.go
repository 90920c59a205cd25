package testkit

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx" for CREATE DATABASE
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/store"
)

// SQLite opens an empty, migrated SQLite database of the test's own.
func SQLite(t testing.TB, service string, migrations fs.FS) *store.DB {
	t.Helper()
	return open(t, "sqlite:"+t.TempDir(), service, migrations)
}

// EachDatabase runs f on SQLite and, where the machine has it, on PostgreSQL,
// as subtests. CHAPPE_TEST_POSTGRES names a server to use; without it one is
// started from the programs found on the machine.
func EachDatabase(t *testing.T, service string, migrations fs.FS, f func(t *testing.T, db *store.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		f(t, SQLite(t, service, migrations))
	})
	t.Run("postgres", func(t *testing.T) {
		url := Postgres(t)
		if url == "" {
			t.Skip("no PostgreSQL server: set CHAPPE_TEST_POSTGRES or install one")
		}
		f(t, open(t, url, service, migrations))
	})
}

func open(t testing.TB, url, service string, migrations fs.FS) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{URL: url, Service: service})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	if migrations != nil {
		require.NoError(t, db.Migrate(t.Context(), migrations))
	}
	return db
}

// Postgres gives the URL of an empty database of the test's own, or "" where
// there is no server.
func Postgres(t testing.TB) string {
	t.Helper()
	servers.mu.Lock()
	defer servers.mu.Unlock()
	base := os.Getenv("CHAPPE_TEST_POSTGRES")
	if base == "" {
		if servers.postgres == nil {
			dir, err := servers.directory()
			require.NoError(t, err)
			servers.postgres, err = startPostgres(dir)
			require.NoError(t, err)
		}
		base = servers.postgres.url
	}
	if base == "" {
		return ""
	}
	servers.prefixes++
	name := fmt.Sprintf("chappe_test_%d_%d", os.Getpid(), servers.prefixes)
	admin, err := sql.Open("pgx", base)
	require.NoError(t, err)
	defer func() { _ = admin.Close() }()
	_, err = admin.ExecContext(t.Context(), "CREATE DATABASE "+name)
	require.NoError(t, err)
	i := strings.LastIndexByte(base, '/')
	rest := ""
	if q := strings.IndexByte(base[i:], '?'); q >= 0 {
		rest = base[i+q:]
	}
	return base[:i+1] + name + rest
}

// postgresServer is a server started for the test binary; url is empty where
// the machine has none.
type postgresServer struct {
	url       string
	bin, data string
	port      int
	attr      *syscall.SysProcAttr
	cmd       *exec.Cmd
}

func startPostgres(dir string) (*postgresServer, error) {
	bin := postgresBin()
	if bin == "" {
		return &postgresServer{}, nil
	}
	attr, uid, gid, err := unprivileged()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "postgres")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	if uid >= 0 {
		// The server refuses to run as root: give it its folder, and a way there.
		if err := os.Chmod(dir, 0o711); err != nil { // only lets the server's user pass through
			return nil, err
		}
		if err := os.Chown(data, uid, gid); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N", "--locale=C", "-E", "UTF8")
	initdb.SysProcAttr = attr
	initdb.Dir = data
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &postgresServer{
		bin: bin, data: data, port: port, attr: attr,
		url: fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port),
	}
	return s, s.start()
}

// start runs the server on the files that are there, and waits until it
// answers.
func (s *postgresServer) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data, "-p", strconv.Itoa(s.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=200")
	cmd.SysProcAttr = s.attr
	cmd.Dir = s.data
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	s.cmd = cmd
	for {
		db, err := sql.Open("pgx", s.url)
		if err == nil {
			err = db.PingContext(ctx)
			_ = db.Close()
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			s.stop()
			return fmt.Errorf("postgres did not get ready: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *postgresServer) stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGINT)
	_ = s.cmd.Wait()
	s.cmd = nil
}

func postgresBin() string {
	candidates, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if p, err := exec.LookPath("initdb"); err == nil {
		if target, err := filepath.EvalSymlinks(p); err == nil {
			candidates = append(candidates, filepath.Dir(target))
		}
	}
	for i := len(candidates) - 1; i >= 0; i-- {
		if _, err := os.Stat(filepath.Join(candidates[i], "initdb")); err == nil {
			return candidates[i]
		}
	}
	return ""
}

// unprivileged tells how to run a program as another user when this one is
// root; uid is -1 when no change is needed.
func unprivileged() (*syscall.SysProcAttr, int, int, error) {
	if os.Geteuid() != 0 {
		return nil, -1, -1, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 != nil || err2 != nil {
			continue
		}
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, uid, gid, nil // ids are not negative
	}
	return nil, 0, 0, fmt.Errorf("running as root and no user postgres or nobody to start PostgreSQL as")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

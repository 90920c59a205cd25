package testkit

import (
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// CutPostgres returns the URL of an empty database of the test's own behind a
// relay, and a function that ends the relay with all its connections: for
// clients the server is dead from then on. The test is skipped where there is
// no server.
func CutPostgres(t testing.TB) (databaseURL string, cut func()) {
	t.Helper()
	direct := Postgres(t)
	if direct == "" {
		t.Skip("no PostgreSQL server: set CHAPPE_TEST_POSTGRES or install one")
	}
	u, err := url.Parse(direct)
	require.NoError(t, err)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &relay{target: u.Host, listener: l}
	r.done.Go(r.accept)
	t.Cleanup(r.cut)
	u.Host = l.Addr().String()
	return u.String(), r.cut
}

// relay carries connections to a server until it is cut.
type relay struct {
	target   string
	listener net.Listener
	done     sync.WaitGroup

	mu    sync.Mutex
	dead  bool
	conns []net.Conn
}

func (r *relay) cut() {
	r.mu.Lock()
	r.dead = true
	_ = r.listener.Close()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
	r.mu.Unlock()
	r.done.Wait()
}

func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		server, err := new(net.Dialer).DialContext(context.Background(), "tcp", r.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		r.mu.Lock()
		if r.dead {
			_, _ = client.Close(), server.Close()
			r.mu.Unlock()
			return
		}
		r.conns = append(r.conns, client, server)
		r.done.Go(func() { pipe(client, server) })
		r.done.Go(func() { pipe(server, client) })
		r.mu.Unlock()
	}
}

func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_, _ = to.Close(), from.Close()
}

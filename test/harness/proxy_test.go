package harness

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// echo answers every byte with the same byte.
func echo(t *testing.T) string {
	lis, err := net.Listen("tcp", "127.0.0.1:0") // closed with the test
	require.NoError(t, err)
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			done.Go(func() {
				defer func() { _ = c.Close() }()
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() {
		_ = lis.Close()
		done.Wait()
	})
	return lis.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	c, err := net.Dial("tcp", addr) // on this host
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// comes reports whether a byte comes back within a time.
func comes(t *testing.T, c net.Conn, within time.Duration) (bool, error) {
	require.NoError(t, c.SetReadDeadline(time.Now().Add(within)))
	var b [1]byte
	n, err := c.Read(b[:])
	return n == 1, err
}

// TestProxy does to a connection what the fault tests do, for a proxy that lets
// everything pass would make them all pass.
func TestProxy(t *testing.T) {
	t.Parallel()
	const soon, long = 100 * time.Millisecond, 10 * time.Second
	say := func(c net.Conn) {
		_, err := c.Write([]byte("x"))
		require.NoError(t, err)
	}
	p := StartProxy(t, echo(t))
	c := dial(t, p.Addr)
	say(c)
	ok, err := comes(t, c, long)
	require.True(t, ok, "%v", err)

	p.Silence()
	say(c)
	ok, err = comes(t, c, soon)
	require.False(t, ok)
	require.ErrorContains(t, err, "timeout")
	during := dial(t, p.Addr)
	say(during)
	ok, err = comes(t, during, soon)
	require.False(t, ok)
	require.ErrorContains(t, err, "timeout")
	p.Pass()
	for _, x := range []net.Conn{c, during} {
		ok, err = comes(t, x, long)
		require.True(t, ok, "what was sent meanwhile arrives: %v", err)
	}

	p.Cut()
	_, err = comes(t, c, long)
	require.ErrorIs(t, err, io.EOF)
	refused := dial(t, p.Addr)
	ok, err = comes(t, refused, long)
	require.False(t, ok)
	require.NotContains(t, err.Error(), "timeout")

	p.Target(echo(t))
	p.Pass()
	again := dial(t, p.Addr)
	say(again)
	ok, err = comes(t, again, long)
	require.True(t, ok, "%v", err)
}

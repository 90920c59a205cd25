package harness

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Proxy forwards TCP connections to a server and can take it away.
type Proxy struct {
	addr, target string

	mu    sync.Mutex
	lis   net.Listener
	conns map[net.Conn]struct{}
	done  sync.WaitGroup
}

// NewProxy forwards to a server's address.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p := &Proxy{target: target, conns: map[net.Conn]struct{}{}, addr: "127.0.0.1:0"}
	p.Restore(t)
	t.Cleanup(func() {
		p.Cut()
		p.done.Wait()
	})
	return p
}

// Addr is where the proxy listens, also while the server is away.
func (p *Proxy) Addr() string { return p.addr }

// Cut takes the server away: connections end, further ones are refused.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lis != nil {
		_ = p.lis.Close()
		p.lis = nil
	}
	for c := range p.conns {
		_ = c.Close()
	}
}

// Restore brings the server back.
func (p *Proxy) Restore(t testing.TB) {
	t.Helper()
	lis, err := new(net.ListenConfig).Listen(context.Background(), "tcp", p.addr)
	require.NoError(t, err)
	p.mu.Lock()
	p.addr, p.lis = lis.Addr().String(), lis
	p.mu.Unlock()
	p.done.Go(func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			p.done.Go(func() { p.forward(lis, c) })
		}
	})
}

func (p *Proxy) forward(lis net.Listener, in net.Conn) {
	out, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = in.Close()
		return
	}
	p.mu.Lock()
	if p.lis != lis {
		p.mu.Unlock()
		_, _ = in.Close(), out.Close()
		return
	}
	p.conns[in], p.conns[out] = struct{}{}, struct{}{}
	p.mu.Unlock()
	p.done.Go(func() {
		_, _ = io.Copy(out, in)
		_ = out.Close()
	})
	_, _ = io.Copy(in, out)
	_ = in.Close()
	p.mu.Lock()
	delete(p.conns, in)
	delete(p.conns, out)
	p.mu.Unlock()
}

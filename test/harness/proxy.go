package harness

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Proxy passes TCP connections on to an address and can do to them what a
// network does. A listener's address stays the same while what is behind it
// comes and goes.
type Proxy struct {
	Addr string

	mu     sync.Mutex
	target string
	state  proxyState
	moved  chan struct{} // closed when state changes
	conns  map[net.Conn]struct{}
	done   sync.WaitGroup
	lis    net.Listener
}

type proxyState int

const (
	// passing hands on.
	passing proxyState = iota
	// refusing ends connections, old and new.
	refusing
	// silent accepts connections and hands nothing on, in neither direction.
	silent
)

// StartProxy starts a proxy in front of an address; it ends with the test.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &Proxy{Addr: lis.Addr().String(), target: target, moved: make(chan struct{}), conns: map[net.Conn]struct{}{}, lis: lis}
	p.done.Go(p.accept)
	t.Cleanup(func() {
		_ = lis.Close()
		p.set(refusing)
		p.done.Wait()
	})
	return p
}

// Target sends connections to another address from now on.
func (p *Proxy) Target(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
}

// Cut ends all connections and refuses new ones, as a server does that is gone.
func (p *Proxy) Cut() { p.set(refusing) }

// Silence keeps all connections and hands nothing on, as a network does that
// lost its way. What is sent meanwhile arrives after Pass.
func (p *Proxy) Silence() { p.set(silent) }

// Pass hands on again.
func (p *Proxy) Pass() { p.set(passing) }

func (p *Proxy) set(s proxyState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
	close(p.moved)
	p.moved = make(chan struct{})
	if s == refusing {
		for c := range p.conns {
			_ = c.Close()
		}
	}
}

func (p *Proxy) now() (proxyState, string, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.target, p.moved
}

func (p *Proxy) accept() {
	for {
		c, err := p.lis.Accept()
		if err != nil {
			return
		}
		p.done.Go(func() { p.serve(c) })
	}
}

// enter notes a connection; it reports whether it may live.
func (p *Proxy) enter(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == refusing {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) leave(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}

func (p *Proxy) serve(near net.Conn) {
	defer p.leave(near)
	if !p.enter(near) || !p.pass() {
		return
	}
	_, target, _ := p.now()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	far, err := new(net.Dialer).DialContext(ctx, "tcp", target)
	cancel()
	if err != nil {
		return
	}
	defer p.leave(far)
	if !p.enter(far) {
		return
	}
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			// The end of one direction is the end of both.
			defer func() { _, _ = near.Close(), far.Close() }()
			p.copy(way[0], way[1])
		})
	}
	both.Wait()
}

// pass waits until the proxy hands on; it reports whether it does.
func (p *Proxy) pass() bool {
	for {
		state, _, moved := p.now()
		switch state {
		case passing:
			return true
		case refusing:
			return false
		case silent:
			<-moved
		}
	}
}

func (p *Proxy) copy(from io.Reader, to io.Writer) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !p.pass() {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

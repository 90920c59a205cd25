package session

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"

	"github.com/lxzan/gws"
)

// hijackWriter gives the library our wire instead of the bare socket.
type hijackWriter struct {
	http.ResponseWriter
	w *wire
}

// Hijack takes the socket over.
func (h *hijackWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	socket, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.w.Conn = socket
	if rw.Reader.Buffered() > 0 {
		_ = socket.Close()
		return nil, nil, errors.New("the client spoke before the handshake was answered")
	}
	return h.w, nil, nil
}

// socketEvents are the library's callbacks; all but control frames lead to
// conn.frame. They run on the connection's reading goroutine.
type socketEvents struct{ s *Server }

func connOf(socket *gws.Conn) *conn {
	return socket.NetConn().(*wire).c //nolint:forcetypeassert // ServeHTTP made it so
}

func (socketEvents) OnOpen(*gws.Conn) {}

func (socketEvents) OnClose(*gws.Conn, error) {}

func (e socketEvents) OnPing(socket *gws.Conn, payload []byte) {
	c := connOf(socket)
	c.seen.Store(e.s.deps.Now().UnixMilli())
	if c.allow() {
		c.enqueue(finPong, payload, false)
	}
}

func (e socketEvents) OnPong(socket *gws.Conn, _ []byte) {
	connOf(socket).seen.Store(e.s.deps.Now().UnixMilli())
}

func (e socketEvents) OnMessage(socket *gws.Conn, m *gws.Message) {
	c := connOf(socket)
	c.seen.Store(e.s.deps.Now().UnixMilli())
	switch {
	case m.Opcode != gws.OpcodeBinary:
		c.shutdown(closeUnsupported, "binary messages only")
	case c.allow():
		// In a goroutine of its own: what a frame needs of stack is given back
		// at once, while the stack of this one, which lives as long as the
		// connection, stays small.
		c.frames.Add(1)
		go c.handle(m.Bytes())
		c.frames.Wait()
	}
	_ = m.Close()
}

// handle takes one frame. A fault in it costs the device its connection and the
// process nothing.
func (c *conn) handle(b []byte) {
	defer c.frames.Done()
	defer func() {
		if p := recover(); p != nil {
			c.srv.metrics.panics.Inc()
			c.srv.logger.Error("handling a frame failed", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			c.shutdown(closeInternal, "internal error")
		}
	}()
	c.frame(b)
}

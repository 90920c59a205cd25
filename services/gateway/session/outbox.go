package session

import (
	"encoding/binary"
	"net"
	"sync"
	"time"
)

// WebSocket opcodes (RFC 6455, section 5.2) with the final bit.
const (
	finBinary = 0x82
	finClose  = 0x88
	finPing   = 0x89
	finPong   = 0x8a
)

// Close codes (RFC 6455, section 7.4).
const (
	closeNormal      = 1000
	closeGoingAway   = 1001
	closeUnsupported = 1003
	closeInvalidData = 1007
	closePolicy      = 1008
	closeInternal    = 1011
	closeTryLater    = 1013
)

// lingerTimeout is how long a connection that was told to close may take to do
// so.
const lingerTimeout = 3 * time.Second

// scarceOutbound is what may wait to be written to a connection when the memory
// of all is used up.
const scarceOutbound = 64 << 10

// pooledBuffer is the largest buffer that is kept for later.
const pooledBuffer = 64 << 10

// outbox is what waits to be written to a connection. Frames are appended to one
// buffer; while there are any, one goroutine writes all that has come together
// in a single write. An idle connection has neither buffer nor goroutine.
type outbox struct {
	mu      sync.Mutex
	buf     *[]byte
	writing bool
	// counted are the bytes of buf, and of what is being written, that are
	// counted as memory.
	counted int
	// shut: nothing more is taken; what waits is still written.
	shut bool
	// left: the reader is gone; the socket closes after the last write.
	left bool
	// deadline is the write deadline that is set on the socket; only the writing
	// goroutine uses it.
	deadline time.Time
}

// buffers are shared by the outboxes of a server.
type buffers struct{ pool sync.Pool }

func (p *buffers) get() *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, 512)
	return &b
}

func (p *buffers) put(b *[]byte) {
	if cap(*b) <= pooledBuffer {
		*b = (*b)[:0]
		p.pool.Put(b)
	}
}

// appendHeader begins a WebSocket message of n bytes from the server.
func appendHeader(b []byte, op byte, n int) []byte {
	switch {
	case n < 126:
		return append(b, op, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, op, 126), uint16(n)) // checked
	default:
		return binary.BigEndian.AppendUint64(append(b, op, 127), uint64(n)) // a length
	}
}

// send queues one binary message. It never blocks; a connection that is closing
// or about to be takes nothing more.
func (c *conn) send(frame []byte) {
	if !c.kicked.Load() {
		c.enqueue(finBinary, frame, false)
	}
}

// shutdown queues a close frame as the last one. The reader ends when the device
// has closed its side, or shortly after.
func (c *conn) shutdown(code uint16, reason string) {
	p := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reason)), code)
	c.enqueue(finClose, append(p, reason...), true)
}

func (c *conn) enqueue(op byte, payload []byte, last bool) {
	o := &c.out
	o.mu.Lock()
	if o.shut {
		o.mu.Unlock()
		return
	}
	if o.buf == nil {
		o.buf = c.srv.buffers.get()
	}
	if waits := len(*o.buf); !last && (waits+len(payload)+10 > maxOutboundBytes || waits > scarceOutbound && !c.srv.memory.fits(len(payload))) {
		o.shut = true
		o.mu.Unlock()
		c.srv.metrics.slowConsumers.Inc()
		c.srv.logger.Warn("device is too slow and is disconnected", "app", c.user.App, "user", c.user.ID)
		_ = c.wire.Conn.Close()
		return
	}
	before := len(*o.buf)
	*o.buf = append(appendHeader(*o.buf, op, len(payload)), payload...)
	o.counted += len(*o.buf) - before
	c.srv.memory.add(len(*o.buf) - before)
	o.shut = last
	start := !o.writing
	o.writing = true
	o.mu.Unlock()
	if start {
		c.srv.writers.Add(1)
		go c.drain()
	}
}

// drain writes until nothing waits.
func (c *conn) drain() {
	defer c.srv.writers.Done()
	o := &c.out
	written := 0
	for {
		o.mu.Lock()
		o.counted -= written
		c.srv.memory.add(-written)
		buf := o.buf
		if buf == nil {
			o.writing = false
			shut, left := o.shut, o.left
			o.mu.Unlock()
			switch {
			case left:
				_ = c.wire.Conn.Close()
			case shut:
				c.linger()
			}
			return
		}
		o.buf = nil
		written = len(*buf)
		o.mu.Unlock()

		c.armWrite()
		_, err := c.wire.Conn.Write(*buf)
		c.srv.buffers.put(buf)
		if err == nil {
			continue
		}
		o.mu.Lock()
		o.shut, o.writing = true, false
		if o.buf != nil {
			c.srv.buffers.put(o.buf)
			o.buf = nil
		}
		c.srv.memory.add(-o.counted)
		o.counted = 0
		o.mu.Unlock()
		_ = c.wire.Conn.Close()
		return
	}
}

// armWrite sets the write deadline, unless one that is far enough is set: a
// deadline costs more than a look at the clock.
func (c *conn) armWrite() {
	now := time.Now()
	if c.out.deadline.Sub(now) > writeTimeout/2 {
		return
	}
	c.out.deadline = now.Add(writeTimeout)
	_ = c.wire.Conn.SetWriteDeadline(c.out.deadline)
}

// linger ends our side and gives the device a moment to end its own: closing at
// once could throw away what it has not read yet.
func (c *conn) linger() {
	if half, ok := c.wire.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = c.wire.Conn.SetReadDeadline(time.Now().Add(lingerTimeout))
}

// leave is called when the reader has ended: what waits is written, then the
// socket closes.
func (c *conn) leave() {
	o := &c.out
	o.mu.Lock()
	o.shut, o.left = true, true
	writing := o.writing
	o.mu.Unlock()
	if !writing {
		_ = c.wire.Conn.Close()
	}
}

// wire is the socket as the WebSocket library sees it. The library writes the
// answer to the handshake and close frames; the latter go through the outbox
// like everything else.
type wire struct {
	net.Conn
	c    *conn
	open bool
}

// Write takes ready-made frames of the library.
func (w *wire) Write(p []byte) (int, error) {
	if !w.open {
		return w.Conn.Write(p)
	}
	if len(p) >= 2 && p[0] == finClose && p[1] < 126 {
		w.c.enqueue(finClose, p[2:], true)
	}
	return len(p), nil
}

// Close leaves closing to the reader's end.
func (w *wire) Close() error {
	if !w.open {
		return w.Conn.Close()
	}
	return nil
}

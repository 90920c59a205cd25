// Package ws is a lean WebSocket client connection: whole binary messages, no
// extensions, a few kilobytes of memory each, so that thousands fit into one
// process without costing the server under test its processor.
package ws

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1" // the protocol prescribes it; nothing is secured by it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa

	// readBuffer holds any frame of a single short message.
	readBuffer = 1024
	maxMessage = 4 << 20
	guid       = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

// ErrClosed is returned by Read after the server has closed the connection in
// order.
var ErrClosed = errors.New("websocket closed by the server")

// Conn is a connection. One goroutine may read while others write.
type Conn struct {
	conn    net.Conn
	r       *bufio.Reader
	message []byte

	mu  sync.Mutex
	out []byte
}

// Dial connects and upgrades. target is a ws:// address.
func Dial(ctx context.Context, target string) (*Conn, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("websocket address: %w", err)
	}
	if u.Scheme != "ws" {
		return nil, fmt.Errorf("websocket address %s: only ws:// is known here", target)
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "80")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(30 * time.Second)
	}
	_ = conn.SetDeadline(deadline)
	c := &Conn{conn: conn, r: bufio.NewReaderSize(conn, readBuffer)}
	if err := c.upgrade(u); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("websocket upgrade at %s: %w", target, err)
	}
	_ = conn.SetDeadline(time.Time{})
	return c, nil
}

func (c *Conn) upgrade(u *url.URL) error {
	var nonce [16]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return err
	}
	key := base64.StdEncoding.EncodeToString(nonce[:])
	path := u.RequestURI()
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", path, u.Host, key); err != nil {
		return err
	}
	res, err := http.ReadResponse(c.r, &http.Request{Method: http.MethodGet})
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 200))
		return fmt.Errorf("status %d: %s", res.StatusCode, text)
	}
	sum := sha1.Sum([]byte(key + guid))
	if res.Header.Get("Sec-Websocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) {
		return errors.New("wrong accept key")
	}
	return nil
}

// Read gives the next message, valid until the next call. It answers pings.
func (c *Conn) Read() ([]byte, error) {
	c.message = c.message[:0]
	for {
		fin, op, n, err := c.header()
		if err != nil {
			return nil, err
		}
		if len(c.message)+n > maxMessage {
			return nil, errors.New("websocket message is too long")
		}
		if op >= opClose {
			if err := c.control(op, n); err != nil {
				return nil, err
			}
			continue
		}
		if fin && len(c.message) == 0 && n <= c.r.Buffered() {
			// The common case: the whole message is in the buffer already.
			p, err := c.r.Peek(n)
			if err != nil {
				return nil, err
			}
			_, err = c.r.Discard(n)
			return p, err
		}
		start := len(c.message)
		for cap(c.message) < start+n {
			c.message = append(c.message[:cap(c.message)], 0)
		}
		c.message = c.message[:start+n]
		if _, err := io.ReadFull(c.r, c.message[start:]); err != nil {
			return nil, err
		}
		if fin {
			return c.message, nil
		}
	}
}

func (c *Conn) header() (fin bool, op byte, n int, err error) {
	var h [8]byte
	if _, err = io.ReadFull(c.r, h[:2]); err != nil {
		return false, 0, 0, err
	}
	fin, op = h[0]&0x80 != 0, h[0]&0x0f
	if h[0]&0x70 != 0 || h[1]&0x80 != 0 {
		return false, 0, 0, errors.New("websocket frame with reserved bits or a mask")
	}
	switch op {
	case opContinuation, opText, opBinary, opClose, opPing, opPong:
	default:
		return false, 0, 0, fmt.Errorf("websocket frame of unknown kind %d", op)
	}
	switch l := h[1] & 0x7f; l {
	case 126:
		if _, err = io.ReadFull(c.r, h[:2]); err != nil {
			return false, 0, 0, err
		}
		n = int(binary.BigEndian.Uint16(h[:2]))
	case 127:
		if _, err = io.ReadFull(c.r, h[:8]); err != nil {
			return false, 0, 0, err
		}
		n = int(min(binary.BigEndian.Uint64(h[:8]), maxMessage+1))
	default:
		n = int(l)
	}
	return fin, op, n, nil
}

func (c *Conn) control(op byte, n int) error {
	if n > 125 {
		return errors.New("websocket control frame is too long")
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		return err
	}
	switch op {
	case opPing:
		return c.write(opPong, payload)
	case opClose:
		_ = c.write(opClose, payload)
		return ErrClosed
	default:
		return nil
	}
}

// Write sends one binary message.
func (c *Conn) Write(payload []byte) error { return c.write(opBinary, payload) }

func (c *Conn) write(op byte, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	const masked = 0x80
	c.out = append(c.out[:0], 0x80|op)
	switch n := len(payload); {
	case n < 126:
		c.out = append(c.out, masked|byte(n))
	case n <= 0xffff:
		c.out = append(c.out, masked|126)
		c.out = binary.BigEndian.AppendUint16(c.out, uint16(n))
	default:
		c.out = append(c.out, masked|127)
		c.out = binary.BigEndian.AppendUint64(c.out, uint64(n))
	}
	// A mask of zeros is a legal mask and leaves the payload as it is: there is
	// no proxy here that masking would protect.
	c.out = append(c.out, 0, 0, 0, 0)
	c.out = append(c.out, payload...)
	_, err := c.conn.Write(c.out)
	return err
}

// SetReadDeadline bounds Read.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// Close ends the connection; a Read under way returns.
func (c *Conn) Close() error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_ = c.write(opClose, []byte{0x03, 0xe8}) // 1000, normal closure
	return c.conn.Close()
}

// AppendServerFrame appends payload as one unmasked binary frame, the way a
// server writes it.
func AppendServerFrame(b, payload []byte) []byte {
	b = append(b, 0x80|opBinary)
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n <= 0xffff:
		b = append(b, 126)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b = append(b, 127)
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return append(b, payload...)
}

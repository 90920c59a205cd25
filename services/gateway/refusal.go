package gateway

import (
	"bytes"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/chappe-im/chappe/services/gateway/rest"
)

// refusalListener has what the HTTP server refuses by itself, before any
// handler sees it, answered as everything else: as a JSON object. net/http has
// no hook for that; it writes such an answer in one piece and closes.
type refusalListener struct{ net.Listener }

// Accept waits for a connection.
func (l refusalListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &refusalConn{c}, nil
}

type refusalConn struct{ net.Conn }

// Write passes on what is written, except the server's own refusals.
func (c *refusalConn) Write(b []byte) (int, error) {
	status, ok := refusal(b)
	if !ok {
		return c.Conn.Write(b)
	}
	if _, err := c.Conn.Write(appendRefusal(nil, status, time.Now())); err != nil {
		return 0, err
	}
	return len(b), nil
}

// CloseWrite ends one direction, as the server does with a caller that is still
// sending what it has refused.
func (c *refusalConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Every answer of a handler has other headers than these two, a date at least.
var (
	statusLine     = []byte("HTTP/1.1 ")
	refusalHeaders = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")
	// An expectation is refused with headers alone; no handler gives this status.
	expectationFailed = []byte("HTTP/1.1 417 ")
)

// refusal reports whether b is a refusal of the server's own, and its status.
func refusal(b []byte) (status int, ok bool) {
	if len(b) < len(expectationFailed) || b[len(statusLine)] < '4' || !bytes.HasPrefix(b, statusLine) {
		return 0, false
	}
	status, err := strconv.Atoi(string(b[len(statusLine) : len(statusLine)+3]))
	if err != nil {
		return 0, false
	}
	if bytes.HasPrefix(b, expectationFailed) {
		return status, true
	}
	line := bytes.IndexByte(b, '\r')
	return status, line >= 0 && bytes.HasPrefix(b[line:], refusalHeaders)
}

// appendRefusal writes the answer that takes its place.
func appendRefusal(dst []byte, status int, now time.Time) []byte {
	body := rest.Refusal(status, now)
	dst = append(dst, statusLine...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(status)...)
	dst = append(dst, "\r\nDate: "...)
	dst = now.UTC().AppendFormat(dst, http.TimeFormat)
	dst = append(dst, "\r\nContent-Type: application/json\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\nConnection: close\r\n\r\n"...)
	return append(dst, body...)
}

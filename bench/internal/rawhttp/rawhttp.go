// Package rawhttp is a lean HTTP/1.1 client for one keep-alive connection. The
// tool and the server under test share a machine, so what the client does not
// spend is measured of the server.
package rawhttp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxBody bounds answers; larger ones are an error.
const maxBody = 8 << 20

// Conn is one connection. It is not safe for concurrent use. After an error
// other than a status it reconnects by itself at the next call.
type Conn struct {
	address string
	timeout time.Duration

	conn net.Conn
	r    *bufio.Reader
	out  []byte
	body []byte
}

// Request is a request without its body, ready to be sent many times.
type Request struct {
	head string
}

// NewRequest prepares a request. Header values must not hold line breaks.
func NewRequest(method string, target *url.URL, header map[string]string) Request {
	var b strings.Builder
	path := target.RequestURI()
	if !strings.HasPrefix(path, "/") { // joined to a base without a path
		path = "/" + path
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, target.Host)
	for k, v := range header {
		fmt.Fprintf(&b, "%s: %s\r\n", k, v)
	}
	b.WriteString("Content-Length: ")
	return Request{head: b.String()}
}

// Response of a call. Body and Header values are valid until the next call.
type Response struct {
	Status int
	Body   []byte
	// RetryAfter is what the server asked to wait; 0 if it did not.
	RetryAfter time.Duration
}

// Limited reports whether a limit refused the call: 429, or 403 with the time
// to come back where messages are limited and not calls.
func (r Response) Limited() bool {
	return r.Status == http.StatusTooManyRequests || r.Status == http.StatusForbidden && r.RetryAfter > 0
}

// New makes a client for host:port; timeout bounds each call.
func New(address string, timeout time.Duration) *Conn {
	return &Conn{address: address, timeout: timeout}
}

// Close closes the connection.
func (c *Conn) Close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// Connect opens the connection if it is not open; Do does it too.
func (c *Conn) Connect() error {
	if c.conn != nil {
		return nil
	}
	conn, err := net.DialTimeout("tcp", c.address, c.timeout)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", c.address, err)
	}
	c.conn = conn
	if c.r == nil {
		c.r = bufio.NewReaderSize(conn, 4096)
	} else {
		c.r.Reset(conn)
	}
	return nil
}

// Do sends one request and reads its answer. Any answer, also one with an
// error status, is a Response; the error is for what is no answer.
func (c *Conn) Do(req Request, body []byte) (Response, error) {
	if err := c.Connect(); err != nil {
		return Response{}, err
	}
	if err := c.conn.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		c.Close()
		return Response{}, err
	}
	c.out = append(c.out[:0], req.head...)
	c.out = strconv.AppendInt(c.out, int64(len(body)), 10)
	c.out = append(c.out, "\r\n\r\n"...)
	c.out = append(c.out, body...)
	if _, err := c.conn.Write(c.out); err != nil {
		c.Close()
		return Response{}, fmt.Errorf("send request: %w", err)
	}
	res, keep, err := c.read()
	if err != nil {
		c.Close()
		return Response{}, fmt.Errorf("read answer: %w", err)
	}
	if !keep {
		c.Close()
	}
	return res, nil
}

func (c *Conn) line() ([]byte, error) {
	l, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	l = l[:len(l)-1]
	if n := len(l); n > 0 && l[n-1] == '\r' {
		l = l[:n-1]
	}
	return l, nil
}

func (c *Conn) read() (res Response, keep bool, err error) {
	l, err := c.line()
	if err != nil {
		return res, false, err
	}
	if len(l) < 12 || string(l[:7]) != "HTTP/1." {
		return res, false, fmt.Errorf("no HTTP answer: %.40q", l)
	}
	if res.Status, err = strconv.Atoi(string(l[9:12])); err != nil {
		return res, false, fmt.Errorf("no HTTP status: %.40q", l)
	}
	keep = l[7] == '1'
	length, chunked := int64(-1), false
	for {
		if l, err = c.line(); err != nil {
			return res, false, err
		}
		if len(l) == 0 {
			break
		}
		switch {
		case hasName(l, "content-length"):
			if length, err = strconv.ParseInt(value(l), 10, 64); err != nil || length < 0 {
				return res, false, errors.New("malformed Content-Length")
			}
		case hasName(l, "transfer-encoding"):
			chunked = strings.EqualFold(value(l), "chunked")
		case hasName(l, "connection"):
			keep = !strings.EqualFold(value(l), "close")
		case hasName(l, "retry-after"):
			if s, err := strconv.Atoi(value(l)); err == nil && s > 0 {
				res.RetryAfter = time.Duration(s) * time.Second
			}
		}
	}
	c.body = c.body[:0]
	switch {
	case chunked:
		err = c.readChunks()
	case length > maxBody:
		err = errors.New("answer is too long")
	case length > 0:
		err = c.readN(int(length))
	case length < 0 && keep:
		err = errors.New("answer without a length")
	case length < 0: // ends with the connection
		c.body, err = io.ReadAll(io.LimitReader(c.r, maxBody))
	}
	res.Body = c.body
	return res, keep, err
}

func (c *Conn) readN(n int) error {
	start := len(c.body)
	if start+n > maxBody {
		return errors.New("answer is too long")
	}
	for cap(c.body) < start+n {
		c.body = append(c.body[:cap(c.body)], 0)
	}
	c.body = c.body[:start+n]
	_, err := io.ReadFull(c.r, c.body[start:])
	return err
}

func (c *Conn) readChunks() error {
	for {
		l, err := c.line()
		if err != nil {
			return err
		}
		size, _, _ := strings.Cut(string(l), ";")
		n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 32)
		if err != nil || n < 0 {
			return errors.New("malformed chunk")
		}
		if n > 0 {
			if err := c.readN(int(n)); err != nil {
				return err
			}
			if _, err := c.line(); err != nil {
				return err
			}
			continue
		}
		for { // trailers
			if l, err = c.line(); err != nil || len(l) == 0 {
				return err
			}
		}
	}
}

// hasName reports whether a header line has the given lower-case name.
func hasName(line []byte, name string) bool {
	if len(line) <= len(name) || line[len(name)] != ':' {
		return false
	}
	for i := range len(name) {
		b := line[i]
		if b >= 'A' && b <= 'Z' {
			b += 'a' - 'A'
		}
		if b != name[i] {
			return false
		}
	}
	return true
}

func value(line []byte) string {
	_, v, _ := strings.Cut(string(line), ":")
	return strings.TrimSpace(v)
}

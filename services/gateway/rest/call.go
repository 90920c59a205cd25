package rest

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/services/gateway/routes"
)

// call is what is known of one request while it is served. Calls are used
// again: nothing may keep one, or a slice of one, beyond its request.
type call struct {
	h   *Handler
	req *http.Request // as it came in
	w   writer
	id  string

	// Set once the request is routed.
	endpoint *endpoint
	access   routes.Access
	// user is whom limits by user count the call for.
	user ident.UserID
	// message is the decoded request, set when the service is about to be
	// called.
	message  proto.Message
	admitted bool
	// form is what the query of a call with a body sets.
	form url.Values
	// failure is why the body could not be read; the generated handlers pass
	// on only its text.
	failure error
	resp    proto.Message

	began time.Time
	env   routes.Envelope
	body  []byte
}

// Buffers beyond this are not kept for the next call.
const maxKept = 64 << 10

// pool hands out calls.
type pool struct{ sync.Pool }

func (p *pool) get() *call {
	if c, ok := p.Get().(*call); ok {
		return c
	}
	return &call{}
}

func (p *pool) put(c *call) {
	out, in := c.env.Buf[:0], c.body[:0]
	if cap(out) > maxKept {
		out = nil
	}
	if cap(in) > maxKept {
		in = nil
	}
	*c = call{body: in}
	c.env.Buf = out
	p.Put(c)
}

// callContext carries a call. It is not the call itself because contexts live
// on in goroutines that a finished request has left behind.
type callContext struct {
	context.Context
	c *call
}

type callKey struct{}

// Value gives the call, or what the request's own context holds.
func (x *callContext) Value(key any) any {
	if _, ok := key.(callKey); ok {
		return x.c
	}
	return x.Context.Value(key)
}

func callFrom(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// writer remembers what was answered.
type writer struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader sends the status.
func (w *writer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write sends a part of the body.
func (w *writer) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the server's writer.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// lazyBody stands for the body in generated handlers. The marshaler knows it
// and reads the call's body instead; to everybody else it is empty.
type lazyBody struct{ c *call }

// Read ends at once.
func (b lazyBody) Read([]byte) (int, error) { return 0, io.EOF }

// WriteTo ends at once, so that io.Copy needs no buffer.
func (b lazyBody) WriteTo(io.Writer) (int64, error) { return 0, nil }

// Close does nothing.
func (b lazyBody) Close() error { return nil }

// decode reads the body into a request message.
func (c *call) decode(m proto.Message) error {
	err := c.read()
	if err == nil {
		err = c.parse(m)
	}
	c.failure = err
	return err
}

func (c *call) parse(m proto.Message) error {
	b := &c.endpoint.route.Body
	if len(c.body) == 0 {
		return b.Into(m, nil, false)
	}
	kind, ok := mediaType(c.req.Header)
	if !ok || encoded(c.req.Header) {
		return unsupportedMedia()
	}
	return b.Into(m, c.body, kind != mediaJSON)
}

type media uint8

const (
	mediaNone media = iota
	mediaJSON
	mediaForm
)

// encoded reports whether a body is compressed.
func encoded(h http.Header) bool {
	for _, coding := range h["Content-Encoding"] {
		if coding != "" && !strings.EqualFold(strings.TrimSpace(coding), "identity") {
			return true
		}
	}
	return false
}

// mediaType reads a body's label. Clients in the field send JSON without a
// label, or labelled as a form because curl does so.
func mediaType(h http.Header) (media, bool) {
	values := h["Content-Type"]
	if len(values) == 0 || values[0] == "" {
		return mediaNone, true
	}
	if values[0] == jsonType {
		return mediaJSON, true
	}
	// Browsers join a header that an old client SDK sets twice.
	label, _, _ := strings.Cut(values[0], ",")
	t, _, err := mime.ParseMediaType(label)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return 0, false
	}
	switch t {
	case jsonType:
		return mediaJSON, true
	case "application/x-www-form-urlencoded":
		return mediaForm, true
	default:
		return 0, false
	}
}

// read takes the whole body into memory, up to the limit.
func (c *call) read() error {
	limit := c.h.cfg.MaxBodyBytes
	if n := c.req.ContentLength; n > limit {
		return errs.TooLarge()
	} else if n > 0 && int64(cap(c.body)) < n+1 {
		// One byte more than announced, so that the end is seen without growing.
		c.body = make([]byte, 0, n+1)
	}
	for {
		if len(c.body) == cap(c.body) {
			c.body = append(c.body, 0)[:len(c.body)]
		}
		n, err := c.req.Body.Read(c.body[len(c.body):cap(c.body)])
		c.body = c.body[:len(c.body)+n]
		if int64(len(c.body)) > limit {
			return errs.TooLarge()
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return requestTimeout()
		default:
			e := errs.Invalid(errs.MessageInvalidRequest)
			e.Cause = err
			return e
		}
	}
}

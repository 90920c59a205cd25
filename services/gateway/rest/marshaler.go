package rest

import (
	"errors"
	"io"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"
)

const jsonType = "application/json"

var jsonTypes = []string{jsonType}

var (
	errNoCall    = errors.New("rest: only the answers of calls are marshalled")
	errNoMessage = errors.New("rest: only request messages are decoded")
)

// marshaler is the mux's way to restjson: it decodes the body of the call
// that a body stands for, and writes the answer of the call that the rewriter
// put in the answer's place.
type marshaler struct{}

var _ runtime.Marshaler = marshaler{}

// ContentType is always JSON.
func (marshaler) ContentType(any) string { return jsonType }

// Marshal writes a call's answer into the call's buffer.
func (marshaler) Marshal(v any) ([]byte, error) {
	c, ok := v.(*call)
	if !ok {
		return nil, errNoCall
	}
	env := &c.env
	env.Began, env.Now = c.began, time.Now()
	env.Buf = env.Buf[:0]
	err := c.endpoint.route.Answer.Append(env, c.message, c.resp)
	return env.Buf, err
}

// NewDecoder decodes the call whose body r is.
func (marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	b, ok := r.(lazyBody)
	if !ok {
		return runtime.DecoderFunc(func(any) error { return io.EOF })
	}
	return b.c
}

// Decode lets a call be its own decoder.
func (c *call) Decode(v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return errNoMessage
	}
	return c.decode(m)
}

// Unmarshal is not used by unary handlers.
func (marshaler) Unmarshal([]byte, any) error { return errNoMessage }

// NewEncoder is not used by unary handlers.
func (m marshaler) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		b, err := m.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	})
}

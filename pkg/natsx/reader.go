package natsx

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// StreamReader reads a stream in order, from a place on, without
// acknowledging anything: its user keeps the place.
type StreamReader struct {
	ch     chan StreamMsg
	cc     jetstream.ConsumeContext
	failed chan error
	once   sync.Once
	closed chan struct{}
	// ended is closed when reading has ended by itself. It is asked for once:
	// the client starts a goroutine at each call, which stays as long as the
	// reader.
	ended <-chan struct{}
}

// ReadStream begins to read at a stream place (from 1), taking only the given
// subjects, or all. buffer bounds what is read ahead.
func (c *Conn) ReadStream(ctx context.Context, stream string, from uint64, buffer int, subjects ...string) (*StreamReader, error) {
	cons, err := c.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		FilterSubjects: subjects,
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:    max(1, from),
	})
	if err != nil {
		return nil, unavailable("stream "+stream, err)
	}
	r := &StreamReader{ch: make(chan StreamMsg, buffer), failed: make(chan error, 1), closed: make(chan struct{})}
	r.cc, err = cons.Consume(func(m jetstream.Msg) {
		select {
		case r.ch <- m:
		case <-r.closed:
		}
	}, jetstream.PullMaxMessages(max(buffer, 2)), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		// Heartbeats missed and the like heal by themselves: the consumer is
		// made anew where it was. What does not heal closes it.
		if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
			select {
			case r.failed <- err:
			default:
			}
		}
	}))
	if err != nil {
		return nil, unavailable("stream "+stream, err)
	}
	r.ended = r.cc.Closed()
	return r, nil
}

// Next waits for messages and appends up to limit of them, all that are there.
func (r *StreamReader) Next(ctx context.Context, into []StreamMsg, limit int) ([]StreamMsg, error) {
	select {
	case m := <-r.ch:
		into = append(into, m)
	case err := <-r.failed:
		return nil, fmt.Errorf("read stream: %w", err)
	case <-r.ended:
		return nil, unavailable("stream", errors.New("its reader ended"))
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for len(into) < limit {
		select {
		case m := <-r.ch:
			into = append(into, m)
		default:
			return into, nil
		}
	}
	return into, nil
}

// C gives the messages one by one, for use in a select.
func (r *StreamReader) C() <-chan StreamMsg { return r.ch }

// Closed is closed when the reader has ended by itself.
func (r *StreamReader) Closed() <-chan struct{} { return r.ended }

// Stop ends reading.
func (r *StreamReader) Stop() {
	r.once.Do(func() {
		close(r.closed)
		r.cc.Stop()
	})
}

// StreamSubjects counts a stream's messages by subject.
func (c *Conn) StreamSubjects(ctx context.Context, stream, filter string) (map[string]uint64, error) {
	s, err := c.js.Stream(ctx, stream)
	if err != nil {
		return nil, unavailable("stream "+stream, err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, unavailable("stream "+stream, err)
	}
	return info.State.Subjects, nil
}

// WorkConsumer makes or opens the consumer that takes one subject of a work
// queue, one message after the other.
func (c *Conn) WorkConsumer(ctx context.Context, stream, name, subject string) (Consumer, error) {
	cons, err := c.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable: name, FilterSubject: subject, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 1,
	})
	if err != nil {
		return nil, unavailable("consumer "+name, err)
	}
	return cons, nil
}

// DeleteConsumer removes a consumer; one that is gone is fine.
func (c *Conn) DeleteConsumer(ctx context.Context, stream, name string) error {
	err := c.js.DeleteConsumer(ctx, stream, name)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return unavailable("consumer "+name, err)
	}
	return nil
}

// ErrNoWork says that a work queue is empty.
var ErrNoWork = errors.New("no work")

// NextWork takes the next message of a work queue, waiting for it at most so
// long; ErrNoWork if none came.
func NextWork(c Consumer, wait time.Duration) (StreamMsg, error) {
	m, err := c.Next(jetstream.FetchMaxWait(wait))
	switch {
	case err == nil:
		return m, nil
	case errors.Is(err, jetstream.ErrNoMessages), errors.Is(err, nats.ErrTimeout):
		return nil, ErrNoWork
	default:
		return nil, unavailable("work queue", err)
	}
}

// DurableConsumer makes or opens a consumer that remembers what was
// acknowledged. A new one begins with what is published from now on.
func (c *Conn) DurableConsumer(ctx context.Context, stream, name string) (Consumer, error) {
	cons, err := c.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable: name, AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverNewPolicy,
		AckWait: 30 * time.Second, MaxAckPending: 1000,
	})
	if err != nil {
		return nil, unavailable("consumer "+name, err)
	}
	return cons, nil
}

// Fetch waits at most so long for a message of a consumer and takes it with
// what else is there, up to limit; none is no error.
func Fetch(c Consumer, limit int, wait time.Duration) ([]StreamMsg, error) {
	first, err := NextWork(c, wait)
	if errors.Is(err, ErrNoWork) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := []StreamMsg{first}
	batch, err := c.FetchNoWait(limit - 1)
	if err != nil {
		return nil, unavailable("stream", err)
	}
	for m := range batch.Messages() {
		out = append(out, m)
	}
	return out, nil
}

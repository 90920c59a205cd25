package natsx

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// StreamState is what a stream holds and where it comes from.
type StreamState struct {
	// First and Last are the first place that the stream still holds and the
	// last one it gave out. First is Last+1 when it holds nothing.
	First, Last uint64
	// Bytes that it takes, and may take; 0 for no bound.
	Bytes, MaxBytes uint64
	// Created is when the stream was made. A copy of its files keeps it.
	Created time.Time
	// Metadata is what users of the stream noted in its configuration.
	Metadata map[string]string
}

// stateTimeout bounds one question about a stream.
const stateTimeout = 2 * time.Second

// ErrNoStream says that a stream does not exist.
var ErrNoStream = errors.New("no such stream")

// StreamState asks what a stream holds right now.
func (c *Conn) StreamState(ctx context.Context, stream string) (StreamState, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	s, err := c.js.Stream(ctx, stream)
	if err != nil {
		return StreamState{}, streamError(stream, err)
	}
	info := s.CachedInfo()
	return StreamState{
		Bytes: info.State.Bytes, MaxBytes: uint64(max(0, info.Config.MaxBytes)), // not negative
		First: info.State.FirstSeq, Last: info.State.LastSeq, Created: info.Created, Metadata: info.Config.Metadata,
	}, nil
}

// SetStreamMetadata notes something in a stream's configuration.
func (c *Conn) SetStreamMetadata(ctx context.Context, stream, key, value string) error {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	s, err := c.js.Stream(ctx, stream)
	if err != nil {
		return streamError(stream, err)
	}
	cfg := s.CachedInfo().Config
	cfg.Metadata = withMetadata(cfg.Metadata, key, value)
	if _, err := c.js.UpdateStream(ctx, cfg); err != nil {
		return streamError(stream, err)
	}
	return nil
}

func withMetadata(m map[string]string, key, value string) map[string]string {
	m = maps.Clone(m)
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}

// StreamRecord reads the message at a place of a stream; ok is false when the
// stream does not hold it.
func (c *Conn) StreamRecord(ctx context.Context, stream string, place uint64) (data []byte, ok bool, err error) {
	_, data, ok, err = c.record(ctx, stream, place)
	return data, ok, err
}

// NextStreamRecord reads the first message at or after a place of a stream that
// is of the given subjects; ok is false when there is none.
func (c *Conn) NextStreamRecord(ctx context.Context, stream, subjects string, place uint64) (at uint64, data []byte, ok bool, err error) {
	return c.record(ctx, stream, place, jetstream.WithGetMsgSubject(subjects))
}

func (c *Conn) record(ctx context.Context, stream string, place uint64, opts ...jetstream.GetMsgOpt) (at uint64, data []byte, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	s, err := c.js.Stream(ctx, stream)
	if err != nil {
		return 0, nil, false, streamError(stream, err)
	}
	m, err := s.GetMsg(ctx, place, opts...)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil, false, nil
	}
	if err != nil {
		return 0, nil, false, streamError(stream, err)
	}
	return m.Sequence, m.Data, true, nil
}

func streamError(stream string, err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return unavailable("stream "+stream, errors.Join(ErrNoStream, err))
	}
	return unavailable("stream "+stream, err)
}

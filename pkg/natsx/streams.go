package natsx

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Types of JetStream that its users hold.
type (
	// KeyValue is a bucket.
	KeyValue = jetstream.KeyValue
	// KeyValueEntry is an entry of a bucket.
	KeyValueEntry = jetstream.KeyValueEntry
	// Consumer reads a stream.
	Consumer = jetstream.Consumer
	// StreamMsg is a message of a stream.
	StreamMsg = jetstream.Msg
	// PubAckFuture is an acknowledgement to come.
	PubAckFuture = jetstream.PubAckFuture
)

// StreamSpec is a stream as its owner wants it.
type StreamSpec struct {
	Name     string
	Subjects []string
	// MaxAge of messages; 0 keeps them until they are taken (WorkQueue) or for
	// ever.
	MaxAge time.Duration
	// MaxBytes bounds what the stream holds; 0 for no bound. A full stream takes
	// nothing more: its owner makes room with TrimStream.
	MaxBytes int64
	// WorkQueue deletes messages once they are acknowledged.
	WorkQueue bool
	// DuplicateWindow is how long a repeated message ID is recognized.
	DuplicateWindow time.Duration
	Replicas        int
}

// maxEnsureTries bounds how often EnsureStream starts over because another
// process made or changed the stream at the same moment.
const maxEnsureTries = 5

// EnsureStream creates a stream or brings an existing one up to date. Of its
// metadata it writes the installation only. It refuses to go on when the existing one conflicts and
// never deletes one.
func (c *Conn) EnsureStream(ctx context.Context, spec StreamSpec) error {
	retention := jetstream.LimitsPolicy
	if spec.WorkQueue {
		retention = jetstream.WorkQueuePolicy
	}
	bytes := spec.MaxBytes
	want := func(cfg jetstream.StreamConfig) jetstream.StreamConfig {
		cfg.Name = spec.Name
		cfg.Subjects = spec.Subjects
		cfg.Retention = retention
		cfg.Storage = jetstream.FileStorage
		cfg.MaxAge = spec.MaxAge
		cfg.Duplicates = spec.DuplicateWindow
		cfg.Replicas = max(1, spec.Replicas)
		cfg.MaxBytes, cfg.Discard = -1, jetstream.DiscardOld
		if bytes > 0 {
			cfg.MaxBytes, cfg.Discard = bytes, jetstream.DiscardNew
		}
		if c.installation != "" && cfg.Metadata[InstallationKey] == "" {
			cfg.Metadata = withMetadata(cfg.Metadata, InstallationKey, c.installation)
		}
		return cfg
	}
	var err error
	for range maxEnsureTries {
		var s jetstream.Stream
		s, err = c.js.Stream(ctx, spec.Name)
		switch {
		case err == nil:
			_, err = c.js.UpdateStream(ctx, want(s.CachedInfo().Config))
		case errors.Is(err, jetstream.ErrStreamNotFound):
			_, err = c.js.CreateStream(ctx, want(jetstream.StreamConfig{}))
		}
		if api := (*jetstream.APIError)(nil); errors.As(err, &api) && api.ErrorCode == errCodeStorageExceeded && bytes > 0 {
			c.logger.Warn("NATS has less room than the stream's bound: its own limit holds instead", "stream", spec.Name, "bytes", bytes)
			bytes = 0
			continue
		}
		if !errors.Is(err, jetstream.ErrStreamNotFound) && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", spec.Name, err)
	}
	return nil
}

// errCodeStorageExceeded is the server's refusal of a bound that is larger than
// the room it has been given.
const errCodeStorageExceeded = jetstream.ErrorCode(10047)

// TrimStream drops the messages of a stream before a place.
func (c *Conn) TrimStream(ctx context.Context, stream string, before uint64) error {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	s, err := c.js.Stream(ctx, stream)
	if err != nil {
		return streamError(stream, err)
	}
	if err := s.Purge(ctx, jetstream.WithPurgeSequence(before)); err != nil {
		return streamError(stream, err)
	}
	return nil
}

// EnsureBucket creates a key-value bucket or opens the existing one. ttl 0
// keeps entries for ever.
func (c *Conn) EnsureBucket(ctx context.Context, name string, ttl time.Duration, replicas int) (KeyValue, error) {
	kv, err := c.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: name, TTL: ttl, Storage: jetstream.FileStorage, Replicas: max(1, replicas), History: 1,
	})
	if err != nil {
		return nil, unavailable("nats bucket "+name, err)
	}
	return kv, nil
}

// PublishAsync publishes into a stream and returns at once; the future tells
// when the stream has committed it. msgID, if given, makes a repetition within
// the stream's duplicate window harmless. Calls of one goroutine reach the
// stream in order.
func (c *Conn) PublishAsync(subject string, data []byte, msgID string) (PubAckFuture, error) {
	var opts []jetstream.PublishOpt
	if msgID != "" {
		opts = append(opts, jetstream.WithMsgID(msgID))
	}
	f, err := c.js.PublishAsync(subject, data, opts...)
	if err != nil {
		return nil, unavailable("message log", err)
	}
	return f, nil
}

// ackTimeout bounds the wait for a commit, which takes milliseconds unless the
// stream cannot write.
const ackTimeout = 5 * time.Second

// Await waits for a future's commit.
func Await(ctx context.Context, f PubAckFuture) error {
	_, _, err := AwaitPlace(ctx, f, nil)
	return err
}

// AwaitPlace is Await that tells the message's place in its stream, and
// whether the stream held the message already. It gives up when giveUp, which
// may be nil, is closed.
func AwaitPlace(ctx context.Context, f PubAckFuture, giveUp <-chan struct{}) (place uint64, duplicate bool, err error) {
	select {
	case ack := <-f.Ok():
		return ack.Sequence, ack.Duplicate, nil
	default:
	}
	t := time.NewTimer(ackTimeout)
	defer t.Stop()
	select {
	case ack := <-f.Ok():
		return ack.Sequence, ack.Duplicate, nil
	case err := <-f.Err():
		return 0, false, unavailable("message log", err)
	case <-giveUp:
		return 0, false, unavailable("message log", errors.New("it went away while the message was committed"))
	case <-t.C:
		return 0, false, unavailable("message log", errors.New("it does not answer"))
	case <-ctx.Done():
		return 0, false, unavailable("message log", ctx.Err())
	}
}

// PublishStored publishes into a stream and waits for its commit.
func (c *Conn) PublishStored(ctx context.Context, subject string, data []byte, msgID string) error {
	f, err := c.PublishAsync(subject, data, msgID)
	if err != nil {
		return err
	}
	return Await(ctx, f)
}

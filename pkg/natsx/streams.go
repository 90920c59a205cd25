package natsx

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/chappe-im/chappe/pkg/errs"
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
	want := func(cfg jetstream.StreamConfig) jetstream.StreamConfig {
		cfg.Name = spec.Name
		cfg.Subjects = spec.Subjects
		cfg.Retention = retention
		cfg.Storage = jetstream.FileStorage
		cfg.MaxAge = spec.MaxAge
		cfg.Duplicates = spec.DuplicateWindow
		cfg.Replicas = max(1, spec.Replicas)
		cfg.Discard = jetstream.DiscardOld
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
		if !errors.Is(err, jetstream.ErrStreamNotFound) && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", spec.Name, err)
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
		return nil, errs.Unavailable("nats bucket "+name, err)
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
		return nil, errs.Unavailable("message log", err)
	}
	return f, nil
}

// Await waits for a future's commit.
func Await(ctx context.Context, f PubAckFuture) error {
	_, _, err := AwaitPlace(ctx, f)
	return err
}

// AwaitPlace is Await that tells the message's place in its stream, and
// whether the stream held the message already.
func AwaitPlace(ctx context.Context, f PubAckFuture) (place uint64, duplicate bool, err error) {
	select {
	case ack := <-f.Ok():
		return ack.Sequence, ack.Duplicate, nil
	case err := <-f.Err():
		return 0, false, errs.Unavailable("message log", err)
	case <-ctx.Done():
		return 0, false, errs.Unavailable("message log", ctx.Err())
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

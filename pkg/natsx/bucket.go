package natsx

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrConflict says that a key of a bucket is no longer at the revision that a
// change expected.
var ErrConflict = errors.New("the key has changed")

// BucketSpec is a key-value bucket as its owner wants it.
type BucketSpec struct {
	Name     string
	Replicas int
	// MarkerTTL is how long the trace of a deleted key is kept: longer than any
	// watcher may be cut off, at least a second.
	MarkerTTL time.Duration
}

// Bucket is a key-value bucket whose every change, deletions too, is made
// against a known revision and answers with its own, so that a caller can keep
// a copy in order.
type Bucket struct {
	kv        jetstream.KeyValue
	js        jetstream.JetStream
	stream    jetstream.Stream
	prefix    string
	markerTTL time.Duration
}

// BucketEntry is a key at a revision. Deleted ones have no value.
type BucketEntry struct {
	Key      string
	Value    []byte
	Revision uint64
	Deleted  bool
}

// opHeader marks deletions within a bucket's stream.
const opHeader = "KV-Operation"

// OpenBucket creates a bucket or opens the existing one.
func (c *Conn) OpenBucket(ctx context.Context, spec BucketSpec) (*Bucket, error) {
	kv, err := c.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: spec.Name, Storage: jetstream.FileStorage, Replicas: max(1, spec.Replicas), History: 1,
		LimitMarkerTTL: max(time.Second, spec.MarkerTTL),
	})
	if err != nil {
		return nil, unavailable("nats bucket "+spec.Name, err)
	}
	stream, err := c.js.Stream(ctx, "KV_"+spec.Name)
	if err != nil {
		return nil, unavailable("nats bucket "+spec.Name, err)
	}
	return &Bucket{kv: kv, js: c.js, stream: stream, prefix: "$KV." + spec.Name + ".", markerTTL: max(time.Second, spec.MarkerTTL)}, nil
}

// Get reads a key. A missing or deleted one has no value, and Revision is what
// Put must be given to create it.
func (b *Bucket) Get(ctx context.Context, key string) (BucketEntry, error) {
	m, err := b.stream.GetLastMsgForSubject(ctx, b.prefix+key)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return BucketEntry{Key: key, Deleted: true}, nil
	}
	if err != nil {
		return BucketEntry{}, unavailable("nats bucket", err)
	}
	if m.Header.Get(opHeader) != "" || m.Header.Get(jetstream.MarkerReasonHeader) != "" {
		return BucketEntry{Key: key, Revision: m.Sequence, Deleted: true}, nil
	}
	return BucketEntry{Key: key, Value: m.Data, Revision: m.Sequence}, nil
}

// Put writes a key that was last changed at revision; 0 means that it was
// never there. It returns the new revision, or ErrConflict.
func (b *Bucket) Put(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return b.publish(ctx, &nats.Msg{Subject: b.prefix + key, Header: nats.Header{}, Data: value}, revision)
}

// Delete removes a key that was last changed at revision. It returns the
// revision of the deletion, or ErrConflict.
func (b *Bucket) Delete(ctx context.Context, key string, revision uint64) (uint64, error) {
	m := nats.NewMsg(b.prefix + key)
	m.Header.Set(opHeader, "PURGE")
	m.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	return b.publish(ctx, m, revision, jetstream.WithMsgTTL(b.markerTTL))
}

func (b *Bucket) publish(ctx context.Context, m *nats.Msg, revision uint64, opts ...jetstream.PublishOpt) (uint64, error) {
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(revision, 10))
	ack, err := b.js.PublishMsg(ctx, m, opts...)
	if err != nil {
		var api *jetstream.APIError
		if errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == errCodeWrongLastSequenceConstant) {
			return 0, ErrConflict
		}
		return 0, unavailable("nats bucket", err)
	}
	return ack.Sequence, nil
}

// errCodeWrongLastSequenceConstant is the same refusal from a replicated
// stream whose leader still has a change of the key under way.
const errCodeWrongLastSequenceConstant = jetstream.ErrorCode(10164)

// Watch calls apply with every key there is, then loaded once, then apply with
// every change, all in the order of their revisions, until ctx ends. If the
// watch breaks for good it returns an error, and the caller may start anew.
func (b *Bucket) Watch(ctx context.Context, apply func(BucketEntry), loaded func()) error {
	w, err := b.kv.WatchAll(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return unavailable("nats bucket", err)
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-w.Updates():
			if !ok {
				return fmt.Errorf("watch of bucket %s ended", b.kv.Bucket())
			}
			if e == nil {
				loaded()
				continue
			}
			apply(BucketEntry{
				Key: e.Key(), Value: e.Value(), Revision: e.Revision(), Deleted: e.Operation() != jetstream.KeyValuePut,
			})
		}
	}
}

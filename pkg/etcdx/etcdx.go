// Package etcdx is the way to etcd: the only package that imports its client.
// Keys are given relative to a prefix, "/chappe" in production and one of
// their own in tests that share a server.
package etcdx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/lifecycle"
	"github.com/chappe-im/chappe/pkg/obs"
)

// DefaultPrefix is where all of Chappe's keys live.
const DefaultPrefix = "/chappe"

// opTimeout bounds every single operation, so that an etcd that is down gives
// an error and not a hang.
const opTimeout = 5 * time.Second

// Client reads, writes and watches keys. It is safe for concurrent use.
type Client struct {
	raw    *clientv3.Client
	prefix string
	kv     clientv3.KV
	lease  clientv3.Lease
	owned  bool
}

// Dial connects to etcd servers. It does not wait for them to answer.
func Dial(endpoints []string, prefix string) (*Client, error) {
	raw, err := clientv3.New(clientv3.Config{
		Endpoints:            endpoints,
		DialTimeout:          opTimeout,
		DialKeepAliveTime:    5 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: time.Second,
		})},
		Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("etcd client for %v: %w", endpoints, err)
	}
	c := Wrap(raw, prefix)
	c.owned = true
	return c, nil
}

// Wrap uses a client that somebody else made and closes, such as the one an
// embedded server gives.
func Wrap(raw *clientv3.Client, prefix string) *Client {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	return &Client{
		raw:    raw,
		prefix: prefix,
		kv:     namespace.NewKV(raw.KV, prefix),
		lease:  namespace.NewLease(raw.Lease, prefix),
	}
}

// Close ends a client made by Dial and does nothing to a wrapped one.
func (c *Client) Close() error {
	if !c.owned {
		return nil
	}
	return c.raw.Close()
}

// KV is a key with its value and the revision of its last change.
type KV struct {
	Key      string
	Value    []byte
	Revision int64
}

// Get reads a key. A missing key is (nil, nil).
func (c *Client) Get(ctx context.Context, key string) (*KV, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	r, err := c.kv.Get(ctx, key)
	if err != nil {
		return nil, translate(err)
	}
	if len(r.Kvs) == 0 {
		return nil, nil
	}
	return fromPB(r.Kvs[0]), nil
}

// List reads all keys below a prefix in key order and the revision at which
// that was so.
func (c *Client) List(ctx context.Context, prefix string) ([]KV, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	r, err := c.kv.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, 0, translate(err)
	}
	out := make([]KV, len(r.Kvs))
	for i, kv := range r.Kvs {
		out[i] = *fromPB(kv)
	}
	return out, r.Header.Revision, nil
}

// ListLast reads up to limit keys below a prefix, largest key first.
func (c *Client) ListLast(ctx context.Context, prefix string, limit int64) ([]KV, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	r, err := c.kv.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithLimit(limit),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	if err != nil {
		return nil, translate(err)
	}
	out := make([]KV, len(r.Kvs))
	for i, kv := range r.Kvs {
		out[i] = *fromPB(kv)
	}
	return out, nil
}

// Write is one change of a Commit: put Value, or delete the key if Delete.
type Write struct {
	Key    string
	Value  []byte
	Delete bool
}

// Condition holds when the key was last changed at Revision; 0 means that it
// does not exist.
type Condition struct {
	Key      string
	Revision int64
}

// Commit makes all writes at once if all conditions hold, and says whether
// they did. It returns the revision of the writes.
func (c *Client) Commit(ctx context.Context, conds []Condition, writes []Write) (bool, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	cmps := make([]clientv3.Cmp, len(conds))
	for i, cond := range conds {
		cmps[i] = clientv3.Compare(clientv3.ModRevision(cond.Key), "=", cond.Revision)
	}
	ops := make([]clientv3.Op, len(writes))
	for i, w := range writes {
		if w.Delete {
			ops[i] = clientv3.OpDelete(w.Key)
		} else {
			ops[i] = clientv3.OpPut(w.Key, string(w.Value))
		}
	}
	r, err := c.kv.Txn(ctx).If(cmps...).Then(ops...).Commit()
	if err != nil {
		return false, 0, translate(err)
	}
	return r.Succeeded, r.Header.Revision, nil
}

// Event is a change of a key: Value nil means that it was deleted.
type Event struct {
	KV
	Deleted bool
}

// Watch calls apply with every change below prefix after revision from, in
// order, until ctx ends. When the watch breaks or its revision was compacted,
// it calls resync, which must read the whole state anew and return its
// revision, and goes on from there. Watch returns only ctx's error.
func (c *Client) Watch(ctx context.Context, logger *slog.Logger, prefix string, from int64,
	apply func([]Event), resync func(context.Context) (int64, error),
) error {
	for {
		wctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		// Not through namespace.NewWatcher: it cuts the prefix off in place, and
		// all watchers within the process of an embedded server share an event.
		ch := c.raw.Watch(wctx, c.prefix+prefix, clientv3.WithPrefix(), clientv3.WithRev(from+1))
		for r := range ch {
			if err := r.Err(); err != nil {
				logger.Warn("etcd watch broke", "prefix", prefix, obs.KeyError, err)
				break
			}
			events := make([]Event, len(r.Events))
			for i, e := range r.Events {
				events[i] = Event{KV: *fromPB(e.Kv), Deleted: e.Type == mvccpb.Event_DELETE}
				events[i].Key = strings.TrimPrefix(events[i].Key, c.prefix)
			}
			if len(events) > 0 {
				apply(events)
			}
		}
		cancel()
		for {
			if err := lifecycle.Sleep(ctx, 200*time.Millisecond); err != nil {
				return err
			}
			rev, err := resync(ctx)
			if err == nil {
				from = rev
				break
			}
			logger.Warn("etcd is not answering, the last state stays in force", "prefix", prefix, obs.KeyError, err)
			if err := lifecycle.Sleep(ctx, time.Second); err != nil {
				return err
			}
		}
	}
}

// Session keeps keys alive for as long as the process lives: they vanish ttl
// after it dies. Done is closed when the session is lost.
type Session struct {
	s *concurrency.Session
	c *Client
}

// NewSession opens a session whose keys outlive a crash by ttl (whole
// seconds, at least 1).
func (c *Client) NewSession(ctx context.Context, ttl time.Duration) (*Session, error) {
	grantCtx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	lease, err := c.lease.Grant(grantCtx, max(1, int64(ttl/time.Second)))
	if err != nil {
		return nil, translate(err)
	}
	s, err := concurrency.NewSession(c.raw, concurrency.WithTTL(max(1, int(ttl/time.Second))),
		concurrency.WithLease(lease.ID), concurrency.WithContext(context.WithoutCancel(ctx)))
	if err != nil {
		return nil, translate(err)
	}
	return &Session{s: s, c: c}, nil
}

// Done is closed when the session is lost: its keys are gone or soon will be.
func (s *Session) Done() <-chan struct{} { return s.s.Done() }

// Close ends the session and deletes its keys. Those of a session that was lost
// are gone already.
func (s *Session) Close() error {
	if err := s.s.Close(); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return translate(err)
	}
	return nil
}

// Lost reports whether the session is lost.
func (s *Session) Lost() bool {
	select {
	case <-s.s.Done():
		return true
	default:
		return false
	}
}

// Abandon stops keeping the session alive, as a crash would: its keys vanish
// when its time to live has passed.
func (s *Session) Abandon() { s.s.Orphan() }

// Put writes a key that vanishes with the session.
func (s *Session) Put(ctx context.Context, key string, value []byte) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	_, err := s.c.kv.Put(ctx, key, string(value), clientv3.WithLease(s.s.Lease()))
	return translate(err)
}

// Create writes a key that vanishes with the session if it does not exist yet
// and says whether it did.
func (s *Session) Create(ctx context.Context, key string, value []byte) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	r, err := s.c.kv.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, string(value), clientv3.WithLease(s.s.Lease()))).
		Commit()
	if err != nil {
		return false, translate(err)
	}
	return r.Succeeded, nil
}

// Delete removes a key of the session. A key of another session stays: this one
// may have been lost without having noticed.
func (s *Session) Delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	_, err := s.c.kv.Txn(ctx).
		If(clientv3.Compare(clientv3.LeaseValue(key), "=", s.s.Lease())).
		Then(clientv3.OpDelete(key)).
		Commit()
	return translate(err)
}

func fromPB(kv *mvccpb.KeyValue) *KV {
	return &KV{Key: string(kv.Key), Value: kv.Value, Revision: kv.ModRevision}
}

func translate(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return errs.Unavailable("etcd", err)
}

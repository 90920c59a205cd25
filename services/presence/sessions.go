package presence

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// maxConflicts bounds how often a change of an entry is tried again when
// another one came first.
const maxConflicts = 8

// apply takes in what the bucket's watch brings.
func (s *Service) apply(e natsx.BucketEntry) {
	app, user, resource, err := parseConnectionKey(e.Key)
	if err != nil {
		s.deps.Logger.Warn("the bucket of connections holds a strange key", obs.KeyError, err)
		return
	}
	if e.Deleted {
		s.index.follow(e.Key, app, user, resource, nil, e.Revision)
		return
	}
	c, err := decodeConnection(e)
	if err != nil {
		s.deps.Logger.Warn("the bucket of connections holds a strange value", obs.KeyError, err)
		return
	}
	s.index.follow(e.Key, app, user, resource, c, e.Revision)
	if !s.live.Load().Has(c.gateway) {
		s.reaper.wake()
	}
}

func decodeConnection(e natsx.BucketEntry) (*conn, error) {
	var c presencev1.Connection
	if err := proto.Unmarshal(e.Value, &c); err != nil {
		return nil, fmt.Errorf("connection %s: %w", e.Key, err)
	}
	return newConn(&c, e.Revision), nil
}

// current reads what the bucket holds of a device: its connection, or nil, and
// the revision that a change must be made against.
func (s *Service) current(ctx context.Context, key string) (*conn, uint64, error) {
	e, err := s.bucket.Get(ctx, key)
	if err != nil {
		return nil, 0, err
	}
	if e.Deleted {
		return nil, e.Revision, nil
	}
	c, err := decodeConnection(e)
	if err != nil {
		// Let whoever asks overwrite it.
		s.deps.Logger.Warn("the bucket of connections holds a strange value", obs.KeyError, err)
		return nil, e.Revision, nil
	}
	return c, e.Revision, nil
}

// enter writes a connection into the bucket and the index. It returns the
// device's connection that it replaced, or nil.
func (s *Service) enter(ctx context.Context, app string, in *presencev1.Connection) (*conn, *conn, effect, error) {
	value, err := proto.Marshal(in)
	if err != nil {
		return nil, nil, effect{}, errs.Internal(err)
	}
	key := connectionKey(app, in.GetUser(), in.GetResource())
	replaced := s.index.find(app, in.GetUser(), in.GetResource())
	var revision uint64
	if replaced != nil {
		revision = replaced.revision
	}
	for range maxConflicts {
		written, err := s.bucket.Put(ctx, key, value, revision)
		if err == nil {
			c := newConn(in, written)
			return c, replaced, s.index.put(key, app, c), nil
		}
		if !errors.Is(err, natsx.ErrConflict) {
			return nil, nil, effect{}, err
		}
		if replaced, revision, err = s.current(ctx, key); err != nil {
			return nil, nil, effect{}, err
		}
	}
	return nil, nil, effect{}, errs.Unavailable("the device's entry", natsx.ErrConflict)
}

// leave removes a connection from the bucket and the index. It returns nil if
// the device has another connection by now, or none.
func (s *Service) leave(ctx context.Context, app, user, resource, id string) (*conn, effect, error) {
	key := connectionKey(app, user, resource)
	c := s.index.find(app, user, resource)
	for range maxConflicts {
		if c == nil || c.id != id {
			var err error
			if c, _, err = s.current(ctx, key); err != nil {
				return nil, effect{}, err
			}
			if c == nil || c.id != id {
				return nil, effect{}, nil
			}
		}
		removed, err := s.bucket.Delete(ctx, key, c.revision)
		if err == nil {
			return c, s.index.remove(key, app, user, resource, removed), nil
		}
		if !errors.Is(err, natsx.ErrConflict) {
			return nil, effect{}, err
		}
		c = nil
	}
	return nil, effect{}, errs.Unavailable("the device's entry", natsx.ErrConflict)
}

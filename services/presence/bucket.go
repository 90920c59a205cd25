package presence

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/lifecycle"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

const (
	// bucketName is the JetStream bucket of connections.
	bucketName = "SESSIONS"
	// markerTTL is how long the bucket remembers that a connection was removed.
	markerTTL = 5 * time.Minute
	// watchRetry is the pause before a broken watch is begun again.
	watchRetry = time.Second
	// maxConflicts bounds how often a change of an entry is tried again when
	// another one came first.
	maxConflicts = 8
)

// followBucket keeps the index in step with the bucket until ctx ends.
func (s *Service) followBucket(ctx context.Context, loaded func()) {
	for ctx.Err() == nil {
		s.index.beginLoad()
		err := s.bucket.Watch(ctx, s.apply, func() {
			s.index.endLoad()
			s.reaper.wake()
			loaded()
		})
		if ctx.Err() != nil {
			return
		}
		s.deps.Logger.Warn("the watch of connections broke, starting it again", obs.KeyError, err)
		_ = lifecycle.Sleep(ctx, watchRetry)
	}
}

// apply takes in what the bucket's watch brings.
func (s *Service) apply(e natsx.BucketEntry) {
	device, err := parseConnectionKey(e.Key)
	if err != nil {
		s.deps.Logger.Warn("the bucket of connections holds an unreadable key", obs.KeyError, err)
		return
	}
	if e.Deleted {
		s.index.follow(device, nil, e.Revision)
		return
	}
	c, err := decodeConnection(device.App, e)
	if err != nil {
		s.deps.Logger.Warn("the bucket of connections holds an unreadable value", obs.KeyError, err)
		return
	}
	s.index.follow(device, c, e.Revision)
	if !s.live.Load().Has(c.gateway) {
		s.reaper.wake()
	}
}

func decodeConnection(app ident.AppKey, e natsx.BucketEntry) (*conn, error) {
	var c presencev1.Connection
	if err := proto.Unmarshal(e.Value, &c); err != nil {
		return nil, fmt.Errorf("connection %s: %w", e.Key, err)
	}
	return newConn(app, &c, e.Revision), nil
}

// current reads what the bucket holds of a device: its connection, or nil, and
// the revision that a change must be made against.
func (s *Service) current(ctx context.Context, device ident.Device) (*conn, uint64, error) {
	e, err := s.bucket.Get(ctx, connectionKey(device))
	if err != nil {
		return nil, 0, err
	}
	if e.Deleted {
		return nil, e.Revision, nil
	}
	c, err := decodeConnection(device.App, e)
	if err != nil {
		// The caller may overwrite it.
		s.deps.Logger.Warn("the bucket of connections holds an unreadable value", obs.KeyError, err)
		return nil, e.Revision, nil
	}
	return c, e.Revision, nil
}

// enter writes a connection into the bucket and the index. It returns the
// device's connection that it replaced, or nil.
func (s *Service) enter(ctx context.Context, device ident.Device, in *presencev1.Connection) (entered, replaced *conn, eff effect, err error) {
	value, err := proto.Marshal(in)
	if err != nil {
		return nil, nil, effect{}, errs.Internal(err)
	}
	key := connectionKey(device)
	replaced = s.index.find(device)
	var revision uint64
	if replaced != nil {
		revision = replaced.revision
	}
	for range maxConflicts {
		written, err := s.bucket.Put(ctx, key, value, revision)
		if err == nil {
			c := newConn(device.App, in, written)
			return c, replaced, s.index.put(c), nil
		}
		if !errors.Is(err, natsx.ErrConflict) {
			return nil, nil, effect{}, err
		}
		if replaced, revision, err = s.current(ctx, device); err != nil {
			return nil, nil, effect{}, err
		}
	}
	return nil, nil, effect{}, errs.Unavailable("the device's entry", natsx.ErrConflict)
}

// leave removes a connection from the bucket and the index. It returns nil if
// the device has another connection by now, or none.
func (s *Service) leave(ctx context.Context, device ident.Device, id string) (*conn, effect, error) {
	c := s.index.find(device)
	for range maxConflicts {
		if c == nil || c.id != id {
			var err error
			if c, _, err = s.current(ctx, device); err != nil {
				return nil, effect{}, err
			}
			if c == nil || c.id != id {
				return nil, effect{}, nil
			}
		}
		removed, err := s.bucket.Delete(ctx, connectionKey(device), c.revision)
		if err == nil {
			return c, s.index.remove(device, removed), nil
		}
		if !errors.Is(err, natsx.ErrConflict) {
			return nil, effect{}, err
		}
		c = nil
	}
	return nil, effect{}, errs.Unavailable("the device's entry", natsx.ErrConflict)
}

// Keys of the bucket are <app>.<user>.<resource>. Resources come from clients,
// so bytes that a key cannot hold are written as "=" and two hexadecimal
// digits.

const hexDigits = "0123456789ABCDEF"

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

func connectionKey(d ident.Device) string {
	var b strings.Builder
	b.Grow(len(d.App) + len(d.ID) + len(d.Resource) + 8)
	keyToken(&b, string(d.App))
	b.WriteByte('.')
	keyToken(&b, string(d.ID))
	b.WriteByte('.')
	keyToken(&b, d.Resource)
	return b.String()
}

func keyToken(b *strings.Builder, s string) {
	for i := range len(s) {
		if c := s[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('=')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
}

func parseConnectionKey(key string) (ident.Device, error) {
	parts := strings.Split(key, ".")
	if len(parts) != 3 {
		return ident.Device{}, fmt.Errorf("connection key %q does not have three parts", key)
	}
	for i, p := range parts {
		var err error
		if parts[i], err = fromKeyToken(p); err != nil {
			return ident.Device{}, fmt.Errorf("connection key %q: %w", key, err)
		}
	}
	return ident.User{App: ident.AppKey(parts[0]), ID: ident.UserID(parts[1])}.Device(parts[2]), nil
}

func fromKeyToken(s string) (string, error) {
	if strings.IndexByte(s, '=') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '=' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%q ends within an escape", s)
		}
		hi, lo := strings.IndexByte(hexDigits, s[i+1]), strings.IndexByte(hexDigits, s[i+2])
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("%q holds a bad escape", s)
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	return b.String(), nil
}

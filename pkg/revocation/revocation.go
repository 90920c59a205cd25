// Package revocation voids tokens before they expire: all tokens of a user
// issued before an instant (password changed, account deleted or deactivated),
// or all of an app. The instants live in a JetStream key-value bucket, written
// through the account service's outbox and watched by every gateway into
// memory, so that verifying a token asks nobody.
//
// An entry is kept for ever: there are tokens that never expire. A user has at
// most one, and in memory it costs two words and the map around them.
package revocation

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/lifecycle"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
)

// Bucket names the key-value bucket.
const Bucket = "REVOKED"

// Ensure creates the bucket or opens it. Whoever writes calls it at start.
func Ensure(ctx context.Context, conn *natsx.Conn, replicas int) (natsx.KeyValue, error) {
	return conn.EnsureBucket(ctx, Bucket, 0, replicas)
}

// UserEntry is what to publish, into a stream, so that all tokens of a user
// issued before an instant are void.
func UserEntry(user ident.User, before time.Time) (subject string, data []byte) {
	return "$KV." + Bucket + ".u." + appToken(user.App) + "." + user.ID.Token(), value(before)
}

// AppEntry is the same for all tokens of an app, its own and its users'.
func AppEntry(app ident.AppKey, before time.Time) (subject string, data []byte) {
	return "$KV." + Bucket + ".a." + appToken(app), value(before)
}

// appToken makes an app key fit for a bucket's key, which may not hold "#";
// neither half of an app key holds "/".
func appToken(app ident.AppKey) string {
	return strings.Replace(app.Token(), "#", "/", 1)
}

func fromAppToken(token string) string {
	return strings.Replace(ident.FromToken(token), "/", "#", 1)
}

func value(before time.Time) []byte {
	return strconv.AppendInt(nil, before.UnixMilli(), 10)
}

// List is one process's copy of all revocations.
type List struct {
	logger *slog.Logger
	kv     natsx.KeyValue
	// seed makes the places in the map unpredictable: with a fixed hash somebody
	// could choose user IDs that share a place with a victim's.
	seed maphash.Seed

	mu     sync.RWMutex
	before map[uint64]int64 // hash of app, or of app and user, to Unix milliseconds

	cancel  context.CancelFunc
	stopped chan struct{}
}

// retryAfter is the wait before a broken watch is begun again.
const retryAfter = 500 * time.Millisecond

// Watch returns once the list holds all revocations, and keeps it up to date
// until Stop. While NATS is away the list stays as it is.
func Watch(ctx context.Context, conn *natsx.Conn, replicas int, logger *slog.Logger) (*List, error) {
	kv, err := Ensure(ctx, conn, replicas)
	if err != nil {
		return nil, err
	}
	l := &List{
		logger: logger, kv: kv, seed: maphash.MakeSeed(),
		before: make(map[uint64]int64), stopped: make(chan struct{}),
	}
	var watch context.Context
	watch, l.cancel = context.WithCancel(context.Background())
	ready := make(chan struct{})
	go func() {
		defer close(l.stopped)
		l.run(watch, ready)
	}()
	select {
	case <-ready:
		return l, nil
	case <-ctx.Done():
		l.Stop()
		return nil, errs.Unavailable("token revocations", ctx.Err())
	}
}

// Stop ends the watch and waits for it. The list stays readable.
func (l *List) Stop() {
	l.cancel()
	<-l.stopped
}

// Len tells how many revocations there are.
func (l *List) Len() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.before)
}

// Revoked reports whether a token of an app (user is empty) or of one of its
// users, issued then, is void.
func (l *List) Revoked(appKey, user string, issuedAt time.Time) bool {
	at := issuedAt.UnixMilli()
	app := l.hash(appKey, "")
	l.mu.RLock()
	defer l.mu.RUnlock()
	if before, ok := l.before[app]; ok && at < before {
		return true
	}
	if user == "" {
		return false
	}
	before, ok := l.before[l.hash(appKey, user)]
	return ok && at < before
}

func (l *List) hash(appKey, user string) uint64 {
	var h maphash.Hash
	h.SetSeed(l.seed)
	_, _ = h.WriteString(appKey)
	_ = h.WriteByte(0)
	_, _ = h.WriteString(user)
	return h.Sum64()
}

func (l *List) run(ctx context.Context, ready chan struct{}) {
	for {
		err := l.watch(ctx, &ready)
		if ctx.Err() != nil {
			return
		}
		l.logger.Warn("token revocations are not watched, trying again", obs.KeyError, err)
		_ = lifecycle.Sleep(ctx, retryAfter)
	}
}

var errClosed = errors.New("the watch was closed")

func (l *List) watch(ctx context.Context, ready *chan struct{}) error {
	w, err := l.kv.WatchAll(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return errClosed
			case e == nil: // all that was there at the start has been seen
				if *ready != nil {
					close(*ready)
					*ready = nil
				}
			default:
				l.put(e.Key(), e.Value())
			}
		}
	}
}

// put takes in an entry. An empty value is an operator's deletion. Instants
// only grow: a late repetition of an older one changes nothing.
func (l *List) put(key string, data []byte) {
	hash, ok := l.parse(key)
	if !ok {
		l.logger.Warn("unreadable token revocation", "key", key)
		return
	}
	if len(data) == 0 {
		l.mu.Lock()
		delete(l.before, hash)
		l.mu.Unlock()
		return
	}
	before, err := strconv.ParseInt(string(data), 10, 64)
	if err != nil {
		l.logger.Warn("unreadable token revocation", "key", key)
		return
	}
	l.mu.Lock()
	l.before[hash] = max(before, l.before[hash])
	l.mu.Unlock()
}

func (l *List) parse(key string) (uint64, bool) {
	kind, rest, ok := strings.Cut(key, ".")
	if !ok {
		return 0, false
	}
	app, user, hasUser := strings.Cut(rest, ".")
	if app == "" || hasUser != (kind == "u") || kind == "u" && user == "" || kind != "u" && kind != "a" {
		return 0, false
	}
	return l.hash(fromAppToken(app), ident.FromToken(user)), true
}

package session

import (
	"context"
	"errors"

	"github.com/chappe-im/chappe/pkg/ident"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// Conn is a connection, for tests that put it on subjects.
type Conn struct{ c *conn }

// Find returns the connection of a device.
func (s *Server) Find(user ident.User, resource string) (Conn, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if c.loggedIn.Load() && c.user == user && c.resource == resource {
			return Conn{c}, true
		}
	}
	return Conn{}, false
}

// Follow puts the connection on a subject and has it catch up.
func (c Conn) Follow(ctx context.Context, kind busv1.Kind, name string) error {
	return c.c.follow(ctx, subject{c.c.user.App, kind, name})
}

// Subscribe is Follow without catching up.
func (c Conn) Subscribe(kind busv1.Kind, name string) error {
	_, err := c.c.subscribe(subject{c.c.user.App, kind, name})
	return err
}

// Unfollow takes it off.
func (c Conn) Unfollow(kind busv1.Kind, name string) {
	c.c.unsubscribe(subject{c.c.user.App, kind, name})
}

// Asking reports whether the archive is still to be asked for something.
func (c Conn) Asking() bool { return c.c.wants() }

// Waiting returns the encoded entries that wait for the device.
func (c Conn) Waiting(conversation ident.ConversationID) [][]byte {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	q := c.c.queues[conversation]
	if q == nil {
		return nil
	}
	out := make([][]byte, 0, len(q.tail))
	for _, e := range q.tail {
		out = append(out, e.meta)
	}
	return out
}

// IsClosing reports whether an error says that the connection is closing.
func IsClosing(err error) bool { return errors.Is(err, errClosing) }

// Listeners returns how many subjects are subscribed to, and how many connections
// are on them.
func (s *Server) Listeners() (subjects, conns int) {
	for _, sh := range s.shards {
		sh.mu.RLock()
		subjects += len(sh.listeners)
		for _, l := range sh.listeners {
			conns += len(l.conns)
		}
		sh.mu.RUnlock()
	}
	return subjects, conns
}

package messaging

import (
	"context"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/chappe-im/chappe/pkg/names"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// conversation is what a worker knows of a conversation of its partition.
type conversation struct {
	app  int64
	name string
	kind busv1.Kind
	// id is 0 until the first batch with the conversation is committed.
	id int64
	// last is the place given out last.
	last int64
}

type member struct{ user, peer string }

// members lists whom a conversation of two belongs to, each with the other.
// Groups keep their members themselves.
func (c *conversation) members() []member {
	if c.kind != busv1.Kind_KIND_USER {
		return nil
	}
	a, b, _ := strings.Cut(c.name, "~")
	out := make([]member, 0, 2)
	if a != names.AdminUser {
		out = append(out, member{a, b})
	}
	if b != a && b != names.AdminUser {
		out = append(out, member{b, a})
	}
	return out
}

// conversationCacheSize bounds what a worker remembers; what it forgets it
// reads again.
const conversationCacheSize = 100_000

type conversationKey struct {
	app  int64
	name string
}

// sequencer gives entries of one partition their places. It belongs to one
// worker and is thrown away with it: after a failure the next worker reads the
// archive and comes to the same numbers.
type sequencer struct {
	archive *archive
	known   *lru.Cache[conversationKey, *conversation]
}

func newSequencer(a *archive) (*sequencer, error) {
	known, err := lru.New[conversationKey, *conversation](conversationCacheSize)
	if err != nil {
		return nil, err
	}
	return &sequencer{archive: a, known: known}, nil
}

// next gives the conversation its next place. fresh says that the conversation
// has no row yet.
func (s *sequencer) next(ctx context.Context, app int64, kind busv1.Kind, name string) (c *conversation, seq int64, fresh bool, err error) {
	key := conversationKey{app, name}
	c, ok := s.known.Get(key)
	if !ok {
		if c, err = s.archive.findPatiently(ctx, app, name); err != nil {
			return nil, 0, false, err
		}
		if c == nil {
			c, fresh = &conversation{app: app, name: name, kind: kind}, true
		}
		s.known.Add(key, c)
	}
	c.last++
	return c, c.last, fresh, nil
}

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
	// logged is the place in the log of the entry that has it, or a later one
	// where that is not known; 0 when there is no entry any more.
	logged uint64
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

// next gives the conversation its next place, for an entry at a place of the
// log; previous is that of the entry before it. fresh says that the conversation
// has no row yet. It fails with errFenced when the archive holds an entry of the
// conversation at that place of the log or behind it: then another worker has
// archived on since this one read its position, and a place counted from the
// archive's newest entry would be a wrong one, on which devices would miss the
// entry that really has it.
func (s *sequencer) next(ctx context.Context, app int64, kind busv1.Kind, name string, logged uint64) (c *conversation, seq int64, previous uint64, fresh bool, err error) {
	key := conversationKey{app, name}
	c, ok := s.known.Get(key)
	if !ok {
		if c, err = s.archive.findPatiently(ctx, app, name, logged-1); err != nil {
			return nil, 0, 0, false, err
		}
		switch {
		case c == nil:
			c, fresh = &conversation{app: app, name: name, kind: kind}, true
		case c.logged >= logged:
			return nil, 0, 0, false, errFenced
		}
		s.known.Add(key, c)
	}
	c.last++
	previous, c.logged = c.logged, logged
	return c, c.last, previous, fresh, nil
}

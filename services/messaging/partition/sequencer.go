package partition

import (
	"context"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/chappe-im/chappe/pkg/ident"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	"github.com/chappe-im/chappe/services/messaging/history"
)

// conversationCacheSize bounds what a worker remembers; what it forgets it
// reads again.
const conversationCacheSize = 100_000

type conversationKey struct {
	app  int64
	name ident.ConversationID
}

// sequencer numbers the entries of one partition. It belongs to one worker and
// is thrown away with it: after a failure the next worker reads the archive and
// comes to the same numbers.
type sequencer struct {
	archive *history.Archive
	known   *lru.Cache[conversationKey, *history.Conversation]
}

func newSequencer(a *history.Archive) (*sequencer, error) {
	known, err := lru.New[conversationKey, *history.Conversation](conversationCacheSize)
	if err != nil {
		return nil, err
	}
	return &sequencer{archive: a, known: known}, nil
}

// next gives the conversation its next seq, for an entry at a place of the log;
// previous is the place of the entry before it. fresh says that the conversation
// has no row yet. It fails with history.ErrFenced when the archive holds an entry
// of the conversation at that place or behind it: then another worker has
// archived on since this one read its position, and a seq counted from the
// archive's newest entry would be a wrong one, by which devices would miss the
// entry that really has it.
func (s *sequencer) next(ctx context.Context, app int64, kind busv1.Kind, name ident.ConversationID, place uint64) (c *history.Conversation, seq int64, previous uint64, fresh bool, err error) {
	key := conversationKey{app, name}
	c, ok := s.known.Get(key)
	if !ok {
		if c, err = s.archive.FindPatiently(ctx, app, name, place-1); err != nil {
			return nil, 0, 0, false, err
		}
		switch {
		case c == nil:
			c, fresh = &history.Conversation{App: app, Name: name, Kind: kind}, true
		case c.LastPlace >= place:
			return nil, 0, 0, false, history.ErrFenced
		}
		s.known.Add(key, c)
	}
	c.LastSeq++
	previous, c.LastPlace = c.LastPlace, place
	return c, c.LastSeq, previous, fresh, nil
}

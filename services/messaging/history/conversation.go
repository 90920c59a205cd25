package history

import (
	"context"
	"database/sql"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/lifecycle"
	"github.com/chappe-im/chappe/pkg/store"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// Conversation is what is known of a conversation: by the archive, or by the
// worker of its partition, which is ahead of the archive.
type Conversation struct {
	// App is the number of the app.
	App  int64
	Name ident.ConversationID
	Kind busv1.Kind
	// id is 0 until the first batch with the conversation is committed.
	id int64
	// LastSeq is the seq given out last.
	LastSeq int64
	// LastPlace is the place in the log of the entry that has LastSeq, or a later
	// one where that is not known; 0 when there is no entry any more.
	LastPlace uint64
}

type member struct{ user, peer ident.UserID }

// members lists whom a conversation of two belongs to, each with the other.
// Groups keep their members themselves.
func (c *Conversation) members() []member {
	if c.Kind != busv1.Kind_KIND_USER {
		return nil
	}
	first, second, _ := strings.Cut(string(c.Name), "~")
	a, b := ident.UserID(first), ident.UserID(second)
	out := make([]member, 0, 2)
	if a != ident.Admin {
		out = append(out, member{a, b})
	}
	if b != a && b != ident.Admin {
		out = append(out, member{b, a})
	}
	return out
}

func createConversation(ctx context.Context, tx *sql.Tx, c *Conversation) error {
	if _, err := store.Row(ctx, tx, `INSERT INTO conversations (app, name, kind) VALUES ($1, $2, $3) RETURNING id`,
		[]any{c.App, c.Name, int(c.Kind)}, &c.id); err != nil {
		return err
	}
	for _, m := range c.members() {
		if _, err := store.Exec(ctx, tx, `INSERT INTO conversation_members (app, username, conversation_id, peer) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			c.App, m.user, c.id, m.peer); err != nil {
			return err
		}
	}
	return nil
}

// FindPatiently is Find that waits while the database is away: what comes
// behind an entry in the log must not overtake it.
func (a *Archive) FindPatiently(ctx context.Context, app int64, name ident.ConversationID, unknown uint64) (*Conversation, error) {
	for {
		c, err := func() (*Conversation, error) {
			ctx, cancel := context.WithTimeout(ctx, writeTimeout)
			defer cancel()
			return a.Find(ctx, app, name, unknown)
		}()
		if err == nil || ctx.Err() != nil || !errs.IsAway(err) {
			return c, err
		}
		if err := lifecycle.Sleep(ctx, awayPause); err != nil {
			return nil, err
		}
	}
}

// Find reads a conversation with the seq and the place of its newest entry; nil
// if there is none. unknown stands for the place of an entry that was stored
// without it.
func (a *Archive) Find(ctx context.Context, app int64, name ident.ConversationID, unknown uint64) (*Conversation, error) {
	c := &Conversation{App: app, Name: name}
	var kind int32
	var newest sql.NullInt64
	var data []byte
	found, err := store.Row(ctx, a.db.Read(), `SELECT c.id, c.kind, c.last_seq, m.seq, m.data FROM conversations c
		LEFT JOIN messages m ON m.app = c.app AND m.conversation_id = c.id AND m.seq = (SELECT MAX(n.seq) FROM messages n WHERE n.app = c.app AND n.conversation_id = c.id)
		WHERE c.app = $1 AND c.name = $2`, []any{app, name}, &c.id, &kind, &c.LastSeq, &newest, &data)
	if err != nil || !found {
		return nil, err
	}
	c.Kind = busv1.Kind(kind)
	c.LastSeq = max(c.LastSeq, newest.Int64)
	if newest.Valid {
		var d busv1.Delivery
		if c.LastPlace = unknown; proto.Unmarshal(data, &d) == nil && d.GetLogPlace() != 0 {
			c.LastPlace = d.GetLogPlace()
		}
	}
	return c, nil
}

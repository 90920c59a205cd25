package history

import (
	"context"

	"github.com/chappe-im/chappe/pkg/entrytype"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/store"
)

// undelivered are the messages of user $2 of app $1 that none of the user's
// devices has confirmed.
var undelivered = ` FROM (
			SELECT b.app, b.conversation_id, b.username, b.visible_from, COALESCE((SELECT MAX(p.seq) FROM device_positions p
				WHERE p.app = b.app AND p.username = b.username AND p.conversation_id = b.conversation_id), 0) AS seen
			FROM conversation_members b WHERE b.app = $1 AND b.username = $2) q
		JOIN messages m ON m.app = q.app AND m.conversation_id = q.conversation_id AND m.seq > q.seen AND m.seq > q.visible_from
		WHERE ` + entrytype.SQLIsMessage("m.type") + ` AND (m.flags & 1) = 0 AND m.sender <> q.username`

// OfflineCount counts the messages that no device of the user has confirmed.
func (d *Devices) OfflineCount(ctx context.Context, app int64, user ident.UserID) (int64, error) {
	var n int64
	_, err := store.Row(ctx, d.db.Read(), `SELECT COUNT(*)`+undelivered, []any{app, user}, &n)
	return n, err
}

// IsUndelivered reports whether a message is one of those.
func (d *Devices) IsUndelivered(ctx context.Context, app int64, user ident.UserID, id int64) (bool, error) {
	return store.Row(ctx, d.db.Read(), `SELECT 1`+undelivered+` AND m.id = $3`, []any{app, user, id}, new(int))
}

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
			SELECT b.app, b.conv, b.username, b.since, COALESCE((SELECT MAX(p.seq) FROM device_position p
				WHERE p.app = b.app AND p.username = b.username AND p.conv = b.conv), 0) AS seen
			FROM member b WHERE b.app = $1 AND b.username = $2) q
		JOIN message m ON m.app = q.app AND m.conv = q.conv AND m.seq > q.seen AND m.seq > q.since
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

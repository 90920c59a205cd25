package history

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/idgen"
	"github.com/chappe-im/chappe/pkg/store"
)

// Forget deletes the devices that a user had at an instant, Unix milliseconds,
// with their positions, and closes the user's conversations up to there: who
// takes the name anew starts with nothing. The others keep what they have.
func (d *Devices) Forget(ctx context.Context, app int64, user ident.UserID, at int64) error {
	return d.db.Write(ctx, func(tx *sql.Tx) error {
		for _, step := range []struct {
			query string
			args  []any
		}{
			{`DELETE FROM device_positions WHERE app = $1 AND username = $2 AND resource IN
				(SELECT resource FROM devices WHERE app = $3 AND username = $4 AND seen <= $5)`, []any{app, user, app, user, at}},
			{`DELETE FROM devices WHERE app = $1 AND username = $2 AND seen <= $3`, []any{app, user, at}},
			{`UPDATE conversation_members SET visible_from = COALESCE((SELECT m.seq FROM messages m
				WHERE m.app = conversation_members.app AND m.conversation_id = conversation_members.conversation_id AND m.id < $1 ORDER BY m.seq DESC LIMIT 1), 0)
				WHERE app = $2 AND username = $3`, []any{idgen.FirstAt(time.UnixMilli(at)), app, user}},
		} {
			if _, err := store.Exec(ctx, tx, step.query, step.args...); err != nil {
				return fmt.Errorf("forget devices: %w", err)
			}
		}
		return nil
	})
}

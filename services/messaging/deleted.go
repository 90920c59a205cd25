package messaging

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/idgen"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

const (
	// deletionConsumer is the service's place in the stream of domain events:
	// a deletion that happens while no instance runs is dealt with later.
	deletionConsumer = "messaging-users"
	// deletionTimeout bounds the work for one deleted user.
	deletionTimeout = 20 * time.Second
)

// onDeletion forgets the devices of a user who is deleted.
func (s *Service) onDeletion(ctx context.Context, m natsx.StreamMsg) error {
	var e busv1.UserEvent
	if proto.Unmarshal(m.Data(), &e) != nil || e.GetChange() != busv1.UserEvent_CHANGE_DELETED {
		return nil
	}
	app, ok := s.deps.Apps.AppByKey(e.GetApp())
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, deletionTimeout)
	defer cancel()
	if err := s.devices.forget(ctx, app.Number, e.GetUser(), e.GetTimestamp()); err != nil {
		s.deps.Logger.Warn("devices of a deleted user are still stored", obs.KeyApp, e.GetApp(), obs.KeyUser, e.GetUser(), obs.KeyError, err)
		return err
	}
	return nil
}

// forget deletes the devices that a user had at an instant, Unix milliseconds,
// with their positions, and closes the user's conversations up to there: who
// takes the name anew starts with nothing. The others keep what they have.
func (d *deviceStore) forget(ctx context.Context, app int64, user string, at int64) error {
	return d.db.Write(ctx, func(tx *sql.Tx) error {
		for _, step := range []struct {
			query string
			args  []any
		}{
			{`DELETE FROM device_position WHERE app = $1 AND username = $2 AND resource IN
				(SELECT resource FROM device WHERE app = $3 AND username = $4 AND seen <= $5)`, []any{app, user, app, user, at}},
			{`DELETE FROM device WHERE app = $1 AND username = $2 AND seen <= $3`, []any{app, user, at}},
			{`UPDATE member SET since = COALESCE((SELECT m.seq FROM message m
				WHERE m.app = member.app AND m.conv = member.conv AND m.id < $1 ORDER BY m.seq DESC LIMIT 1), 0)
				WHERE app = $2 AND username = $3`, []any{idgen.FirstAt(time.UnixMilli(at)), app, user}},
		} {
			if _, err := tx.ExecContext(ctx, step.query, step.args...); err != nil {
				return fmt.Errorf("forget devices: %w", err)
			}
		}
		return nil
	})
}

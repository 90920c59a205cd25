package account

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/quota"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/tier"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// maxTold bounds how many friends of a deleted user, and how many who blocked
// that user, are told of it. Beyond, friends see it when they next read their
// list, and caches when their entries grow old.
const maxTold = 1000

// DeleteUser deletes a user with everything that is the user's here. Other
// services do the same on the event.
func (s *Service) DeleteUser(ctx context.Context, req *accountv1.DeleteUserRequest) (*accountv1.DeleteUserResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	id, err := s.findUserID(ctx, app.Number, req.GetUsername())
	if err != nil {
		return nil, err
	}
	var u *user
	err = s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		if u, err = s.deleteUser(ctx, tx, app, id, ev); err != nil {
			return err
		}
		return releaseUsers(ctx, tx, app, 1)
	})
	if err != nil {
		return nil, err
	}
	s.settle(ctx)
	return &accountv1.DeleteUserResponse{User: u.proto()}, nil
}

// DeleteUsers deletes the oldest users, up to a number.
func (s *Service) DeleteUsers(ctx context.Context, req *accountv1.DeleteUsersRequest) (*accountv1.DeleteUsersResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	if req.Ql != nil {
		return nil, invalid()
	}
	limit, err := pageLimit(req.Limit)
	if err != nil {
		return nil, err
	}
	after, err := parseCursor(req.GetCursor())
	if err != nil {
		return nil, err
	}
	var resp *accountv1.DeleteUsersResponse
	err = s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		page, cursor, err := pageOfUsers(ctx, tx, app.Number, after, limit)
		if err != nil {
			return err
		}
		resp = &accountv1.DeleteUsersResponse{Cursor: cursor}
		for _, u := range page {
			deleted, err := s.deleteUser(ctx, tx, app, u.username, ev)
			if errs.Is(err, errs.ReasonNotFound) {
				continue // by another call at the same time
			}
			if err != nil {
				return err
			}
			resp.Users = append(resp.Users, deleted.proto())
		}
		return releaseUsers(ctx, tx, app, len(resp.GetUsers()))
	})
	if err != nil {
		return nil, err
	}
	if len(resp.GetUsers()) > 0 {
		s.settle(ctx)
	}
	return resp, nil
}

// deleteUser deletes a user's rows and those of others about the user, and
// gives the user as it was.
func (s *Service) deleteUser(ctx context.Context, tx *sql.Tx, app *catalog.App, id ident.UserID, ev *events) (*user, error) {
	u, err := readUser(ctx, tx, `DELETE FROM users WHERE app = $1 AND username = $2 RETURNING `+userColumns, app.Number, id)
	if err != nil {
		return nil, err
	}
	void := max(s.now().UnixMilli(), u.validFrom) + 1
	if _, err := store.Exec(ctx, tx, `INSERT INTO former_users (app, username, valid_from) VALUES ($1, $2, $3)
		ON CONFLICT (app, username) DO UPDATE SET valid_from = excluded.valid_from`, app.Number, id, void); err != nil {
		return nil, fmt.Errorf("delete user: %w", err)
	}
	ev.revoked(id, void).changed(id, busv1.UserEvent_CHANGE_DELETED).disconnected(id, busv1.Disconnect_REASON_REMOVED)

	if err := dropContacts(ctx, tx, ev, id); err != nil {
		return nil, err
	}
	blockers, err := store.Column[ident.UserID](ctx, tx, `SELECT owner FROM blocks WHERE app = $1 AND blocked = $2 LIMIT $3`, app.Number, id, maxTold)
	if err != nil {
		return nil, err
	}
	for _, b := range blockers {
		ev.changed(b, busv1.UserEvent_CHANGE_BLOCKS)
	}

	for _, step := range []struct {
		query string
		args  []any
	}{
		{`DELETE FROM contact_requests WHERE app = $1 AND target = $2`, []any{app.Number, id}},
		{`DELETE FROM contact_requests WHERE app = $1 AND sender = $2`, []any{app.Number, id}},
		{`UPDATE usage SET used = used - 1 WHERE app = $1 AND quota = $2 AND owner IN
			(SELECT owner FROM blocks WHERE app = $1 AND blocked = $3)`, []any{app.Number, quotaBlocks, id}},
		{`DELETE FROM blocks WHERE app = $1 AND blocked = $2`, []any{app.Number, id}},
		{`DELETE FROM blocks WHERE app = $1 AND owner = $2`, []any{app.Number, id}},
		{`DELETE FROM mutes WHERE app = $1 AND username = $2`, []any{app.Number, id}},
		{`DELETE FROM notifications WHERE app = $1 AND username = $2`, []any{app.Number, id}},
		{`DELETE FROM notifications WHERE app = $1 AND kind = $2 AND target = $3`, []any{app.Number, kindUser, id}},
	} {
		if _, err := store.Exec(ctx, tx, step.query, step.args...); err != nil {
			return nil, fmt.Errorf("delete user: %w", err)
		}
	}
	if err := quota.Clear(ctx, tx, app.Number, quotaBlocks, string(id)); err != nil {
		return nil, err
	}
	if _, err := deleteAttributes(ctx, tx, app.Number, id); err != nil {
		return nil, err
	}
	return u, nil
}

// releaseUsers counts deleted users. It comes last in a transaction: all
// registrations of the app wait for this row.
func releaseUsers(ctx context.Context, tx *sql.Tx, app *catalog.App, n int) error {
	return quota.Release(ctx, tx, app.Number, tier.QuotaRegisteredUsers, "", int64(n))
}

func deleteAttributes(ctx context.Context, tx *sql.Tx, app int64, id ident.UserID) (deleted bool, err error) {
	var bytes int64
	deleted, err = store.Row(ctx, tx, `DELETE FROM attributes WHERE app = $1 AND username = $2 RETURNING bytes`, []any{app, id}, &bytes)
	if err != nil || !deleted {
		return false, err
	}
	return true, quota.Release(ctx, tx, app, tier.SizeUserAttributesPerApp, "", bytes)
}

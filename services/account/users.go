package account

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/store"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// GetUser gives one user.
func (s *Service) GetUser(ctx context.Context, req *accountv1.GetUserRequest) (*accountv1.GetUserResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	key := ident.User{App: app.AppKey(), ID: ident.FoldUser(req.GetUsername())}
	known, mark, _ := s.cache.Get(key)
	if known.user != nil {
		return &accountv1.GetUserResponse{User: known.user.proto()}, nil
	}
	u, err := findUser(ctx, s.db.Read(), app.Number, req.GetUsername())
	if err != nil {
		return nil, err
	}
	if u.username == key.ID {
		s.cache.Update(key, mark, withUser(u))
	}
	return &accountv1.GetUserResponse{User: u.proto()}, nil
}

// ListUsers pages through the app's users, oldest first.
func (s *Service) ListUsers(ctx context.Context, req *accountv1.ListUsersRequest) (*accountv1.ListUsersResponse, error) {
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
	users, cursor, err := pageOfUsers(ctx, s.db.Read(), app.Number, after, limit)
	if err != nil {
		return nil, err
	}
	return &accountv1.ListUsersResponse{Users: usersProto(users), Cursor: cursor}, nil
}

// pageOfUsers reads users after a position; the cursor is empty on the last
// page.
func pageOfUsers(ctx context.Context, q store.Querier, app int64, after position, limit int) ([]*user, string, error) {
	var users []*user
	err := store.Each(ctx, q, `SELECT `+userColumns+` FROM users WHERE app = $1 AND (created, uuid) > ($2, $3)
		ORDER BY created, uuid LIMIT $4`, []any{app, after.created, after.uuid, limit + 1}, func(row store.Scanner) error {
		u := &user{}
		users = append(users, u)
		return row.Scan(u.columns()...)
	})
	if err != nil {
		return nil, "", fmt.Errorf("list users: %w", err)
	}
	if len(users) <= limit {
		return users, "", nil
	}
	users = users[:limit]
	last := users[limit-1]
	return users, position{last.created, last.uuid}.cursor(), nil
}

// DeactivateUser bans a user: connections end, tokens are void, and there are
// no new ones until ActivateUser.
func (s *Service) DeactivateUser(ctx context.Context, req *accountv1.DeactivateUserRequest) (*accountv1.DeactivateUserResponse, error) {
	u, err := s.setActivated(ctx, req.GetOrg(), req.GetApp(), req.GetUsername(), false)
	if err != nil {
		return nil, err
	}
	return &accountv1.DeactivateUserResponse{User: u.proto()}, nil
}

// ActivateUser undoes DeactivateUser. The user needs new tokens.
func (s *Service) ActivateUser(ctx context.Context, req *accountv1.ActivateUserRequest) (*accountv1.ActivateUserResponse, error) {
	if _, err := s.setActivated(ctx, req.GetOrg(), req.GetApp(), req.GetUsername(), true); err != nil {
		return nil, err
	}
	return &accountv1.ActivateUserResponse{}, nil
}

func (s *Service) setActivated(ctx context.Context, org, appName, username string, activated bool) (*user, error) {
	app, err := s.app(org, appName)
	if err != nil {
		return nil, err
	}
	u, err := findUser(ctx, s.db.Read(), app.Number, username)
	if err != nil {
		return nil, err
	}
	if u.activated == activated {
		return u, nil
	}
	id := u.username
	err = s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		now := s.now().UnixMilli()
		query := `UPDATE users SET activated = $1, modified = $2 WHERE app = $3 AND username = $4 RETURNING ` + userColumns
		if !activated {
			query = `UPDATE users SET activated = $1, modified = $2, ` + voidTokens("$2") + `
				WHERE app = $3 AND username = $4 RETURNING ` + userColumns
		}
		if u, err = readUser(ctx, tx, query, activated, now, app.Number, id); err != nil {
			return err
		}
		if activated {
			ev.changed(id, busv1.UserEvent_CHANGE_ACTIVATED)
		} else {
			ev.revoked(id, u.validFrom).changed(id, busv1.UserEvent_CHANGE_DEACTIVATED).
				disconnected(id, busv1.Disconnect_REASON_BANNED)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.settle(ctx)
	return u, nil
}

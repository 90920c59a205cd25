package account

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/quota"
	"github.com/chappe-im/chappe/pkg/store"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// quotaBlocks counts a user's block list.
const quotaBlocks = "blocked_users"

const (
	// maxBlockPage bounds a page of a block list.
	maxBlockPage = 50
	// maxBlockList is the longest block list that the configuration allows.
	maxBlockList = 100_000
)

// ListBlocks returns whom a user has blocked, newest first: all, or a page if
// the request asks for one.
func (s *Service) ListBlocks(ctx context.Context, req *accountv1.ListBlocksRequest) (*accountv1.ListBlocksResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	before, limit, err := blockPage(req)
	if err != nil {
		return nil, err
	}
	owner, err := s.findUserID(ctx, app.Number, req.GetOwnerUsername())
	if err != nil {
		return nil, err
	}
	resp := &accountv1.ListBlocksResponse{}
	var last relationPosition
	query := `SELECT blocked, added FROM blocks WHERE app = $1 AND owner = $2 AND (added, blocked) < ($3, $4)
		ORDER BY added DESC, blocked DESC LIMIT $5`
	err = store.Each(ctx, s.db.Read(), query, []any{app.Number, owner, before.added, before.user, limit + 1}, func(row store.Scanner) error {
		next := relationPosition{}
		if err := row.Scan(&next.user, &next.added); err != nil {
			return err
		}
		if int64(len(resp.GetUsernames())) == limit {
			resp.Cursor = last.cursor()
			return nil
		}
		last = next
		resp.Usernames = append(resp.Usernames, next.user)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// blockPage reads which part of a block list is asked for.
func blockPage(req *accountv1.ListBlocksRequest) (before relationPosition, limit int64, err error) {
	size := int64(req.GetPageSize())
	switch {
	case req.PageSize != nil && (size < 1 || size > maxBlockPage):
		return before, 0, invalid()
	case req.PageSize != nil:
		limit = size
	case req.GetCursor() != "":
		limit = defaultPage
	default:
		limit = maxBlockList
	}
	before, err = parseRelationCursor(req.GetCursor())
	return before, limit, err
}

// AddBlocks blocks users: all of them or, if one does not exist or the list
// would grow too long, none. Who is blocked already counts as added.
func (s *Service) AddBlocks(ctx context.Context, req *accountv1.AddBlocksRequest) (*accountv1.AddBlocksResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	owner, blocked, err := s.blockNames(ctx, app, req.GetOwnerUsername(), req.GetUsernames(), s.blocksFull())
	if err != nil {
		return nil, err
	}
	err = s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		if err := s.holdUsers(ctx, tx, app.Number, append([]ident.UserID{owner}, blocked...)...); err != nil {
			return err
		}
		now, added := s.now().UnixMicro(), int64(0)
		for _, id := range blocked {
			n, err := store.Exec(ctx, tx, `INSERT INTO blocks (app, owner, blocked, added) VALUES ($1, $2, $3, $4)
				ON CONFLICT (app, owner, blocked) DO NOTHING`, app.Number, owner, id, now)
			if err != nil {
				return fmt.Errorf("block user: %w", err)
			}
			added += n
		}
		if added == 0 {
			return nil
		}
		if err := quota.Add(ctx, tx, app.Number, quotaBlocks, string(owner), added, &s.cfg.BlockedUsers); err != nil {
			if errs.Is(err, errs.ReasonQuota) {
				return s.blocksFull()
			}
			return err
		}
		ev.changed(owner, busv1.UserEvent_CHANGE_BLOCKS)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.settle(ctx)
	return &accountv1.AddBlocksResponse{Usernames: ident.UserNames(blocked)}, nil
}

// blockNames checks the names of a call about several users of a block list;
// tooMany is its error if they are more than a list holds. Whether the users
// exist, except the list's owner, is left to be checked.
func (s *Service) blockNames(ctx context.Context, app *catalog.App, ownerName string, list []string, tooMany error) (owner ident.UserID, users []ident.UserID, err error) {
	if len(list) == 0 {
		return "", nil, invalid()
	}
	if owner, err = s.findUserID(ctx, app.Number, ownerName); err != nil {
		return "", nil, err
	}
	users = make([]ident.UserID, 0, min(int64(len(list)), s.cfg.BlockedUsers))
	for _, name := range list {
		id := ident.FoldUser(name)
		if id == owner {
			return "", nil, invalid()
		}
		if !id.Valid() {
			return "", nil, errs.NotFound()
		}
		if !slices.Contains(users, id) {
			users = append(users, id)
		}
		if int64(len(users)) > s.cfg.BlockedUsers {
			return "", nil, tooMany
		}
	}
	return owner, users, nil
}

func (s *Service) blocksFull() error {
	return errs.Forbidden(fmt.Sprintf("the block list is full: at most %d users", s.cfg.BlockedUsers))
}

// RemoveBlock unblocks a user. It is no error if the user was not blocked.
func (s *Service) RemoveBlock(ctx context.Context, req *accountv1.RemoveBlockRequest) (*accountv1.RemoveBlockResponse, error) {
	p, err := s.pair(ctx, req.GetOrg(), req.GetApp(), req.GetOwnerUsername(), req.GetBlockedUsername())
	if err != nil {
		return nil, err
	}
	owner := p.owner.username
	err = s.commit(ctx, p.app, func(tx *sql.Tx, ev *events) error {
		return unblock(ctx, tx, ev, owner, p.friend.username)
	})
	if err != nil {
		return nil, err
	}
	s.settle(ctx)
	return &accountv1.RemoveBlockResponse{OwnerUuid: p.owner.uuid, Unblocked: p.friend.proto()}, nil
}

// RemoveBlocks unblocks users: all of them or, if one does not exist, none.
// Who is not blocked counts as removed.
func (s *Service) RemoveBlocks(ctx context.Context, req *accountv1.RemoveBlocksRequest) (*accountv1.RemoveBlocksResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	owner, blocked, err := s.blockNames(ctx, app, req.GetOwnerUsername(), req.GetUsernames(), invalid())
	if err != nil {
		return nil, err
	}
	err = s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		if err := s.holdUsers(ctx, tx, app.Number, append([]ident.UserID{owner}, blocked...)...); err != nil {
			return err
		}
		return unblock(ctx, tx, ev, owner, blocked...)
	})
	if err != nil {
		return nil, err
	}
	s.settle(ctx)
	return &accountv1.RemoveBlocksResponse{Usernames: ident.UserNames(blocked)}, nil
}

// unblock takes users off the owner's block list.
func unblock(ctx context.Context, tx *sql.Tx, ev *events, owner ident.UserID, blocked ...ident.UserID) error {
	removed := int64(0)
	for _, id := range blocked {
		n, err := store.Exec(ctx, tx, `DELETE FROM blocks WHERE app = $1 AND owner = $2 AND blocked = $3`, ev.app.Number, owner, id)
		if err != nil {
			return fmt.Errorf("unblock user: %w", err)
		}
		removed += n
	}
	if removed == 0 {
		return nil
	}
	if err := quota.Release(ctx, tx, ev.app.Number, quotaBlocks, string(owner), removed); err != nil {
		return err
	}
	ev.changed(owner, busv1.UserEvent_CHANGE_BLOCKS)
	return nil
}

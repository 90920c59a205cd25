package account

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/store"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

const (
	// maxRequested bounds the users of one contact request.
	maxRequested = 100
	// maxRequestReason bounds what is said with it, in characters.
	maxRequestReason = 512
)

// RequestContacts asks users to become friends. Who is a friend already is not
// asked again, and who has blocked the asker does not hear of it.
func (s *Service) RequestContacts(ctx context.Context, req *accountv1.RequestContactsRequest) (*accountv1.RequestContactsResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	if n := len(req.GetUsernames()); n == 0 || n > maxRequested || !fits(req.GetReason(), maxRequestReason) {
		return nil, invalid()
	}
	asker, err := s.findUserID(ctx, app.Number, req.GetOwnerUsername())
	if err != nil {
		return nil, err
	}
	var asked []string
	for _, name := range req.GetUsernames() {
		id, err := s.findUserID(ctx, app.Number, name)
		if err != nil {
			return nil, err
		}
		if id == asker {
			return nil, invalid()
		}
		if !slices.Contains(asked, id) {
			asked = append(asked, id)
		}
	}
	err = s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		if err := s.holdUsers(ctx, tx, app.Number, append([]string{asker}, asked...)...); err != nil {
			return err
		}
		for _, id := range asked {
			open, err := s.storeRequest(ctx, tx, app, id, asker)
			if err != nil {
				return err
			}
			if open {
				ev.contact(asker, id, busv1.ContactEvent_ACTION_REQUESTED, req.GetReason())
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &accountv1.RequestContactsResponse{}, nil
}

// storeRequest remembers that sender asked target, unless they are friends or
// target has blocked sender.
func (s *Service) storeRequest(ctx context.Context, tx *sql.Tx, app *catalog.App, target, sender string) (bool, error) {
	var closed int
	_, err := store.Row(ctx, tx, `SELECT (SELECT COUNT(*) FROM contacts WHERE app = $1 AND owner = $2 AND friend = $3)
		+ (SELECT COUNT(*) FROM blocks WHERE app = $1 AND owner = $2 AND blocked = $3)`, []any{app.Number, target, sender}, &closed)
	if err != nil {
		return false, fmt.Errorf("contact request: %w", err)
	}
	if closed > 0 {
		return false, nil
	}
	_, err = store.Exec(ctx, tx, `INSERT INTO contact_requests (app, target, sender, created) VALUES ($1, $2, $3, $4)
		ON CONFLICT (app, target, sender) DO UPDATE SET created = excluded.created`, app.Number, target, sender, s.now().UnixMilli())
	if err != nil {
		return false, fmt.Errorf("contact request: %w", err)
	}
	_, err = store.Exec(ctx, tx, `DELETE FROM contact_requests WHERE app = $1 AND target = $2 AND sender IN
		(SELECT sender FROM contact_requests WHERE app = $1 AND target = $2 ORDER BY created DESC, sender LIMIT $3 OFFSET $4)`,
		app.Number, target, s.cfg.ContactRequests, s.cfg.ContactRequests)
	if err != nil {
		return false, fmt.Errorf("contact request: %w", err)
	}
	return true, nil
}

// takeRequest removes the request that friend made to owner; the error is
// errs.NotFound if there is none.
func takeRequest(ctx context.Context, tx *sql.Tx, p pair) error {
	n, err := store.Exec(ctx, tx, `DELETE FROM contact_requests WHERE app = $1 AND target = $2 AND sender = $3`,
		p.app.Number, p.owner.username, p.friend.username)
	if err == nil && n == 0 {
		return errs.NotFound()
	}
	return err
}

// AcceptContact makes friends of a user and one who asked.
func (s *Service) AcceptContact(ctx context.Context, req *accountv1.AcceptContactRequest) (*accountv1.AcceptContactResponse, error) {
	p, err := s.pair(ctx, req.GetOrg(), req.GetApp(), req.GetOwnerUsername(), req.GetFriendUsername())
	if err != nil {
		return nil, err
	}
	owner, friend := p.owner.username, p.friend.username
	err = s.commit(ctx, p.app, func(tx *sql.Tx, ev *events) error {
		if err := takeRequest(ctx, tx, p); err != nil {
			// Answered twice, perhaps on two devices: that they are friends is all
			// that was asked for.
			if errs.Is(err, errs.ReasonNotFound) {
				return areFriends(ctx, tx, p)
			}
			return err
		}
		added, err := s.befriend(ctx, tx, p)
		if err != nil || !added {
			return err
		}
		ev.
			changed(owner, busv1.UserEvent_CHANGE_CONTACTS).
			changed(friend, busv1.UserEvent_CHANGE_CONTACTS).
			contact(owner, friend, busv1.ContactEvent_ACTION_ACCEPTED, "").
			contactCopy(owner, friend, busv1.ContactEvent_ACTION_ACCEPTED, req.GetResource())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &accountv1.AcceptContactResponse{}, nil
}

// areFriends is errs.NotFound if they are not.
func areFriends(ctx context.Context, tx *sql.Tx, p pair) error {
	var n int
	_, err := store.Row(ctx, tx, `SELECT COUNT(*) FROM contacts WHERE app = $1 AND owner = $2 AND friend = $3`,
		[]any{p.app.Number, p.owner.username, p.friend.username}, &n)
	if err != nil {
		return fmt.Errorf("contacts: %w", err)
	}
	if n == 0 {
		return errs.NotFound()
	}
	return nil
}

// DeclineContact turns down one who asked.
func (s *Service) DeclineContact(ctx context.Context, req *accountv1.DeclineContactRequest) (*accountv1.DeclineContactResponse, error) {
	p, err := s.pair(ctx, req.GetOrg(), req.GetApp(), req.GetOwnerUsername(), req.GetFriendUsername())
	if err != nil {
		return nil, err
	}
	err = s.commit(ctx, p.app, func(tx *sql.Tx, ev *events) error {
		if err := takeRequest(ctx, tx, p); err != nil {
			return err
		}
		ev.contact(p.owner.username, p.friend.username, busv1.ContactEvent_ACTION_DECLINED, "")
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &accountv1.DeclineContactResponse{}, nil
}

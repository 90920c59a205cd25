package account

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/quota"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/tier"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

const (
	// maxRemark bounds a remark in characters.
	maxRemark = 100
	// maxContactPage bounds a page of contacts.
	maxContactPage = 50
)

// pair are the two users of a call about both.
type pair struct {
	app           *catalog.App
	owner, friend *user
}

// pair finds them; that they are two is the caller's to check.
func (s *Service) pair(ctx context.Context, org, appName, owner, friend string) (p pair, err error) {
	if p.app, err = s.app(org, appName); err != nil {
		return p, err
	}
	if p.owner, err = findUser(ctx, s.db.Read(), p.app.Number, owner); err != nil {
		return p, err
	}
	p.friend, err = findUser(ctx, s.db.Read(), p.app.Number, friend)
	return p, err
}

// sides gives the two directions of a friendship, in the order in which every
// transaction takes them.
func (p pair) sides() [2][2]string {
	a, b := p.owner.username, p.friend.username
	if a > b {
		a, b = b, a
	}
	return [2][2]string{{a, b}, {b, a}}
}

// AddContact makes two users friends at once, both ways.
func (s *Service) AddContact(ctx context.Context, req *accountv1.AddContactRequest) (*accountv1.AddContactResponse, error) {
	p, err := s.pair(ctx, req.GetOrg(), req.GetApp(), req.GetOwnerUsername(), req.GetFriendUsername())
	if err != nil {
		return nil, err
	}
	owner, friend := p.owner.username, p.friend.username
	if owner == friend {
		return nil, invalid()
	}
	err = s.commit(ctx, p.app, func(tx *sql.Tx, ev *events) error {
		added, err := s.befriend(ctx, tx, p)
		if err != nil || !added {
			return err
		}
		ev.
			changed(owner, busv1.UserEvent_CHANGE_CONTACTS).
			changed(friend, busv1.UserEvent_CHANGE_CONTACTS).
			contact(owner, friend, busv1.ContactEvent_ACTION_ADDED, "").
			contactCopy(owner, friend, busv1.ContactEvent_ACTION_ADDED, req.GetResource())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &accountv1.AddContactResponse{OwnerUuid: p.owner.uuid, Friend: p.friend.proto()}, nil
}

// befriend adds both sides of a friendship, each within its owner's quota, and
// tells whether anything was new. It settles what either had asked the other.
func (s *Service) befriend(ctx context.Context, tx *sql.Tx, p pair) (added bool, err error) {
	if err := s.holdUsers(ctx, tx, p.app.Number, p.owner.username, p.friend.username); err != nil {
		return false, err
	}
	now := s.now().UnixMicro()
	limit := p.app.Tier.QuotaLimit(tier.QuotaContactsPerUser)
	for _, side := range p.sides() {
		n, err := store.Exec(ctx, tx, `INSERT INTO contacts (app, owner, friend, added, remark) VALUES ($1, $2, $3, $4, '')
			ON CONFLICT (app, owner, friend) DO NOTHING`, p.app.Number, side[0], side[1], now)
		if err != nil {
			return false, fmt.Errorf("add contact: %w", err)
		}
		if n == 0 {
			continue
		}
		added = true
		err = quota.Add(ctx, tx, p.app.Number, tier.QuotaContactsPerUser, side[0], 1, limit)
		switch {
		case errs.Is(err, errs.ReasonQuota):
			return false, contactsFull()
		case err != nil:
			return false, err
		}
	}
	return added, forgetRequests(ctx, tx, p)
}

func contactsFull() error { return errs.LimitExceeded("user contact number exceed limit") }

func forgetRequests(ctx context.Context, tx *sql.Tx, p pair) error {
	for _, side := range p.sides() {
		_, err := store.Exec(ctx, tx, `DELETE FROM contact_requests WHERE app = $1 AND target = $2 AND sender = $3`,
			p.app.Number, side[0], side[1])
		if err != nil {
			return fmt.Errorf("contact requests: %w", err)
		}
	}
	return nil
}

// RemoveContact ends a friendship, both ways. It is no error if there is none.
func (s *Service) RemoveContact(ctx context.Context, req *accountv1.RemoveContactRequest) (*accountv1.RemoveContactResponse, error) {
	p, err := s.pair(ctx, req.GetOrg(), req.GetApp(), req.GetOwnerUsername(), req.GetFriendUsername())
	if err != nil {
		return nil, err
	}
	owner, friend := p.owner.username, p.friend.username
	err = s.commit(ctx, p.app, func(tx *sql.Tx, ev *events) error {
		removed := int64(0)
		for _, side := range p.sides() {
			n, err := store.Exec(ctx, tx, `DELETE FROM contacts WHERE app = $1 AND owner = $2 AND friend = $3`,
				p.app.Number, side[0], side[1])
			if err != nil {
				return fmt.Errorf("remove contact: %w", err)
			}
			removed += n
			if err := quota.Release(ctx, tx, p.app.Number, tier.QuotaContactsPerUser, side[0], n); err != nil {
				return err
			}
		}
		if removed == 0 {
			return nil
		}
		ev.
			changed(owner, busv1.UserEvent_CHANGE_CONTACTS).
			changed(friend, busv1.UserEvent_CHANGE_CONTACTS).
			contact(owner, friend, busv1.ContactEvent_ACTION_REMOVED, "").
			contactCopy(owner, friend, busv1.ContactEvent_ACTION_REMOVED, req.GetResource())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &accountv1.RemoveContactResponse{OwnerUuid: p.owner.uuid, Friend: p.friend.proto()}, nil
}

// ListContacts gives a user's friends, newest first.
func (s *Service) ListContacts(ctx context.Context, req *accountv1.ListContactsRequest) (*accountv1.ListContactsResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	owner, err := s.findUserID(ctx, app.Number, req.GetOwnerUsername())
	if err != nil {
		return nil, err
	}
	resp := &accountv1.ListContactsResponse{}
	query := `SELECT friend, remark FROM contacts WHERE app = $1 AND owner = $2 ORDER BY added DESC, friend DESC`
	err = store.Each(ctx, s.db.Read(), query, []any{app.Number, owner}, func(row store.Scanner) error {
		c := &accountv1.Contact{}
		if err := row.Scan(&c.Username, &c.Remark); err != nil {
			return err
		}
		resp.Usernames = append(resp.Usernames, c.GetUsername())
		resp.Contacts = append(resp.Contacts, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// PageContacts is ListContacts in pages.
func (s *Service) PageContacts(ctx context.Context, req *accountv1.PageContactsRequest) (*accountv1.PageContactsResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	if req.GetLimit() > maxContactPage {
		return nil, errs.Invalidf("getContacts | page size more than max limit : %d", maxContactPage)
	}
	limit, err := pageLimit(req.Limit)
	if err != nil {
		return nil, err
	}
	before, err := parseRelationCursor(req.GetCursor())
	if err != nil {
		return nil, err
	}
	owner, err := s.findUserID(ctx, app.Number, req.GetOwnerUsername())
	if err != nil {
		return nil, err
	}
	resp := &accountv1.PageContactsResponse{}
	var last relationPosition
	query := `SELECT friend, remark, added FROM contacts WHERE app = $1 AND owner = $2 AND (added, friend) < ($3, $4)
		ORDER BY added DESC, friend DESC LIMIT $5`
	err = store.Each(ctx, s.db.Read(), query, []any{app.Number, owner, before.added, before.user, limit + 1}, func(row store.Scanner) error {
		c := &accountv1.Contact{}
		var added int64
		if err := row.Scan(&c.Username, &c.Remark, &added); err != nil {
			return err
		}
		if len(resp.GetContacts()) == limit {
			resp.Cursor = last.cursor()
			return nil
		}
		last = relationPosition{added: added, user: c.GetUsername()}
		resp.Contacts = append(resp.Contacts, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// SetContactRemark sets what a user notes about a friend.
func (s *Service) SetContactRemark(ctx context.Context, req *accountv1.SetContactRemarkRequest) (*accountv1.SetContactRemarkResponse, error) {
	if req.Remark == nil || !fits(req.GetRemark(), maxRemark) {
		return nil, invalid()
	}
	p, err := s.pair(ctx, req.GetOrg(), req.GetApp(), req.GetOwnerUsername(), req.GetFriendUsername())
	if err != nil {
		return nil, err
	}
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		n, err := store.Exec(ctx, tx, `UPDATE contacts SET remark = $1 WHERE app = $2 AND owner = $3 AND friend = $4`,
			req.GetRemark(), p.app.Number, p.owner.username, p.friend.username)
		if err == nil && n == 0 {
			return errs.Invalid("updateRemark they are not friends, please add as a friend first.")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &accountv1.SetContactRemarkResponse{}, nil
}

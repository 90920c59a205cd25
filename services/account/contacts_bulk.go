package account

import (
	"context"
	"crypto/sha1" //nolint:gosec // a version, not a proof: clients know versions of this length
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/names"
	"github.com/chappe-im/chappe/pkg/quota"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/tier"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

const (
	// maxImported bounds the friends of one import.
	maxImported = 10
	// maxChecked bounds the users of one question about friends or blocks.
	maxChecked = 100
)

// ImportContacts befriends the users one by one: what is not possible for one
// does not keep the others from it.
func (s *Service) ImportContacts(ctx context.Context, req *accountv1.ImportContactsRequest) (*accountv1.ImportContactsResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	switch n := len(req.GetUsernames()); {
	case n == 0:
		return nil, invalid()
	case n > maxImported:
		return nil, errs.Invalidf("request user over flow limit:%d.", maxImported)
	}
	owner, err := findUser(ctx, s.db.Read(), app.Number, req.GetOwnerUsername())
	if err != nil {
		return nil, err
	}
	resp := &accountv1.ImportContactsResponse{}
	for _, name := range req.GetUsernames() {
		list, err := s.importContact(ctx, pair{app: app, owner: owner}, name, req.GetIsSendNotice(), resp)
		if err != nil {
			return nil, err
		}
		*list = append(*list, name)
	}
	if len(resp.GetSuccess()) > 0 || len(resp.GetOverLimit()) == 0 {
		return resp, nil
	}
	full, err := s.contactsAreFull(ctx, pair{app: app, owner: owner})
	if err != nil {
		return nil, err
	}
	if full {
		return nil, errs.LimitExceeded("Inviter's contact max count.")
	}
	return resp, nil
}

// importContact befriends one user with the owner of p and returns the list of
// the answer that the user belongs to.
func (s *Service) importContact(ctx context.Context, p pair, name string, tell bool, resp *accountv1.ImportContactsResponse) (*[]string, error) {
	friend, err := findUser(ctx, s.db.Read(), p.app.Number, name)
	switch {
	case errs.Is(err, errs.ReasonNotFound):
		return &resp.NotExist, nil
	case err != nil:
		return nil, err
	case friend.username == p.owner.username:
		return &resp.Failed, nil
	}
	p.friend = friend
	err = s.commit(ctx, p.app, func(tx *sql.Tx, ev *events) error {
		added, err := s.befriend(ctx, tx, p)
		if err != nil || !added {
			return err
		}
		ev.
			changed(p.owner.username, busv1.UserEvent_CHANGE_CONTACTS).
			changed(p.friend.username, busv1.UserEvent_CHANGE_CONTACTS)
		if tell {
			ev.
				contact(p.owner.username, p.friend.username, busv1.ContactEvent_ACTION_ADDED, "").
				contactCopy(p.owner.username, p.friend.username, busv1.ContactEvent_ACTION_ADDED, "")
		}
		return nil
	})
	switch {
	case err == nil:
		return &resp.Success, nil
	case errs.Is(err, errs.ReasonExceedLimit):
		return &resp.OverLimit, nil
	case errs.Is(err, errs.ReasonNotFound): // deleted meanwhile
		return &resp.NotExist, nil
	default:
		return nil, err
	}
}

// contactsAreFull reports whether the owner of p may have no further friend.
func (s *Service) contactsAreFull(ctx context.Context, p pair) (bool, error) {
	limit := p.app.Tier.QuotaLimit(tier.QuotaContactsPerUser)
	if limit == nil {
		return false, nil
	}
	used, err := quota.Used(ctx, s.db.Read(), p.app.Number, tier.QuotaContactsPerUser, p.owner.username)
	return used >= *limit, store.Translate(err)
}

// CheckContacts implements accountv1.RelationServiceServer.
func (s *Service) CheckContacts(ctx context.Context, req *accountv1.CheckContactsRequest) (*accountv1.CheckContactsResponse, error) {
	relations, err := s.check(ctx, req, `SELECT friend FROM contacts WHERE app = $1 AND owner = $2 AND friend IN `, "friend", "not_friend")
	return &accountv1.CheckContactsResponse{Relations: relations}, err
}

// CheckBlocks implements accountv1.RelationServiceServer.
func (s *Service) CheckBlocks(ctx context.Context, req *accountv1.CheckBlocksRequest) (*accountv1.CheckBlocksResponse, error) {
	relations, err := s.check(ctx, req, `SELECT blocked FROM blocks WHERE app = $1 AND owner = $2 AND blocked IN `, "blocked", "not_blocked")
	return &accountv1.CheckBlocksResponse{Relations: relations}, err
}

// checkRequest asks how users stand to another.
type checkRequest interface {
	GetOrg() string
	GetApp() string
	GetUsername() string
	GetCheckList() []string
}

// check answers it: yes for those whom the query finds, no for all others.
func (s *Service) check(ctx context.Context, req checkRequest, query, yes, no string) ([]*accountv1.Relation, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	switch n := len(req.GetCheckList()); {
	case strings.TrimSpace(req.GetUsername()) == "":
		return nil, errs.Invalid("username cannot be blank")
	case n == 0 || n > maxChecked:
		return nil, errs.Invalidf("check_list size must be between 1 and %d", maxChecked)
	}
	owner, err := s.findUserID(ctx, app.Number, req.GetUsername())
	if err != nil {
		return nil, err
	}
	args := []any{app.Number, owner}
	for _, name := range req.GetCheckList() {
		if names.ValidUser(name) {
			args = append(args, names.FoldUser(name))
		}
	}
	var found []string
	if len(args) > 2 {
		if found, err = store.Column[string](ctx, s.db.Read(), query+`(`+store.In(3, len(args)-2)+`)`, args...); err != nil {
			return nil, err
		}
	}
	out := make([]*accountv1.Relation, len(req.GetCheckList()))
	for i, name := range req.GetCheckList() {
		out[i] = &accountv1.Relation{Username: name, Relation: no}
		if slices.Contains(found, names.FoldUser(name)) {
			out[i].Relation = yes
		}
	}
	return out, nil
}

// RemoveAllContacts implements accountv1.RelationServiceServer.
func (s *Service) RemoveAllContacts(ctx context.Context, req *accountv1.RemoveAllContactsRequest) (*accountv1.RemoveAllContactsResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	id, err := s.findUserID(ctx, app.Number, req.GetUsername())
	if err != nil {
		return nil, err
	}
	err = s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		if err := s.holdUsers(ctx, tx, app.Number, id); err != nil {
			return err
		}
		if err := dropContacts(ctx, tx, ev, id); err != nil {
			return err
		}
		ev.changed(id, busv1.UserEvent_CHANGE_CONTACTS)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &accountv1.RemoveAllContactsResponse{}, nil
}

// dropContacts ends all friendships of a user and tells the friends.
func dropContacts(ctx context.Context, tx *sql.Tx, ev *events, id string) error {
	app := ev.app.Number
	friends, err := store.Column[string](ctx, tx, `SELECT friend FROM contacts WHERE app = $1 AND owner = $2 ORDER BY added DESC LIMIT $3`,
		app, id, maxTold)
	if err != nil {
		return err
	}
	for _, f := range friends {
		ev.changed(f, busv1.UserEvent_CHANGE_CONTACTS).contact(id, f, busv1.ContactEvent_ACTION_REMOVED, "")
	}
	for _, step := range []struct {
		query string
		args  []any
	}{
		{`UPDATE usage SET used = used - 1 WHERE app = $1 AND quota = $2 AND owner IN
			(SELECT friend FROM contacts WHERE app = $1 AND owner = $3)`, []any{app, tier.QuotaContactsPerUser, id}},
		{`DELETE FROM contacts WHERE app = $1 AND friend = $2 AND owner IN
			(SELECT friend FROM contacts WHERE app = $1 AND owner = $2)`, []any{app, id}},
		{`DELETE FROM contacts WHERE app = $1 AND owner = $2`, []any{app, id}},
	} {
		if _, err := store.Exec(ctx, tx, step.query, step.args...); err != nil {
			return fmt.Errorf("end friendships: %w", err)
		}
	}
	return quota.Clear(ctx, tx, app, tier.QuotaContactsPerUser, id)
}

// GetRosterVersion implements accountv1.RelationServiceServer. The version is a
// digest of the friends with their remarks: whatever changes them changes it.
func (s *Service) GetRosterVersion(ctx context.Context, req *accountv1.GetRosterVersionRequest) (*accountv1.GetRosterVersionResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	id, err := s.findUserID(ctx, app.Number, req.GetUsername())
	if err != nil {
		return nil, err
	}
	digest := sha1.New() //nolint:gosec // see the import
	err = store.Each(ctx, s.db.Read(), `SELECT friend, remark FROM contacts WHERE app = $1 AND owner = $2 ORDER BY friend`,
		[]any{app.Number, id}, func(row store.Scanner) error {
			var friend, remark string
			if err := row.Scan(&friend, &remark); err != nil {
				return err
			}
			// Neither holds a NUL.
			_, err := digest.Write([]byte(friend + "\x00" + remark + "\x00"))
			return err
		})
	if err != nil {
		return nil, err
	}
	return &accountv1.GetRosterVersionResponse{
		Version: strings.ToUpper(hex.EncodeToString(digest.Sum(nil))), Timestamp: s.now().UnixMilli(),
	}, nil
}

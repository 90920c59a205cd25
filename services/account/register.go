package account

import (
	"context"
	"database/sql"
	"fmt"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/quota"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/tier"
	"github.com/chappe-im/chappe/pkg/token"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// Bounds in characters.
const (
	maxPassword = 64
	maxNickname = 100
)

// Texts of the wire contract.
const (
	textNoUsername   = "Entity user requires a property named username"
	textNoPassword   = "password or pin must provided"
	textLongNickname = "NICKNAME_TOO_LONG"
	textExistsSuffix = " already exists"
)

// newUser is a user to create.
type newUser struct {
	id       ident.UserID
	password *string
	nickname string
	hash     sql.NullString
}

// RegisterUsers creates one user, or several as a batch.
func (s *Service) RegisterUsers(ctx context.Context, req *accountv1.RegisterUsersRequest) (*accountv1.RegisterUsersResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	if req.GetAnonymous() {
		if !app.Open() {
			return nil, errs.RegistrationClosed()
		}
		if req.GetBatch() {
			return nil, token.Error(nil)
		}
	}
	batch := req.GetBatch()
	switch n := len(req.GetUsers()); {
	case n == 0, !batch && n != 1:
		return nil, invalid()
	case n > s.cfg.BatchUsers:
		return nil, errs.Invalidf("Request body array size[%d] had almost reached or been greater than the upper range value[%d]",
			n, s.cfg.BatchUsers)
	}
	users, err := checkNewUsers(req)
	if err != nil {
		return nil, err
	}
	created, existing, err := s.createUsers(ctx, app, users)
	if err != nil {
		return nil, err
	}
	if !batch && len(existing) > 0 {
		return nil, errs.InvalidReason(errs.ReasonDuplicate, fmt.Sprintf(
			"Application %sEntity user requires that property named username be unique, value of %s exists", app.UUID, existing[0]))
	}
	failures := make([]*accountv1.RegisterFailure, len(existing))
	for i, id := range existing {
		failures[i] = &accountv1.RegisterFailure{Username: string(id), Reason: "the " + string(id) + textExistsSuffix}
	}
	return &accountv1.RegisterUsersResponse{Users: usersProto(created), Failures: failures, Batch: batch}, nil
}

// checkNewUsers returns the users to create, each once. One who cannot be
// registered refuses the whole call.
func checkNewUsers(req *accountv1.RegisterUsersRequest) ([]newUser, error) {
	for _, u := range req.GetUsers() {
		if err := checkNewUser(u, req.GetBatch() || req.GetAnonymous()); err != nil {
			return nil, err
		}
	}
	users := make([]newUser, 0, len(req.GetUsers()))
	seen := make(map[ident.UserID]string, len(req.GetUsers()))
	for _, u := range req.GetUsers() {
		id := ident.FoldUser(u.GetUsername())
		switch password, again := seen[id]; {
		case !again:
			seen[id] = u.GetPassword()
			users = append(users, newUser{id: id, password: u.Password, nickname: u.GetNickname()})
		case password != u.GetPassword():
			return nil, errs.InvalidReason(errs.ReasonDuplicate,
				"the same user "+string(id)+" has a different password, the passwords are ***")
		}
	}
	return users, nil
}

func checkNewUser(u *accountv1.NewUser, needsPassword bool) error {
	if u == nil || u.Username == nil {
		return errs.Invalid(textNoUsername)
	}
	if err := ident.CheckNewUser(u.GetUsername()); err != nil {
		return err
	}
	switch {
	case u.Password == nil && needsPassword, u.Password != nil && u.GetPassword() == "":
		return errs.Invalid(textNoPassword)
	case utf8.RuneCountInString(u.GetNickname()) > maxNickname:
		return errs.Invalid(textLongNickname)
	case utf8.RuneCountInString(u.GetPassword()) > maxPassword, !fits(u.GetNickname(), maxNickname):
		return invalid()
	}
	return nil
}

// createUsers creates all users that do not exist yet, or none when that would
// pass the app's quota, and tells which existed, in the order given.
func (s *Service) createUsers(ctx context.Context, app *catalog.App, users []newUser) (created []*user, existing []ident.UserID, err error) {
	if len(users) == 0 {
		return nil, nil, nil
	}
	limit := app.Tier.QuotaLimit(tier.QuotaRegisteredUsers)
	fresh, err := s.absent(ctx, app, users)
	if err != nil {
		return nil, nil, err
	}
	if len(fresh) > 0 && limit != nil {
		// Hashes are dear: make none that the quota will not let in. What decides
		// is the transaction.
		used, err := quota.Used(ctx, s.db.Read(), app.Number, tier.QuotaRegisteredUsers, "")
		if err != nil {
			return nil, nil, err
		}
		if used > *limit-int64(len(fresh)) {
			return nil, nil, errs.QuotaExceeded(tier.QuotaRegisteredUsers)
		}
	}
	if err := s.hashPasswords(ctx, fresh); err != nil {
		return nil, nil, err
	}
	err = s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		created, err = s.insertUsers(ctx, tx, app, fresh)
		if err != nil {
			return err
		}
		if err := quota.Add(ctx, tx, app.Number, tier.QuotaRegisteredUsers, "", int64(len(created)), limit); err != nil {
			return err
		}
		for _, u := range created {
			ev.changed(u.username, busv1.UserEvent_CHANGE_CREATED)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	made := make(map[ident.UserID]bool, len(created))
	for _, u := range created {
		made[u.username] = true
	}
	for _, u := range users {
		if !made[u.id] {
			existing = append(existing, u.id)
		}
	}
	return created, existing, nil
}

// absent gives the users that do not exist at the moment. An ID that is the
// UUID of a user counts as taken: a user may be addressed by either, and an ID
// outranks a UUID.
func (s *Service) absent(ctx context.Context, app *catalog.App, users []newUser) ([]newUser, error) {
	ids, uuids := []any{app.Number}, []any{app.Number}
	for _, u := range users {
		ids = append(ids, u.id)
		if looksLikeUUID(u.id) {
			uuids = append(uuids, u.id)
		}
	}
	known := make(map[ident.UserID]bool)
	for _, look := range []struct {
		column string
		args   []any
	}{{"username", ids}, {"uuid", uuids}} {
		if len(look.args) == 1 {
			continue
		}
		present, err := store.Column[ident.UserID](ctx, s.db.Read(), `SELECT `+look.column+` FROM users WHERE app = $1 AND `+look.column+
			` IN (`+store.In(2, len(look.args)-1)+`)`, look.args...)
		if err != nil {
			return nil, err
		}
		for _, id := range present {
			known[id] = true
		}
	}
	fresh := make([]newUser, 0, len(users))
	for _, u := range users {
		if !known[u.id] {
			fresh = append(fresh, u)
		}
	}
	return fresh, nil
}

func (s *Service) hashPasswords(ctx context.Context, users []newUser) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.cfg.ParallelHashes)
	for i := range users {
		if users[i].password == nil {
			continue
		}
		g.Go(func() error {
			h, err := s.passwords.hash(ctx, *users[i].password)
			users[i].hash = sql.NullString{String: h, Valid: true}
			return err
		})
	}
	return g.Wait()
}

// insertUsers inserts the users that still do not exist.
func (s *Service) insertUsers(ctx context.Context, tx *sql.Tx, app *catalog.App, users []newUser) ([]*user, error) {
	now := s.now().UnixMilli()
	var created []*user
	for _, n := range users {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, errs.Internal(err)
		}
		u := &user{
			username: n.id, uuid: id.String(), created: now, modified: now, hash: n.hash, activated: true,
			nickname: sql.NullString{String: n.nickname, Valid: n.nickname != ""},
		}
		found, err := store.Row(ctx, tx, `INSERT INTO users (app, username, uuid, created, modified, password_hash, activated, nickname, valid_from)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8,
				COALESCE((SELECT valid_from FROM former_users WHERE app = $1 AND username = $2), 0))
			ON CONFLICT (app, username) DO NOTHING RETURNING valid_from`,
			[]any{app.Number, u.username, u.uuid, u.created, u.modified, u.hash, u.activated, u.nickname}, &u.validFrom)
		if err != nil {
			return nil, fmt.Errorf("insert user: %w", err)
		}
		if found {
			created = append(created, u)
		}
	}
	return created, nil
}

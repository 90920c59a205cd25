package account

import (
	"context"
	"database/sql"
	"unicode/utf8"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// ChangePassword sets a new password. All tokens that the user has are void
// and all connections end.
func (s *Service) ChangePassword(ctx context.Context, req *accountv1.ChangePasswordRequest) (*accountv1.ChangePasswordResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	switch {
	case req.GetNewpassword() == "":
		return nil, errs.Invalid("newpassword is required")
	case req.GetCheckOld() && req.GetOldpassword() == "":
		return nil, errs.Invalid("oldPassword is required")
	case utf8.RuneCountInString(req.GetNewpassword()) > maxPassword:
		return nil, invalid()
	}
	u, err := findUser(ctx, s.db.Read(), app.Number, req.GetUsername())
	if err != nil {
		return nil, noEntity(err)
	}
	if req.GetCheckOld() {
		ok, err := s.passwords.check(ctx, u.hash.String, req.GetOldpassword())
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, errs.Unauthenticated(errs.ReasonUnauthorized, "oldPassword does not match")
		}
	}
	hash, err := s.passwords.hash(ctx, req.GetNewpassword())
	if err != nil {
		return nil, err
	}
	if err := s.storePassword(ctx, app, u, hash); err != nil {
		return nil, noEntity(err)
	}
	s.settle(ctx)
	return &accountv1.ChangePasswordResponse{}, nil
}

// noEntity turns the error of a user who does not exist into the one that
// password changes and tokens have for it.
func noEntity(err error) error {
	if errs.Is(err, errs.ReasonNotFound) {
		return errs.UserNotFound()
	}
	return err
}

// noProperty turns it into the one of push settings and global mutes.
func noProperty(err error) error {
	if errs.Is(err, errs.ReasonNotFound) {
		return errs.UserRequired()
	}
	return err
}

// storePassword replaces the hash that u was read with; a user who was deleted
// and registered anew meanwhile keeps the new password.
func (s *Service) storePassword(ctx context.Context, app *catalog.App, u *user, hash string) error {
	return s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		now := s.now().UnixMilli()
		changed, err := readUser(ctx, tx, `UPDATE users SET password_hash = $1, modified = $2,
			`+voidTokens("$2")+` WHERE app = $3 AND username = $4 AND uuid = $5 RETURNING `+userColumns,
			hash, now, app.Number, u.username, u.uuid)
		if err != nil {
			return err
		}
		ev.
			revoked(u.username, changed.validFrom).
			changed(u.username, busv1.UserEvent_CHANGE_PASSWORD).
			disconnected(u.username, busv1.Disconnect_REASON_PASSWORD_CHANGED)
		return nil
	})
}

package account

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/store"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

// user is a row of users.
type user struct {
	username  ident.UserID
	uuid      string
	created   int64
	modified  int64
	hash      sql.NullString
	validFrom int64
	activated bool

	nickname      sql.NullString
	displayStyle  sql.NullInt32
	noDisturbing  sql.NullBool
	quietFrom     sql.NullInt32
	quietTo       sql.NullInt32
	notifierName  sql.NullString
	deviceToken   sql.NullString
	ignoredGroups sql.NullString
	// pushInfo is a JSON array of bindings.
	pushInfo sql.NullString
}

const userColumns = `username, uuid, created, modified, password_hash, valid_from, activated, nickname, display_style,
	no_disturbing, no_disturbing_start, no_disturbing_end, notifier_name, device_token, ignored_groups, push_info`

// columns are where the values of userColumns go.
func (u *user) columns() []any {
	return []any{
		&u.username, &u.uuid, &u.created, &u.modified, &u.hash, &u.validFrom, &u.activated, &u.nickname, &u.displayStyle,
		&u.noDisturbing, &u.quietFrom, &u.quietTo, &u.notifierName, &u.deviceToken, &u.ignoredGroups, &u.pushInfo,
	}
}

// readUser runs a query that gives userColumns; the error is errs.NotFound if
// it gives no row.
func readUser(ctx context.Context, q store.Querier, query string, args ...any) (*user, error) {
	u := &user{}
	found, err := store.Row(ctx, q, query, args, u.columns()...)
	if err != nil {
		return nil, fmt.Errorf("read user: %w", err)
	}
	if !found {
		return nil, errs.NotFound()
	}
	return u, nil
}

// proto gives the user as the API shows it: settings only where they are set.
func (u *user) proto() *accountv1.User {
	p := &accountv1.User{
		Uuid: u.uuid, Created: u.created, Modified: u.modified, Username: string(u.username), Activated: u.activated,
		Nickname: text(u.nickname), NotifierName: text(u.notifierName), DeviceToken: text(u.deviceToken),
		NotificationDisplayStyle:      number(u.displayStyle),
		NotificationNoDisturbingStart: number(u.quietFrom),
		NotificationNoDisturbingEnd:   number(u.quietTo),
	}
	if u.noDisturbing.Valid {
		p.NotificationNoDisturbing = &u.noDisturbing.Bool
	}
	if u.pushInfo.Valid {
		p.PushInfo = bindingsProto(decodeBindings(u.pushInfo.String))
	}
	if u.ignoredGroups.Valid {
		p.NotificationIgnore = decodeIgnored(u.ignoredGroups.String)
	}
	return p
}

func text(v sql.NullString) *string {
	if !v.Valid {
		return nil
	}
	return &v.String
}

func number(v sql.NullInt32) *int32 {
	if !v.Valid {
		return nil
	}
	return &v.Int32
}

func decodeIgnored(doc string) map[string]bool {
	m := map[string]bool{}
	_ = json.Unmarshal([]byte(doc), &m) // written by encodeIgnored only
	return m
}

// voidTokens is the assignment of an UPDATE that voids all tokens issued so
// far; now is the parameter that holds the time. Tokens are issued at the
// present or, if that is later, at valid_from (see grantUser), so the new
// instant lies after both.
func voidTokens(now string) string {
	return `valid_from = CASE WHEN valid_from > ` + now + ` THEN valid_from ELSE ` + now + ` END + 1`
}

// findUser finds a user by ID or UUID; the error is errs.NotFound if there is
// none. An ID that looks like another user's UUID wins.
func findUser(ctx context.Context, q store.Querier, app int64, name string) (*user, error) {
	folded := ident.FoldUser(name)
	if !folded.Valid() {
		return nil, errs.NotFound()
	}
	u, err := readUser(ctx, q, `SELECT `+userColumns+` FROM users WHERE app = $1 AND username = $2`, app, folded)
	if errs.Is(err, errs.ReasonNotFound) && looksLikeUUID(folded) {
		u, err = readUser(ctx, q, `SELECT `+userColumns+` FROM users WHERE app = $1 AND uuid = $2`, app, folded)
	}
	return u, err
}

// findUserID is findUser for callers that need only the ID.
func (s *Service) findUserID(ctx context.Context, app int64, name string) (ident.UserID, error) {
	u, err := findUser(ctx, s.db.Read(), app, name)
	if err != nil {
		return "", err
	}
	return u.username, nil
}

func looksLikeUUID(id ident.UserID) bool {
	return len(id) == 36 && uuid.Validate(string(id)) == nil
}

// holdUsers makes sure that users stay until the transaction ends, so that no
// row about a user is added while the user is deleted. Every transaction holds
// its users in the order of their IDs.
func (s *Service) holdUsers(ctx context.Context, tx *sql.Tx, app int64, users ...ident.UserID) error {
	lock := "" // SQLite has one writer
	if s.db.Dialect() == store.Postgres {
		lock = " FOR KEY SHARE"
	}
	args := []any{app}
	for _, u := range users {
		args = append(args, u)
	}
	held, err := store.Column[ident.UserID](ctx, tx, `SELECT username FROM users WHERE app = $1 AND username IN (`+store.In(2, len(users))+
		`) ORDER BY username`+lock, args...)
	if err != nil {
		return fmt.Errorf("hold users: %w", err)
	}
	if len(held) != len(users) {
		return errs.NotFound()
	}
	return nil
}

func usersProto(us []*user) []*accountv1.User {
	out := make([]*accountv1.User, len(us))
	for i, u := range us {
		out[i] = u.proto()
	}
	return out
}

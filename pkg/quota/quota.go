// Package quota counts what a tier bounds: users of an app, friends of a user,
// bytes of attributes. The count is a row of the service's own database,
// changed in the transaction that adds or removes the counted rows, so that it
// is exact under races and never parts from them.
//
// A service's schema needs the table usage, whose text Schema gives.
package quota

import (
	"context"
	"database/sql"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/store"
)

// Schema is the table that a service's migration must create, alike in both
// dialects. Its key begins with the app, so that it can be sharded by it.
const Schema = `CREATE TABLE usage (
    app   BIGINT NOT NULL,
    quota TEXT   NOT NULL,
    owner TEXT   NOT NULL,
    used  BIGINT NOT NULL,
    PRIMARY KEY (app, quota, owner)
)`

// Index is what a service's schema needs besides, for Highest.
const Index = `CREATE INDEX usage_highest ON usage (app, quota, used)`

// Add counts n more units of a quota of an app; owner is whose quota it is (a
// user, a group) or empty for the app's own. A nil limit counts without bound.
// When used + n would pass the limit nothing is counted and the error is
// errs.QuotaExceeded(quota); the caller's transaction is still usable.
//
// The row stays locked until the transaction ends: transactions that touch
// several owners' rows do so in the order of the owners' names.
func Add(ctx context.Context, tx *sql.Tx, app int64, quota, owner string, n int64, limit *int64) error {
	if n <= 0 {
		return Release(ctx, tx, app, quota, owner, -n)
	}
	if limit == nil {
		_, err := store.Exec(ctx, tx, `INSERT INTO usage (app, quota, owner, used) VALUES ($1, $2, $3, $4)
			ON CONFLICT (app, quota, owner) DO UPDATE SET used = usage.used + excluded.used`, app, quota, owner, n)
		return err
	}
	if n > *limit {
		return errs.QuotaExceeded(quota)
	}
	// n - limit is not positive, so that neither side can overflow.
	changed, err := store.Exec(ctx, tx, `INSERT INTO usage (app, quota, owner, used) VALUES ($1, $2, $3, $4)
		ON CONFLICT (app, quota, owner) DO UPDATE SET used = usage.used + excluded.used WHERE usage.used <= $5`,
		app, quota, owner, n, *limit-n)
	if err != nil {
		return err
	}
	if changed == 0 {
		return errs.QuotaExceeded(quota)
	}
	return nil
}

// Release gives n units back. It works above the limit as well, after a limit
// was lowered.
func Release(ctx context.Context, tx *sql.Tx, app int64, quota, owner string, n int64) error {
	if n == 0 {
		return nil
	}
	_, err := store.Exec(ctx, tx, `UPDATE usage SET used = used - $1 WHERE app = $2 AND quota = $3 AND owner = $4`,
		n, app, quota, owner)
	return err
}

// Clear forgets the count of an owner that is gone.
func Clear(ctx context.Context, tx *sql.Tx, app int64, quota, owner string) error {
	_, err := store.Exec(ctx, tx, `DELETE FROM usage WHERE app = $1 AND quota = $2 AND owner = $3`, app, quota, owner)
	return err
}

// Used returns how many units are counted.
func Used(ctx context.Context, q store.Querier, app int64, quota, owner string) (used int64, err error) {
	_, err = store.Row(ctx, q, `SELECT used FROM usage WHERE app = $1 AND quota = $2 AND owner = $3`,
		[]any{app, quota, owner}, &used)
	return used, err
}

// Highest returns the owner with the most units of a quota that each owner has
// for itself; none, and no owner, if nobody has any.
func Highest(ctx context.Context, q store.Querier, app int64, quota string) (owner string, used int64, err error) {
	_, err = store.Row(ctx, q, `SELECT owner, used FROM usage WHERE app = $1 AND quota = $2
		ORDER BY used DESC LIMIT 1`, []any{app, quota}, &owner, &used)
	if err != nil {
		return "", 0, err
	}
	if used == 0 {
		owner = ""
	}
	return owner, used, nil
}

package presence

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/store"
)

// numberApps makes the table app_numbers, from which the migration that follows
// takes the numbers of apps: they are in etcd, where SQL cannot read them.
//
// Rows of an app that etcd does not hold have no number. They are not dropped:
// it may be the wrong etcd.
func (s *Service) numberApps(ctx context.Context, tx *sql.Tx) error {
	if _, err := store.Exec(ctx, tx, `CREATE TABLE app_numbers (app TEXT PRIMARY KEY, number BIGINT NOT NULL)`); err != nil {
		return err
	}
	keys, err := store.Column[ident.AppKey](ctx, tx, `SELECT app FROM presence_users UNION SELECT app FROM presence_devices
		UNION SELECT app FROM subscribers UNION SELECT app FROM subscriptions ORDER BY app`)
	if err != nil {
		return err
	}
	var unknown []string
	for _, key := range keys {
		app, ok := s.appByKey(key)
		if !ok {
			unknown = append(unknown, string(key))
			continue
		}
		if _, err := store.Exec(ctx, tx, `INSERT INTO app_numbers (app, number) VALUES ($1, $2)`, key, app.Number); err != nil {
			return err
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("the presence database holds rows of apps that etcd does not: %s. "+
			"Start with the etcd that belongs to the database; or, if these apps are gone for good, delete their rows from the tables "+
			"presence_users, presence_devices, subscribers and subscriptions", strings.Join(unknown, ", "))
	}
	return nil
}

package presence

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/store"
)

// maxDevices bounds the devices whose status is kept for a user: those heard of
// last. Names of devices are made up by clients, and some make up a new one for
// every login.
const maxDevices = 32

// statusStore keeps what outlasts connections. Times are Unix milliseconds.
type statusStore struct {
	db *store.DB
}

// statusRow is what is stored of a user.
type statusRow struct {
	ext      string
	lastTime int64
	devices  map[string]deviceRow
}

// deviceRow is what is stored of a device. Of one that has logged in, status
// holds only while it is connected.
type deviceRow struct {
	status   string
	loggedIn bool
	updated  int64
}

// deviceChange is a login or logout of a device.
type deviceChange struct {
	app    int64
	device ident.Device
	online bool
	at     int64
	// enter is false for a logout alone. It changes rows and makes none, so that
	// nothing is left of a user who is deleted while online.
	enter bool
}

const setLastTime = `INSERT INTO users (app, username, last_time) VALUES ($1, $2, $3)
ON CONFLICT (app, username) DO UPDATE SET last_time = excluded.last_time
WHERE users.last_time < excluded.last_time`

const insertDevice = `INSERT INTO devices (app, username, resource, status, logged_in, updated) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (app, username, resource) DO UPDATE SET `

const setDevice = insertDevice + `status = excluded.status, updated = excluded.updated,
logged_in = devices.logged_in OR excluded.logged_in`

const updateLastTime = `UPDATE users SET last_time = $3 WHERE app = $1 AND username = $2 AND last_time < $3`

const updateDevice = `UPDATE devices SET logged_in = $5, updated = $6, status = $4
WHERE app = $1 AND username = $2 AND resource = $3 AND updated <= $6`

// recordDevice does not undo what the device said of itself after the login
// that is recorded only now.
const recordDevice = insertDevice + `logged_in = excluded.logged_in, updated = excluded.updated, status = excluded.status
WHERE devices.updated <= excluded.updated`

const trimDevices = `DELETE FROM devices WHERE app = $1 AND username = $2 AND resource IN (
SELECT resource FROM devices WHERE app = $1 AND username = $2 ORDER BY updated DESC, resource LIMIT 1000 OFFSET $3)`

// record writes logins and logouts, which must be in the order of their users,
// so that two instances that write the same ones do not block each other.
func (st *statusStore) record(ctx context.Context, changes []deviceChange) error {
	return st.db.Write(ctx, func(tx *sql.Tx) error {
		st := make(map[string]*sql.Stmt, 4)
		defer func() {
			for _, s := range st {
				_ = s.Close()
			}
		}()
		exec := func(query string, args ...any) error {
			s := st[query]
			if s == nil {
				var err error
				if s, err = tx.PrepareContext(ctx, query); err != nil {
					return err
				}
				st[query] = s
			}
			_, err := s.ExecContext(ctx, args...)
			return err
		}
		for i, c := range changes {
			user, device, status := setLastTime, recordDevice, statusOffline
			if !c.enter {
				user, device = updateLastTime, updateDevice
			}
			if c.online {
				status = statusOnline
			}
			if err := exec(user, c.app, c.device.ID, c.at); err != nil {
				return err
			}
			if err := exec(device, c.app, c.device.ID, c.device.Resource, status, true, c.at); err != nil {
				return err
			}
			if i+1 < len(changes) && changes[i+1].device.User == c.device.User {
				continue
			}
			if err := exec(trimDevices, c.app, c.device.ID, maxDevices); err != nil {
				return err
			}
		}
		return nil
	})
}

// setStatus writes what a device says of itself. loggedIn of the row is true if
// the device is connected.
func (st *statusStore) setStatus(ctx context.Context, app int64, user ident.UserID, resource string, d deviceRow, ext string) error {
	return st.db.Write(ctx, func(tx *sql.Tx) error {
		if _, err := store.Exec(ctx, tx, `INSERT INTO users (app, username, ext) VALUES ($1, $2, $3)
ON CONFLICT (app, username) DO UPDATE SET ext = excluded.ext`, app, user, ext); err != nil {
			return err
		}
		if _, err := store.Exec(ctx, tx, setDevice, app, user, resource, d.status, d.loggedIn, d.updated); err != nil {
			return err
		}
		_, err := store.Exec(ctx, tx, trimDevices, app, user, maxDevices)
		return err
	})
}

// statuses reads what is stored of users; those of whom nothing is are left
// out.
func (st *statusStore) statuses(ctx context.Context, app int64, users []ident.UserID) (map[ident.UserID]*statusRow, error) {
	out := make(map[ident.UserID]*statusRow, len(users))
	if len(users) == 0 {
		return out, nil
	}
	args := with([]any{app}, users)
	in := store.In(2, len(users))
	row := func(user ident.UserID) *statusRow {
		r := out[user]
		if r == nil {
			r = &statusRow{devices: make(map[string]deviceRow)}
			out[user] = r
		}
		return r
	}
	err := store.Each(ctx, st.db.Read(), `SELECT username, ext, last_time FROM users WHERE app = $1 AND username IN (`+in+`)`, args,
		func(rows store.Scanner) error {
			var user ident.UserID
			var ext string
			var last int64
			if err := rows.Scan(&user, &ext, &last); err != nil {
				return err
			}
			r := row(user)
			r.ext, r.lastTime = ext, last
			return nil
		})
	if err != nil {
		return nil, err
	}
	err = store.Each(ctx, st.db.Read(), `SELECT username, resource, status, logged_in, updated FROM devices WHERE app = $1 AND username IN (`+in+`)`, args,
		func(rows store.Scanner) error {
			var user ident.UserID
			var resource string
			var d deviceRow
			if err := rows.Scan(&user, &resource, &d.status, &d.loggedIn, &d.updated); err != nil {
				return err
			}
			row(user).devices[resource] = d
			return nil
		})
	return out, err
}

// with appends users to the arguments of a statement.
func with(args []any, users []ident.UserID) []any {
	for _, u := range users {
		args = append(args, u)
	}
	return args
}

// subscribe enters or renews subscriptions that end at expires, and makes room
// for them by ending those with the least time left.
func (st *statusStore) subscribe(ctx context.Context, app int64, subscriber ident.UserID, targets []ident.UserID, now, expires int64) error {
	return st.db.Write(ctx, func(tx *sql.Tx) error {
		// The row is a lock: two calls for one subscriber must not both count
		// before either has written.
		if _, err := store.Exec(ctx, tx, `INSERT INTO subscribers (app, username, touched) VALUES ($1, $2, $3)
ON CONFLICT (app, username) DO UPDATE SET touched = excluded.touched`, app, subscriber, now); err != nil {
			return err
		}
		if _, err := store.Exec(ctx, tx, `DELETE FROM subscriptions WHERE app = $1 AND subscriber = $2 AND expires <= $3`,
			app, subscriber, now); err != nil {
			return err
		}
		values := make([]string, len(targets))
		for i := range targets {
			values[i] = fmt.Sprintf("($1, $2, $%d, $3)", 4+i)
		}
		if _, err := store.Exec(ctx, tx, `INSERT INTO subscriptions (app, subscriber, target, expires) VALUES `+strings.Join(values, ", ")+
			` ON CONFLICT (app, subscriber, target) DO UPDATE SET expires = excluded.expires`,
			with([]any{app, subscriber, expires}, targets)...); err != nil {
			return err
		}
		var count int
		if _, err := store.Row(ctx, tx, `SELECT count(*) FROM subscriptions WHERE app = $1 AND subscriber = $2`,
			[]any{app, subscriber}, &count); err != nil {
			return err
		}
		if count <= maxSubscriptions {
			return nil
		}
		_, err := store.Exec(ctx, tx, `DELETE FROM subscriptions WHERE app = $1 AND subscriber = $2 AND target IN (
SELECT target FROM subscriptions WHERE app = $1 AND subscriber = $2 AND target NOT IN (`+store.In(4, len(targets))+`)
ORDER BY expires, target LIMIT $3)`, with([]any{app, subscriber, count - maxSubscriptions}, targets)...)
		return err
	})
}

// unsubscribe ends subscriptions; those that are none are fine.
func (st *statusStore) unsubscribe(ctx context.Context, app int64, subscriber ident.UserID, targets []ident.UserID) error {
	return st.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := store.Exec(ctx, tx, `DELETE FROM subscriptions WHERE app = $1 AND subscriber = $2 AND target IN (`+store.In(3, len(targets))+`)`,
			with([]any{app, subscriber}, targets)...)
		return err
	})
}

// subscription is one of a list of subscriptions: user is the other side.
type subscription struct {
	user    ident.UserID
	expires int64
}

// subscriptions returns a page of what a user is subscribed to, by name, and
// the number of all.
func (st *statusStore) subscriptions(ctx context.Context, app int64, subscriber ident.UserID, now, limit, offset int64) (total int64, page []subscription, err error) {
	_, err = store.Row(ctx, st.db.Read(), `SELECT count(*) FROM subscriptions WHERE app = $1 AND subscriber = $2 AND expires > $3`,
		[]any{app, subscriber, now}, &total)
	if err != nil || offset >= total {
		return total, nil, err
	}
	err = store.Each(ctx, st.db.Read(), `SELECT target, expires FROM subscriptions WHERE app = $1 AND subscriber = $2 AND expires > $3
ORDER BY target LIMIT $4 OFFSET $5`, []any{app, subscriber, now, limit, offset}, scanSubscriptions(&page))
	return total, page, err
}

// subscribers returns the users subscribed to a user, a page of them in the
// order of their names after a name.
func (st *statusStore) subscribers(ctx context.Context, app int64, target, after ident.UserID, now int64, limit int) ([]subscription, error) {
	out := make([]subscription, 0, 64)
	err := store.Each(ctx, st.db.Read(), `SELECT subscriber, expires FROM subscriptions WHERE app = $1 AND target = $2 AND subscriber > $3 AND expires > $4
ORDER BY subscriber LIMIT $5`, []any{app, target, after, now, limit}, scanSubscriptions(&out))
	return out, err
}

func scanSubscriptions(into *[]subscription) func(store.Scanner) error {
	return func(row store.Scanner) error {
		var s subscription
		if err := row.Scan(&s.user, &s.expires); err != nil {
			return err
		}
		*into = append(*into, s)
		return nil
	}
}

// subscribed returns those of the users who have a subscriber.
func (st *statusStore) subscribed(ctx context.Context, app int64, users []ident.UserID, now int64) ([]ident.UserID, error) {
	return store.Column[ident.UserID](ctx, st.db.Read(), `SELECT DISTINCT target FROM subscriptions
WHERE app = $1 AND expires > $2 AND target IN (`+store.In(3, len(users))+`)`, with([]any{app, now}, users)...)
}

// clean deletes up to limit subscriptions that have ended and returns how many.
func (st *statusStore) clean(ctx context.Context, now int64, limit int) (n int64, err error) {
	err = st.db.Write(ctx, func(tx *sql.Tx) error {
		n, err = store.Exec(ctx, tx, `DELETE FROM subscriptions WHERE (app, subscriber, target) IN (
SELECT app, subscriber, target FROM subscriptions WHERE expires <= $1 ORDER BY expires LIMIT $2)`, now, limit)
		return err
	})
	return n, err
}

// forget deletes all that is stored of a user.
func (st *statusStore) forget(ctx context.Context, app int64, user ident.UserID) error {
	return st.db.Write(ctx, func(tx *sql.Tx) error {
		for _, q := range []string{
			`DELETE FROM subscriptions WHERE app = $1 AND subscriber = $2`,
			`DELETE FROM subscriptions WHERE app = $1 AND target = $2`,
			`DELETE FROM subscribers WHERE app = $1 AND username = $2`,
			`DELETE FROM devices WHERE app = $1 AND username = $2`,
			`DELETE FROM users WHERE app = $1 AND username = $2`,
		} {
			if _, err := store.Exec(ctx, tx, q, app, user); err != nil {
				return err
			}
		}
		return nil
	})
}

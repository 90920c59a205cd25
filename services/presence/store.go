package presence

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

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

// login or logout of a device.
type deviceChange struct {
	app, user, resource string
	online              bool
	at                  int64
	// enter is false for a logout alone. It changes rows and makes none, so that
	// nothing is left of a user who is deleted while online.
	enter bool
}

const setLastTime = `INSERT INTO presence_users (app, username, last_time) VALUES ($1, $2, $3)
ON CONFLICT (app, username) DO UPDATE SET last_time = excluded.last_time
WHERE presence_users.last_time < excluded.last_time`

const insertDevice = `INSERT INTO presence_devices (app, username, resource, status, logged_in, updated) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (app, username, resource) DO UPDATE SET `

const setDevice = insertDevice + `status = excluded.status, updated = excluded.updated,
logged_in = presence_devices.logged_in OR excluded.logged_in`

const updateLastTime = `UPDATE presence_users SET last_time = $3 WHERE app = $1 AND username = $2 AND last_time < $3`

const updateDevice = `UPDATE presence_devices SET logged_in = $5, updated = $6, status = $4
WHERE app = $1 AND username = $2 AND resource = $3 AND updated <= $6`

// recordDevice does not undo what the device said of itself after the login
// that is recorded only now.
const recordDevice = insertDevice + `logged_in = excluded.logged_in, updated = excluded.updated, status = excluded.status
WHERE presence_devices.updated <= excluded.updated`

const trimDevices = `DELETE FROM presence_devices WHERE app = $1 AND username = $2 AND resource IN (
SELECT resource FROM presence_devices WHERE app = $1 AND username = $2 ORDER BY updated DESC, resource LIMIT 1000 OFFSET $3)`

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
			if err := exec(user, c.app, c.user, c.at); err != nil {
				return err
			}
			if err := exec(device, c.app, c.user, c.resource, status, true, c.at); err != nil {
				return err
			}
			if i+1 < len(changes) && changes[i+1].app == c.app && changes[i+1].user == c.user {
				continue
			}
			if err := exec(trimDevices, c.app, c.user, maxDevices); err != nil {
				return err
			}
		}
		return nil
	})
}

// setStatus writes what a device says of itself.
func (st *statusStore) setStatus(ctx context.Context, app, user, resource, status, ext string, connected bool, at int64) error {
	return st.db.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO presence_users (app, username, ext) VALUES ($1, $2, $3)
ON CONFLICT (app, username) DO UPDATE SET ext = excluded.ext`, app, user, ext); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, setDevice, app, user, resource, status, connected, at); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, trimDevices, app, user, maxDevices)
		return err
	})
}

// statuses reads what is stored of users; those of whom nothing is are left
// out.
func (st *statusStore) statuses(ctx context.Context, app string, users []string) (map[string]*statusRow, error) {
	out := make(map[string]*statusRow, len(users))
	if len(users) == 0 {
		return out, nil
	}
	args := make([]any, 0, len(users)+1)
	args = append(args, app)
	for _, u := range users {
		args = append(args, u)
	}
	in := store.In(2, len(users))
	row := func(user string) *statusRow {
		r := out[user]
		if r == nil {
			r = &statusRow{devices: make(map[string]deviceRow)}
			out[user] = r
		}
		return r
	}
	err := st.each(ctx, `SELECT username, ext, last_time FROM presence_users WHERE app = $1 AND username IN (`+in+`)`, args,
		func(rows *sql.Rows) error {
			var user, ext string
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
	err = st.each(ctx, `SELECT username, resource, status, logged_in, updated FROM presence_devices WHERE app = $1 AND username IN (`+in+`)`, args,
		func(rows *sql.Rows) error {
			var user, resource string
			var d deviceRow
			if err := rows.Scan(&user, &resource, &d.status, &d.loggedIn, &d.updated); err != nil {
				return err
			}
			row(user).devices[resource] = d
			return nil
		})
	return out, err
}

func (st *statusStore) each(ctx context.Context, query string, args []any, f func(*sql.Rows) error) error {
	rows, err := st.db.Read().QueryContext(ctx, query, args...)
	if err != nil {
		return store.Translate(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := f(rows); err != nil {
			return store.Translate(err)
		}
	}
	return store.Translate(rows.Err())
}

// subscribe enters or renews subscriptions that end at expires, and makes room
// for them by ending those with the least time left.
func (st *statusStore) subscribe(ctx context.Context, app, subscriber string, targets []string, now, expires int64) error {
	return st.db.Write(ctx, func(tx *sql.Tx) error {
		// The row is a lock: two calls for one subscriber must not both count
		// before either has written.
		if _, err := tx.ExecContext(ctx, `INSERT INTO subscribers (app, username, touched) VALUES ($1, $2, $3)
ON CONFLICT (app, username) DO UPDATE SET touched = excluded.touched`, app, subscriber, now); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM subscriptions WHERE app = $1 AND subscriber = $2 AND expires <= $3`,
			app, subscriber, now); err != nil {
			return err
		}
		values := make([]string, len(targets))
		args := []any{app, subscriber, expires}
		for i, target := range targets {
			values[i] = fmt.Sprintf("($1, $2, $%d, $3)", len(args)+1)
			args = append(args, target)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO subscriptions (app, subscriber, target, expires) VALUES `+strings.Join(values, ", ")+
			` ON CONFLICT (app, subscriber, target) DO UPDATE SET expires = excluded.expires`, args...); err != nil {
			return err
		}
		var count int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM subscriptions WHERE app = $1 AND subscriber = $2`, app, subscriber).Scan(&count); err != nil {
			return err
		}
		if count <= maxSubscriptions {
			return nil
		}
		args = []any{app, subscriber, count - maxSubscriptions}
		for _, target := range targets {
			args = append(args, target)
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM subscriptions WHERE app = $1 AND subscriber = $2 AND target IN (
SELECT target FROM subscriptions WHERE app = $1 AND subscriber = $2 AND target NOT IN (`+store.In(4, len(targets))+`)
ORDER BY expires, target LIMIT $3)`, args...)
		return err
	})
}

// unsubscribe ends subscriptions; those that are none are fine.
func (st *statusStore) unsubscribe(ctx context.Context, app, subscriber string, targets []string) error {
	args := []any{app, subscriber}
	for _, target := range targets {
		args = append(args, target)
	}
	return st.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM subscriptions WHERE app = $1 AND subscriber = $2 AND target IN (`+store.In(3, len(targets))+`)`, args...)
		return err
	})
}

// subscription is one of a list of subscriptions: user is the other side.
type subscription struct {
	user    string
	expires int64
}

// subscriptions lists what a user is subscribed to, by name, and counts all of
// it.
func (st *statusStore) subscriptions(ctx context.Context, app, subscriber string, now int64, limit, offset int64) (int64, []subscription, error) {
	var total int64
	err := st.db.Read().QueryRowContext(ctx, `SELECT count(*) FROM subscriptions WHERE app = $1 AND subscriber = $2 AND expires > $3`,
		app, subscriber, now).Scan(&total)
	if err != nil {
		return 0, nil, store.Translate(err)
	}
	if offset >= total {
		return total, nil, nil
	}
	var out []subscription
	err = st.each(ctx, `SELECT target, expires FROM subscriptions WHERE app = $1 AND subscriber = $2 AND expires > $3
ORDER BY target LIMIT $4 OFFSET $5`, []any{app, subscriber, now, limit, offset}, scanSubscriptions(&out))
	return total, out, err
}

// subscribers gives who is subscribed to a user, a page of them in the order of
// their names after a name.
func (st *statusStore) subscribers(ctx context.Context, app, target, after string, now int64, limit int) ([]subscription, error) {
	out := make([]subscription, 0, 64)
	err := st.each(ctx, `SELECT subscriber, expires FROM subscriptions WHERE app = $1 AND target = $2 AND subscriber > $3 AND expires > $4
ORDER BY subscriber LIMIT $5`, []any{app, target, after, now, limit}, scanSubscriptions(&out))
	return out, err
}

// subscribed gives those of the users whom anybody is subscribed to.
func (st *statusStore) subscribed(ctx context.Context, app string, users []string, now int64) ([]string, error) {
	args := []any{app, now}
	for _, u := range users {
		args = append(args, u)
	}
	var out []string
	err := st.each(ctx, `SELECT DISTINCT target FROM subscriptions WHERE app = $1 AND expires > $2 AND target IN (`+store.In(3, len(users))+`)`, args,
		func(rows *sql.Rows) error {
			var user string
			if err := rows.Scan(&user); err != nil {
				return err
			}
			out = append(out, user)
			return nil
		})
	return out, err
}

func scanSubscriptions(into *[]subscription) func(*sql.Rows) error {
	return func(rows *sql.Rows) error {
		var s subscription
		if err := rows.Scan(&s.user, &s.expires); err != nil {
			return err
		}
		*into = append(*into, s)
		return nil
	}
}

// clean deletes up to limit subscriptions that have ended and says how many.
func (st *statusStore) clean(ctx context.Context, now int64, limit int) (int64, error) {
	var n int64
	err := st.db.Write(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `DELETE FROM subscriptions WHERE (app, subscriber, target) IN (
SELECT app, subscriber, target FROM subscriptions WHERE expires <= $1 ORDER BY expires LIMIT $2)`, now, limit)
		if err != nil {
			return err
		}
		n, err = r.RowsAffected()
		return err
	})
	return n, err
}

// forget deletes all that is stored of a user.
func (st *statusStore) forget(ctx context.Context, app, user string) error {
	return st.db.Write(ctx, func(tx *sql.Tx) error {
		for _, q := range []string{
			`DELETE FROM subscriptions WHERE app = $1 AND subscriber = $2`,
			`DELETE FROM subscriptions WHERE app = $1 AND target = $2`,
			`DELETE FROM subscribers WHERE app = $1 AND username = $2`,
			`DELETE FROM presence_devices WHERE app = $1 AND username = $2`,
			`DELETE FROM presence_users WHERE app = $1 AND username = $2`,
		} {
			if _, err := tx.ExecContext(ctx, q, app, user); err != nil {
				return err
			}
		}
		return nil
	})
}

// distinct gives the values of a list without repetitions, in order.
func distinct(in []string) []string {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

package presence_test

import (
	"database/sql"
	"fmt"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
	"github.com/chappe-im/chappe/services/presence"
)

// firstSchema is the schema as it was when rows were keyed by "org#app".
func firstSchema(t *testing.T) fstest.MapFS {
	t.Helper()
	out := fstest.MapFS{}
	for _, d := range []string{"sqlite", "postgres"} {
		path := d + "/00001_presence.sql"
		data, err := os.ReadFile("migrations/" + path)
		require.NoError(t, err)
		out[path] = &fstest.MapFile{Data: data}
	}
	return out
}

// fill enters what two apps of an old installation have stored: 50 subscribers
// of amelia each, and a device for each of them.
func fill(t *testing.T, db *store.DB, expires int64) {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, db.Write(ctx, func(tx *sql.Tx) error {
		for i, key := range []string{org + "#" + app, org + "#other"} {
			for _, q := range []struct {
				query string
				args  []any
			}{
				{`INSERT INTO presence_users (app, username, ext, last_time) VALUES ($1, $2, $3, $4)`, []any{key, "amelia", fmt.Sprint("in app ", i), int64(1_700_000_000_000 + i*1000)}},
				{`INSERT INTO presence_devices (app, username, resource, status, logged_in, updated) VALUES ($1, $2, $3, $4, $5, $6)`, []any{key, "amelia", "web_1", fmt.Sprint(100 + i), false, int64(5)}},
				{`INSERT INTO presence_devices (app, username, resource, status, logged_in, updated) VALUES ($1, $2, $3, $4, $5, $6)`, []any{key, "amelia", "ios_1", "1", true, int64(6)}},
			} {
				if _, err := store.Exec(ctx, tx, q.query, q.args...); err != nil {
					return err
				}
			}
			for n := range 50 {
				subscriber := fmt.Sprint("user", n)
				if _, err := store.Exec(ctx, tx, `INSERT INTO subscribers (app, username, touched) VALUES ($1, $2, $3)`, key, subscriber, 1); err != nil {
					return err
				}
				if _, err := store.Exec(ctx, tx, `INSERT INTO subscriptions (app, subscriber, target, expires) VALUES ($1, $2, $3, $4)`,
					key, subscriber, "amelia", expires+int64(i)); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

func count(t *testing.T, db *store.DB, table string) (n int) {
	t.Helper()
	_, err := store.Row(t.Context(), db.Read(), `SELECT count(*) FROM `+table, nil, &n)
	require.NoError(t, err)
	return n
}

// What an installation stored under the texts of its apps is there under their
// numbers after the upgrade.
func TestUpgradeFromAppTexts(t *testing.T) {
	t.Parallel()
	testkit.EachDatabase(t, "presence", firstSchema(t), func(t *testing.T, db *store.DB) {
		expires := time.Now().Add(time.Hour).UnixMilli()
		fill(t, db, expires)
		b := newBed(t, db)
		b.accounts.users["user7"] = "6c1f2e40-7a55-11ee-9c3b-aaaaaaaaaaaa"
		n := b.start(t)
		for i, name := range []string{app, "other"} {
			got, err := n.presence.GetPresence(t.Context(), &presencev1.GetPresenceRequest{
				Org: org, App: name, Username: "amelia", Usernames: []string{"amelia"},
			})
			require.NoError(t, err)
			p := got.GetResult()[0]
			require.Equal(t, fmt.Sprint("in app ", i), p.GetExt())
			require.Equal(t, int64(1_700_000_000+i), p.GetLastTime())
			require.Equal(t, map[string]string{"web_1": fmt.Sprint(100 + i), "ios_1": "0"}, p.GetStatus())

			size := int32(500)
			list, err := n.presence.ListPresenceSubscriptions(t.Context(), &presencev1.ListPresenceSubscriptionsRequest{
				Org: org, App: name, Username: "user7", PageSize: &size,
			})
			require.NoError(t, err)
			require.Equal(t, int64(1), list.GetTotal())
			require.Equal(t, "amelia", list.GetSubscriptions()[0].GetUid())
			require.Equal(t, (expires+int64(i))/1000, list.GetSubscriptions()[0].GetExpiry())
		}
		for table, rows := range map[string]int{"users": 2, "devices": 4, "subscribers": 100, "subscriptions": 100} {
			require.Equal(t, rows, count(t, db, table), table)
		}
		for _, gone := range []string{"presence_users", "presence_devices", "old_subscribers", "old_subscriptions", "app_numbers"} {
			_, err := store.Row(t.Context(), db.Read(), `SELECT 1 FROM `+gone, nil, new(int))
			require.Error(t, err, gone)
		}
		// A second start finds nothing to do.
		n.stop(t)
		b.start(t)
		require.Equal(t, 100, count(t, db, "subscriptions"))
	})
}

// An etcd that lacks an app may be the wrong one: the upgrade says so and
// leaves everything as it was, until the right one is there.
func TestUpgradeRefusesAppsThatEtcdLacks(t *testing.T) {
	t.Parallel()
	testkit.EachDatabase(t, "presence", firstSchema(t), func(t *testing.T, db *store.DB) {
		fill(t, db, time.Now().Add(time.Hour).UnixMilli())
		require.NoError(t, db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := store.Exec(t.Context(), tx, `INSERT INTO subscribers (app, username, touched) VALUES ($1, $2, $3)`, org+"#none", "x", 1)
			return err
		}))
		b := newBed(t, db)
		s, err := presence.New(presence.DefaultConfig(), presence.Deps{
			DB: db, NATS: b.nats, Etcd: b.etcd, Apps: b.apps, Logger: testkit.Logger(t), Registerer: prometheus.NewRegistry(), Now: b.clock.now,
		})
		require.NoError(t, err)
		require.ErrorContains(t, s.Start(t.Context()), "acme#none")
		require.Equal(t, 101, count(t, db, "subscribers"))
		require.Equal(t, 4, count(t, db, "presence_devices"))

		require.NoError(t, db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := store.Exec(t.Context(), tx, `DELETE FROM subscribers WHERE app = $1`, org+"#none")
			return err
		}))
		b.start(t)
		require.Equal(t, 100, count(t, db, "subscribers"))
	})
}

func TestNewSchemaIsNumbered(t *testing.T) {
	eachNode(t, func(t *testing.T, n *node) {
		require.NoError(t, n.set(t, "amelia", "web_1", "7", "x"))
		var number int64
		found, err := store.Row(t.Context(), n.db.Read(), `SELECT app FROM devices WHERE username = 'amelia'`, nil, &number)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, numberOf(app), number)
	})
}

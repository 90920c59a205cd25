package messaging

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
)

// TestConfirmationsOfTwoGatewaysDoNotLockEachOtherOut hands the same positions
// on from two sides at once, each in its own order, and asks PostgreSQL how
// often it had to end one of two that waited for each other.
func TestConfirmationsOfTwoGatewaysDoNotLockEachOtherOut(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	if url == "" {
		t.Skip("no PostgreSQL server: set CHAPPE_TEST_POSTGRES or install one")
	}
	ctx := t.Context()
	connect := func() *store.DB {
		db, err := store.Open(ctx, store.Config{URL: url, Service: "messaging"})
		require.NoError(t, err)
		return db
	}
	asked := connect()
	t.Cleanup(func() { _ = asked.Close() })
	migrations, err := fs.Sub(migrationFiles, "migrations")
	require.NoError(t, err)
	require.NoError(t, asked.Migrate(ctx, migrations))

	db := connect()
	d := &deviceStore{db: db, now: time.Now}
	require.NoError(t, d.open(ctx, 1, "omar", "web"))
	const conversations, rounds = 50, 15
	var forth []position
	require.NoError(t, db.Write(ctx, func(tx *sql.Tx) error {
		for i := range conversations {
			p := position{app: 1, user: "omar", resource: "web", conversation: fmt.Sprint("c", i)}
			forth = append(forth, p)
			if _, err := tx.ExecContext(ctx, `INSERT INTO conversation (app, name, kind, floor) VALUES (1, $1, 1, $2)`, p.conversation, 2*rounds); err != nil {
				return err
			}
		}
		return nil
	}))
	back := slices.Clone(forth)
	slices.Reverse(back)
	var confirming sync.WaitGroup
	for n, positions := range [][]position{forth, back} {
		confirming.Go(func() {
			for i := range rounds {
				all := slices.Clone(positions)
				for j := range all {
					all[j].seq = int64(2*i + n + 1)
				}
				early, err := d.confirm(context.WithoutCancel(ctx), all)
				if err != nil || len(early) > 0 {
					t.Errorf("round %d: early %v, error %v", i, early, err)
					return
				}
			}
		})
	}
	confirming.Wait()
	require.NoError(t, db.Close())

	// A connection's figures are complete when it has ended.
	var lockedOut int
	require.Eventually(t, func() bool {
		var connections int
		err := asked.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state IS NOT NULL`).Scan(&connections)
		return err == nil && connections <= 1
	}, 10*time.Second, 20*time.Millisecond)
	require.NoError(t, asked.Read().QueryRowContext(ctx, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`).Scan(&lockedOut))
	require.Zero(t, lockedOut)

	var lowest int64
	require.NoError(t, asked.Read().QueryRowContext(ctx, `SELECT MIN(seq) FROM device_position`).Scan(&lowest))
	require.EqualValues(t, 2*rounds, lowest)
}

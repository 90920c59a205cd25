package history

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
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
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
	d := NewDevices(db, time.Now)
	require.NoError(t, d.Open(ctx, 1, "omar", "web", 0))
	const conversations, rounds = 50, 15
	var forth []Confirmed
	require.NoError(t, db.Write(ctx, func(tx *sql.Tx) error {
		for i := range conversations {
			p := Confirmed{App: 1, User: "omar", Resource: "web", Conversation: ident.ConversationID(fmt.Sprint("c", i))}
			forth = append(forth, p)
			if _, err := tx.ExecContext(ctx, `INSERT INTO conversations (app, name, kind, last_seq) VALUES (1, $1, 1, $2)`, p.Conversation, 2*rounds); err != nil {
				return err
			}
		}
		return nil
	}))
	back := slices.Clone(forth)
	slices.Reverse(back)
	var confirming sync.WaitGroup
	for n, positions := range [][]Confirmed{forth, back} {
		confirming.Go(func() {
			for i := range rounds {
				all := slices.Clone(positions)
				for j := range all {
					all[j].Seq = int64(2*i + n + 1)
				}
				early, err := d.Confirm(context.WithoutCancel(ctx), all)
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
	require.NoError(t, asked.Read().QueryRowContext(ctx, `SELECT MIN(seq) FROM device_positions`).Scan(&lowest))
	require.EqualValues(t, 2*rounds, lowest)
}

// TestPositionsOfAnEarlierEpoch hands on what a device confirmed before the log
// began anew: entries that were lost with the log gave their places to others,
// which the device has not seen.
func TestPositionsOfAnEarlierEpoch(t *testing.T) {
	migrations, err := fs.Sub(migrationFiles, "migrations")
	require.NoError(t, err)
	testkit.EachDatabase(t, "messaging", migrations, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		d := NewDevices(db, time.Now)
		// Epoch 4 pushed more than 203 entries, of which 3 were archived; the others
		// are of epoch 5.
		const older, newer, last = 4, 5, 203
		require.NoError(t, db.Write(ctx, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, `INSERT INTO log_positions (partition_no, stream_seq, epoch) VALUES (2, 900, $1)`, newer); err != nil {
				return err
			}
			var conversation int64
			if err := tx.QueryRowContext(ctx, `INSERT INTO conversations (app, name, kind) VALUES (1, 'lena~omar', 1) RETURNING id`).Scan(&conversation); err != nil {
				return err
			}
			for seq := 1; seq <= last; seq++ {
				epoch := int64(newer)
				if seq <= 3 {
					epoch = older
				}
				data, err := proto.Marshal(&busv1.Delivery{LogPlace: bus.LogPlace(epoch, uint64(seq))})
				if err != nil {
					return err
				}
				if _, err := tx.ExecContext(ctx, `INSERT INTO messages (id, app, conversation_id, seq, type, flags, sender, data) VALUES ($1, 1, $2, $3, 1, 0, 'lena', $4)`,
					seq, conversation, seq, data); err != nil {
					return err
				}
			}
			return nil
		}))
		for i, x := range []struct {
			epoch, confirmed int64
			stored           int64
			early            bool
		}{
			{older, 2, 2, false},
			{older, 3, 3, false},
			{older, 4, 3, false},
			{older, last, 3, false},
			{older, last + 50, 3, false}, // nothing of it will ever be archived
			{older - 1, last, 0, false},
			{newer, 4, 4, false},
			{newer, last, last, false},
			{newer, last + 50, last, true},
			{newer + 1, last + 50, last, false}, // the archive was put back to an older one
		} {
			resource := fmt.Sprint("web", i)
			require.NoError(t, d.Open(ctx, 1, "omar", resource, 0))
			early, err := d.Confirm(ctx, []Confirmed{{
				App: 1, User: "omar", Resource: resource, Conversation: "lena~omar", Seq: x.confirmed, Epoch: x.epoch, Partition: 2,
			}})
			require.NoError(t, err)
			require.Equal(t, x.early, len(early) == 1, "%+v", x)
			var stored int64
			err = db.Read().QueryRowContext(ctx, `SELECT seq FROM device_positions WHERE resource = $1`, resource).Scan(&stored)
			if x.stored == 0 {
				require.ErrorIs(t, err, sql.ErrNoRows, "%+v", x)
				continue
			}
			require.NoError(t, err, "%+v", x)
			require.Equal(t, x.stored, stored, "%+v", x)
			require.NoError(t, db.Write(ctx, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, `DELETE FROM device_positions`) // the next device shall not begin there
				return err
			}))
		}
	})
}

package store_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/store"
)

// TestReclaim fills a file, deletes what is in it, and has the space given
// back, in new files and in those of older versions.
func TestReclaim(t *testing.T) {
	t.Parallel()
	for name, older := range map[string]bool{"a new file": false, "a file of an older version": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, dir := t.Context(), t.TempDir()
			path := filepath.Join(dir, "kit.db")
			if older {
				raw, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)")
				require.NoError(t, err)
				_, err = raw.ExecContext(ctx, `CREATE TABLE was (a INTEGER)`)
				require.NoError(t, err)
				require.NoError(t, raw.Close())
			}
			db, err := store.Open(ctx, store.Config{URL: "sqlite:" + dir, Service: "kit"})
			require.NoError(t, err)
			t.Cleanup(func() { _ = db.Close() })
			require.NoError(t, db.Write(ctx, func(tx *sql.Tx) error {
				if _, err := tx.ExecContext(ctx, `CREATE TABLE x (id INTEGER PRIMARY KEY, data BLOB)`); err != nil {
					return err
				}
				for i := range 5000 {
					if _, err := tx.ExecContext(ctx, `INSERT INTO x (id, data) VALUES ($1, $2)`, i, make([]byte, 4000)); err != nil {
						return err
					}
				}
				return nil
			}))
			require.NoError(t, db.Write(ctx, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, `DELETE FROM x WHERE id > 10`)
				return err
			}))
			steps := 0
			for more := true; more; steps++ {
				more, err = db.Reclaim(ctx)
				require.NoError(t, err)
			}
			require.Greater(t, steps, 5, "in steps")
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Less(t, info.Size(), int64(6<<20), "of 20 MB")
			var n int
			require.NoError(t, db.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM x`).Scan(&n))
			require.Equal(t, 11, n)
			more, err := db.Reclaim(ctx)
			require.NoError(t, err)
			require.False(t, more, "nothing is left to give back")
		})
	}
}

package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
)

// table makes a table of users 1 to n.
func table(t testing.TB, db *store.DB, n int) {
	t.Helper()
	require.NoError(t, db.Write(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(t.Context(), `CREATE TABLE person (id BIGINT PRIMARY KEY, name TEXT NOT NULL)`); err != nil {
			return err
		}
		for i := 1; i <= n; i++ {
			if _, err := tx.ExecContext(t.Context(), `INSERT INTO person (id, name) VALUES ($1, $2)`, i, fmt.Sprint("n", i)); err != nil {
				return err
			}
		}
		return nil
	}))
}

func nameOf(ctx context.Context, q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, id int,
) (name string, err error) {
	err = q.QueryRowContext(ctx, `SELECT name FROM person WHERE id = $1`, id).Scan(&name)
	return name, err
}

func TestStatementsComeAgain(t *testing.T) {
	testkit.EachDatabase(t, "kept", nil, func(t *testing.T, db *store.DB) {
		table(t, db, 3)
		ctx := t.Context()
		for range 3 {
			for i := 1; i <= 3; i++ {
				name, err := nameOf(ctx, db.Read(), i)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint("n", i), name)
			}
			_, err := nameOf(ctx, db.Read(), 4)
			require.ErrorIs(t, err, sql.ErrNoRows)
		}
		// A statement that failed works again, in and outside of transactions.
		for range 3 {
			err := db.Write(ctx, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, `INSERT INTO person (id, name) VALUES ($1, $2)`, 1, "again")
				require.True(t, store.IsUnique(err), "%v", err)
				return errors.New("no")
			})
			require.Error(t, err)
			var id int
			require.NoError(t, db.Write(ctx, func(tx *sql.Tx) error {
				return tx.QueryRowContext(ctx, `INSERT INTO person (id, name) VALUES ($1, $2)
					ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING id`, 3, "n3").Scan(&id)
			}))
			require.Equal(t, 3, id)
		}
	})
}

// TestPreparedStatements uses statements that somebody prepared, twice the same
// in one transaction.
func TestPreparedStatements(t *testing.T) {
	testkit.EachDatabase(t, "kept", nil, func(t *testing.T, db *store.DB) {
		table(t, db, 2)
		ctx := t.Context()
		kept, err := db.Prepare(ctx, `UPDATE person SET name = $1 WHERE id = $2`)
		require.NoError(t, err)
		_, err = db.Prepare(ctx, `UPDATE nobody SET name = $1`)
		require.Error(t, err)
		for range 3 {
			require.NoError(t, db.Write(ctx, func(tx *sql.Tx) error {
				first, err := tx.PrepareContext(ctx, `SELECT name FROM person WHERE id = $1`)
				if err != nil {
					return err
				}
				second, err := tx.PrepareContext(ctx, `SELECT name FROM person WHERE id = $1`)
				if err != nil {
					return err
				}
				var a, b string
				require.NoError(t, first.QueryRowContext(ctx, 1).Scan(&a))
				require.NoError(t, first.Close())
				require.NoError(t, second.QueryRowContext(ctx, 2).Scan(&b))
				require.Equal(t, "n1n2", a+b)
				r, err := tx.StmtContext(ctx, kept).ExecContext(ctx, "n1", 1)
				require.NoError(t, err)
				n, err := r.RowsAffected()
				require.EqualValues(t, 1, n)
				return err
			}))
		}
		require.NoError(t, kept.Close())
		name, err := nameOf(ctx, db.Read(), 1)
		require.NoError(t, err)
		require.Equal(t, "n1", name)
	})
}

// TestStatementWithinItself runs a statement while its own rows are open.
func TestStatementWithinItself(t *testing.T) {
	t.Parallel()
	db := testkit.SQLite(t, "kept", nil)
	table(t, db, 3)
	ctx := t.Context()
	const query = `SELECT id FROM person WHERE id > $1 ORDER BY id`
	var walk func(tx *sql.Tx, from int) (n int, err error)
	walk = func(tx *sql.Tx, from int) (n int, err error) {
		rows, err := tx.QueryContext(ctx, query, from)
		if err != nil {
			return 0, err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var id int
			if err := rows.Scan(&id); err != nil {
				return 0, err
			}
			below, err := walk(tx, id)
			if err != nil {
				return 0, err
			}
			n += 1 + below
		}
		return n, rows.Err()
	}
	for range 3 {
		require.NoError(t, db.Write(ctx, func(tx *sql.Tx) error {
			n, err := walk(tx, 0)
			require.Equal(t, 7, n, "the subsets of three that are not empty")
			return err
		}))
	}
}

// TestStatementsOutliveTheSchema changes a table under statements that other
// connections keep.
func TestStatementsOutliveTheSchema(t *testing.T) {
	t.Parallel()
	db := testkit.SQLite(t, "kept", nil)
	table(t, db, 1)
	ctx := t.Context()
	columns := func() []string {
		rows, err := db.Read().QueryContext(ctx, `SELECT * FROM person`)
		require.NoError(t, err)
		defer func() { _ = rows.Close() }()
		require.True(t, rows.Next())
		names, err := rows.Columns()
		require.NoError(t, err)
		values := make([]any, len(names))
		for i := range values {
			values[i] = new(any)
		}
		require.NoError(t, rows.Scan(values...))
		require.NoError(t, rows.Err())
		return names
	}
	alter := func(ddl string) {
		require.NoError(t, db.Write(ctx, func(tx *sql.Tx) error { _, err := tx.ExecContext(ctx, ddl); return err }))
	}
	require.Equal(t, []string{"id", "name"}, columns())
	alter(`ALTER TABLE person ADD COLUMN age BIGINT NOT NULL DEFAULT 7`)
	require.Equal(t, []string{"id", "name", "age"}, columns())
	alter(`DROP TABLE person`)
	_, err := nameOf(ctx, db.Read(), 1)
	require.ErrorContains(t, err, "no such table")
	alter(`CREATE TABLE person (name TEXT NOT NULL, id BIGINT PRIMARY KEY)`)
	alter(`INSERT INTO person (name, id) VALUES ('new', 1)`)
	require.Equal(t, []string{"name", "id"}, columns())
	name, err := nameOf(ctx, db.Read(), 1)
	require.NoError(t, err)
	require.Equal(t, "new", name)
}

// TestManyStatements uses more texts than are kept, some too long to be.
func TestManyStatements(t *testing.T) {
	t.Parallel()
	db := testkit.SQLite(t, "kept", nil)
	table(t, db, 1)
	ctx := t.Context()
	rows, err := db.Read().QueryContext(ctx, `SELECT id FROM person`)
	require.NoError(t, err)
	require.True(t, rows.Next())
	for round := range 2 {
		for n := range 400 {
			ids := make([]any, n+1)
			for i := range ids {
				ids[i] = i + 1
			}
			var found int
			err := db.Write(ctx, func(tx *sql.Tx) error {
				return tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM person WHERE id IN (`+store.In(1, len(ids))+`)`, ids...).Scan(&found)
			})
			require.NoError(t, err, "round %d, %d parameters", round, n)
			require.Equal(t, 1, found)
		}
	}
	require.False(t, rows.Next())
	require.NoError(t, rows.Err())
	require.NoError(t, rows.Close())
}

// TestPushedOutWhileOpen pushes a statement out while its rows are read.
func TestPushedOutWhileOpen(t *testing.T) {
	t.Parallel()
	db := testkit.SQLite(t, "kept", nil)
	table(t, db, 3)
	ctx := t.Context()
	require.NoError(t, db.Write(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT id FROM person ORDER BY id`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		sum := 0
		for rows.Next() {
			var id, one int
			if err := rows.Scan(&id); err != nil {
				return err
			}
			sum += id
			for i := range 200 {
				if err := tx.QueryRowContext(ctx, fmt.Sprintf("SELECT %d", i+200*id)).Scan(&one); err != nil {
					return err
				}
				require.Equal(t, i+200*id, one)
			}
		}
		require.Equal(t, 6, sum)
		return rows.Err()
	}))
}

// TestCanceledStatement ends a statement before its time; the text works again
// afterwards.
func TestCanceledStatement(t *testing.T) {
	t.Parallel()
	db := testkit.SQLite(t, "kept", nil)
	table(t, db, 1)
	const endless = `WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < $1) SELECT COUNT(*) FROM r`
	count := func(ctx context.Context, limit int64) (n int64, err error) {
		err = db.Read().QueryRowContext(ctx, endless, limit).Scan(&n)
		return n, err
	}
	n, err := count(t.Context(), 5)
	require.NoError(t, err)
	require.EqualValues(t, 5, n)
	ctx, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	_, err = count(ctx, 1<<60)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	running, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := count(running, 1<<60)
		ended <- err
	}()
	stop()
	require.ErrorIs(t, <-ended, context.Canceled)
	n, err = count(t.Context(), 5)
	require.NoError(t, err)
	require.EqualValues(t, 5, n)
}

func TestStatementsInParallel(t *testing.T) {
	t.Parallel()
	db := testkit.SQLite(t, "kept", nil)
	table(t, db, 8)
	ctx := t.Context()
	var wg sync.WaitGroup
	failed := make(chan error, 16)
	for w := range 16 {
		wg.Go(func() {
			for i := range 50 {
				id := (w+i)%8 + 1
				if i%10 == 0 {
					if err := db.Write(ctx, func(tx *sql.Tx) error {
						_, err := tx.ExecContext(ctx, `UPDATE person SET name = name WHERE id = $1`, id)
						return err
					}); err != nil {
						failed <- err
						return
					}
				}
				if name, err := nameOf(ctx, db.Read(), id); err != nil || name != fmt.Sprint("n", id) {
					failed <- fmt.Errorf("user %d is %q: %w", id, name, err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		require.NoError(t, err)
	}
}

// BenchmarkStatement reads one row by a text that is kept and by one that is
// not, because it is too long, and writes one in a transaction.
func BenchmarkStatement(b *testing.B) {
	long := strings.Repeat(" ", 1024)
	for _, way := range []struct{ name, suffix string }{{"kept", ""}, {"prepared each time", long}} {
		b.Run("read, "+way.name, func(b *testing.B) {
			db := testkit.SQLite(b, "kept", nil)
			table(b, db, 100)
			query := `SELECT name, id, 1, 2, 3 FROM person WHERE id = $1 AND name <> $2` + way.suffix
			for b.Loop() {
				var name string
				var id, x, y, z int
				require.NoError(b, db.Read().QueryRowContext(b.Context(), query, 50, "").Scan(&name, &id, &x, &y, &z))
			}
		})
		b.Run("write, "+way.name, func(b *testing.B) {
			db := testkit.SQLite(b, "kept", nil)
			table(b, db, 100)
			query := `UPDATE person SET name = $1 WHERE id = $2` + way.suffix
			for b.Loop() {
				require.NoError(b, db.Write(b.Context(), func(tx *sql.Tx) error {
					_, err := tx.ExecContext(b.Context(), query, "x", 50)
					return err
				}))
			}
		})
	}
}

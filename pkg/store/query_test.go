package store_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
)

func TestReadsAndChanges(t *testing.T) {
	t.Parallel()
	testkit.EachDatabase(t, "query", nil, func(t *testing.T, db *store.DB) {
		table(t, db, 3)
		ctx := t.Context()
		names, err := store.Column[string](ctx, db.Read(), `SELECT name FROM person WHERE id > $1 ORDER BY id`, 1)
		require.NoError(t, err)
		require.Equal(t, []string{"n2", "n3"}, names)

		var id int
		var name string
		found, err := store.Row(ctx, db.Read(), `SELECT id, name FROM person ORDER BY id DESC`, nil, &id, &name)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, 3, id)
		found, err = store.Row(ctx, db.Read(), `SELECT id FROM person WHERE id = $1`, []any{9}, &id)
		require.NoError(t, err)
		require.False(t, found)

		var changed int64
		require.NoError(t, db.Write(ctx, func(tx *sql.Tx) (err error) {
			changed, err = store.Exec(ctx, tx, `UPDATE person SET name = $1 WHERE id < $2`, "n", 3)
			return err
		}))
		require.Equal(t, int64(2), changed)

		// What f returns comes back, and no further row is read.
		calls, stop := 0, errs.NotFound()
		err = store.Each(ctx, db.Read(), `SELECT id FROM person`, nil, func(store.Scanner) error {
			calls++
			return stop
		})
		require.Equal(t, error(stop), err)
		require.Equal(t, 1, calls)
		_, err = store.Column[int](ctx, db.Read(), `SELECT nothing FROM person`)
		require.True(t, errs.Is(err, errs.ReasonInternal), "a fault of ours: %v", err)
	})
}

// A transaction that lost is repeated although its error was translated.
func TestTranslatedErrorsAreStillRepeated(t *testing.T) {
	t.Parallel()
	testkit.EachDatabase(t, "query", nil, func(t *testing.T, db *store.DB) {
		if db.Dialect() != store.Postgres {
			t.Skip("SQLite has one writer")
		}
		table(t, db, 2)
		ctx := t.Context()
		// Two transactions take the two rows in opposite orders: the server ends
		// one of them, which must come again.
		var met [2]chan struct{}
		for i := range met {
			met[i] = make(chan struct{})
		}
		write := func(own, other int) error {
			attempts := 0
			return db.Write(ctx, func(tx *sql.Tx) error {
				attempts++
				if _, err := store.Exec(ctx, tx, `UPDATE person SET name = 'x' WHERE id = $1`, own+1); err != nil {
					return err
				}
				if attempts == 1 {
					close(met[own])
					<-met[other]
				}
				_, err := store.Exec(ctx, tx, `UPDATE person SET name = 'y' WHERE id = $1`, other+1)
				return err
			})
		}
		failed := make(chan error, 1)
		go func() { failed <- write(0, 1) }()
		require.NoError(t, write(1, 0))
		require.NoError(t, <-failed)
	})
}

func TestDeadDatabaseIsUnavailable(t *testing.T) {
	t.Parallel()
	url, cut := testkit.CutPostgres(t)
	db, err := store.Open(t.Context(), store.Config{URL: url, Service: "query"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	table(t, db, 3)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	calls := map[string]func() error{
		"each": func() error {
			return store.Each(ctx, db.Read(), `SELECT id FROM person`, nil, func(store.Scanner) error { return nil })
		},
		"row": func() error {
			var id int
			_, err := store.Row(ctx, db.Read(), `SELECT id FROM person`, nil, &id)
			return err
		},
		"column": func() error { _, err := store.Column[int](ctx, db.Read(), `SELECT id FROM person`); return err },
		"exec":   func() error { _, err := store.Exec(ctx, db.Read(), `UPDATE person SET name = 'x'`); return err },
		"write": func() error {
			return db.Write(ctx, func(tx *sql.Tx) error { _, err := store.Exec(ctx, tx, `UPDATE person SET name = 'x'`); return err })
		},
	}
	for name, call := range calls {
		require.NoError(t, call(), name)
	}
	// While a query runs, and while a transaction does.
	slow := make(chan error, 1)
	go func() {
		var x sql.NullString
		_, err := store.Row(ctx, db.Read(), `SELECT pg_sleep(60)::text`, nil, &x)
		slow <- err
	}()
	require.Eventually(t, func() bool {
		var n int
		_, err := store.Row(ctx, db.Read(), `SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()`, nil, &n)
		return err == nil && n == 1
	}, 20*time.Second, 5*time.Millisecond)
	err = db.Write(ctx, func(tx *sql.Tx) error {
		cut()
		_, err := store.Exec(ctx, tx, `UPDATE person SET name = 'z'`)
		require.Error(t, err)
		return err
	})
	require.True(t, errs.Is(err, errs.ReasonUnavailable), "%#v", errors.Unwrap(err))
	err = <-slow
	require.True(t, errs.Is(err, errs.ReasonUnavailable), "%#v", errors.Unwrap(err))
	for name, call := range calls {
		err := call()
		require.True(t, errs.Is(err, errs.ReasonUnavailable), "%s: %#v", name, errors.Unwrap(err))
	}
}

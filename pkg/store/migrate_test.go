package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
)

// schema is one of several versions, the third of which is a step in Go.
func schema() (fstest.MapFS, store.Step) {
	files := fstest.MapFS{}
	for _, d := range []string{"sqlite", "postgres"} {
		files[d+"/00001_one.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE one (id BIGINT PRIMARY KEY);\nINSERT INTO one (id) VALUES (1);\n")}
		files[d+"/00002_two.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE two (id BIGINT PRIMARY KEY);\n")}
		files[d+"/00004_four.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nINSERT INTO two (id) SELECT id + 10 FROM two;\n")}
	}
	return files, store.Step{Version: 3, Run: func(ctx context.Context, tx *sql.Tx) error {
		_, err := store.Exec(ctx, tx, `INSERT INTO two (id) SELECT id FROM one`)
		return err
	}}
}

func ids(t *testing.T, db *store.DB) []int64 {
	t.Helper()
	got, err := store.Column[int64](t.Context(), db.Read(), `SELECT id FROM two ORDER BY id`)
	require.NoError(t, err)
	return got
}

func TestMigrationsRunOnceInOrder(t *testing.T) {
	t.Parallel()
	testkit.EachDatabase(t, "steps", nil, func(t *testing.T, db *store.DB) {
		files, step := schema()
		failing := store.Step{Version: 3, Run: func(ctx context.Context, tx *sql.Tx) error {
			if err := step.Run(ctx, tx); err != nil {
				return err
			}
			return fmt.Errorf("not yet")
		}}
		require.ErrorContains(t, db.Migrate(t.Context(), files, failing), "not yet")
		require.Empty(t, ids(t, db), "what a step did before it failed is undone")
		for range 2 {
			require.NoError(t, db.Migrate(t.Context(), files, step))
			require.Equal(t, []int64{1, 11}, ids(t, db))
		}
	})
}

// Several processes of a cluster that start at once bring one schema up to date.
func TestProcessesMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	if url == "" {
		t.Skip("no PostgreSQL server: set CHAPPE_TEST_POSTGRES or install one")
	}
	files, step := schema()
	var dbs []*store.DB
	for range 6 {
		db, err := store.Open(t.Context(), store.Config{URL: url, Service: "steps"})
		require.NoError(t, err)
		t.Cleanup(func() { _ = db.Close() })
		dbs = append(dbs, db)
	}
	var g errgroup.Group
	for _, db := range dbs {
		g.Go(func() error { return db.Migrate(t.Context(), files, step) })
	}
	require.NoError(t, g.Wait())
	require.Equal(t, []int64{1, 11}, ids(t, dbs[0]))
}

package testkit_test

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestEtcdKeepsTestsApart(t *testing.T) {
	a, b := testkit.Etcd(t), testkit.Etcd(t)
	ok, _, err := a.Commit(t.Context(), nil, []etcdx.Write{{Key: "/k", Value: []byte("v")}})
	require.NoError(t, err)
	require.True(t, ok)
	kv, err := b.Get(t.Context(), "/k")
	require.NoError(t, err)
	require.Nil(t, kv)
	kv, err = a.Get(t.Context(), "/k")
	require.NoError(t, err)
	require.Equal(t, "v", string(kv.Value))
}

func TestEachDatabaseCommitsAndRollsBack(t *testing.T) {
	testkit.EachDatabase(t, "kit", nil, func(t *testing.T, db *store.DB) {
		require.NoError(t, db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), "CREATE TABLE x (a BIGINT PRIMARY KEY, b TEXT)")
			return err
		}))
		insert := func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), "INSERT INTO x (a, b) VALUES ($1, $2)", 1, "one")
			return err
		}
		require.NoError(t, db.Write(t.Context(), insert))
		require.Error(t, db.Write(t.Context(), insert))
		var b string
		require.NoError(t, db.Read().QueryRowContext(t.Context(), "SELECT b FROM x WHERE a = $1", 1).Scan(&b))
		require.Equal(t, "one", b)
	})
}

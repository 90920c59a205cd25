package etcdx_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/testkit"
)

// TestSessionDeletesItsOwnKeys has a session release a key that has become
// another session's, as after a lease that ran out unnoticed.
func TestSessionDeletesItsOwnKeys(t *testing.T) {
	t.Parallel()
	etcd := testkit.Etcd(t)
	old, err := etcd.NewSession(t.Context(), time.Minute)
	require.NoError(t, err)
	defer func() { require.NoError(t, old.Close()) }()
	other, err := etcd.NewSession(t.Context(), time.Minute)
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()

	ok, err := other.Create(t.Context(), "/lock", []byte("other"))
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, old.Delete(t.Context(), "/lock"))
	kv, err := etcd.Get(t.Context(), "/lock")
	require.NoError(t, err)
	require.NotNil(t, kv, "it was not the old session's")
	require.NoError(t, other.Delete(t.Context(), "/lock"))
	kv, err = etcd.Get(t.Context(), "/lock")
	require.NoError(t, err)
	require.Nil(t, kv)
}

package gatewayreg_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/gatewayreg"
	"github.com/chappe-im/chappe/pkg/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestRegistrationIsSeenAndVanishes(t *testing.T) {
	t.Parallel()
	etcd := testkit.Etcd(t)
	lists := make(chan gatewayreg.Live, 16)
	w, err := gatewayreg.Watch(t.Context(), etcd, testkit.Logger(t), func(l gatewayreg.Live) { lists <- l })
	require.NoError(t, err)
	t.Cleanup(w.Stop)
	require.Empty(t, <-lists)

	r, err := gatewayreg.Register(t.Context(), etcd, testkit.Logger(t), "gw-1")
	require.NoError(t, err)
	require.True(t, (<-lists).Has("gw-1"))
	ok, err := gatewayreg.Registered(t.Context(), etcd, "gw-1")
	require.NoError(t, err)
	require.True(t, ok)

	require.NoError(t, r.Stop())
	require.NoError(t, r.Stop())
	require.False(t, (<-lists).Has("gw-1"))
	ok, err = gatewayreg.Registered(t.Context(), etcd, "gw-1")
	require.NoError(t, err)
	require.False(t, ok)
}

func TestRegisterRefusesBadIDs(t *testing.T) {
	t.Parallel()
	etcd := testkit.Etcd(t)
	for _, id := range []string{"", "a/b"} {
		_, err := gatewayreg.Register(t.Context(), etcd, testkit.Logger(t), id)
		require.Error(t, err, id)
	}
}

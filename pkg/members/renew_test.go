package members

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/testkit"
)

func TestLostLeaseIsReplaced(t *testing.T) {
	t.Parallel()
	etcd := testkit.Etcd(t)
	r, err := Register(t.Context(), etcd, testkit.Logger(t), Gateways, Member{ID: "gw-1"})
	require.NoError(t, err)
	before, err := etcd.Get(t.Context(), Gateways.prefix()+"gw-1")
	require.NoError(t, err)
	require.NotNil(t, before)

	// Closing the session revokes the lease, as its expiry would.
	require.NoError(t, r.session.Close())
	<-r.Renewed()
	after, err := etcd.Get(t.Context(), Gateways.prefix()+"gw-1")
	require.NoError(t, err)
	require.NotNil(t, after)
	require.Greater(t, after.Revision, before.Revision)
	require.NoError(t, r.Stop())
}

package partition

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// TestFencedWorkersAwaitTheirLock has a worker that was fenced off wait for as
// long as the partition's lock is another instance's, or nobody's.
func TestFencedWorkersAwaitTheirLock(t *testing.T) {
	t.Parallel()
	etcd := testkit.Etcd(t)
	o := &Owner{etcd: etcd, id: "me", logger: testkit.Logger(t)}
	lock := func(w etcdx.Write) {
		w.Key = lockKey(3)
		_, _, err := etcd.Commit(t.Context(), nil, []etcdx.Write{w})
		require.NoError(t, err)
	}
	waits := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		return !o.awaitOwned(ctx, 3)
	}
	require.True(t, waits(), "nobody's")
	lock(etcdx.Write{Value: []byte("another")})
	require.True(t, waits(), "another's")

	goes := make(chan bool, 1)
	go func() { goes <- o.awaitOwned(t.Context(), 3) }()
	lock(etcdx.Write{Value: []byte("me")})
	require.True(t, <-goes)
	lock(etcdx.Write{Delete: true})
	require.True(t, waits())
}

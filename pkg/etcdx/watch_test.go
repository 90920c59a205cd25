package etcdx_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// TestWatchersDoNotDisturbEachOther has several watchers of the same keys,
// which share their events' memory when the server runs in the process.
func TestWatchersDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	etcd := testkit.Etcd(t)
	_, from, err := etcd.List(t.Context(), "/k/")
	require.NoError(t, err)
	const watchers, changes = 4, 50
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, watchers)
	seen := make([]chan string, watchers)
	for i := range seen {
		seen[i] = make(chan string, changes*2)
		go func() {
			ended <- etcd.Watch(ctx, testkit.Logger(t), "/k/", from, func(events []etcdx.Event) {
				for _, e := range events {
					seen[i] <- e.Key
				}
			}, func(context.Context) (int64, error) { return from, nil })
		}()
	}
	for i := range changes {
		ok, _, err := etcd.Commit(t.Context(), nil, []etcdx.Write{{Key: fmt.Sprint("/k/", i), Value: []byte("v")}})
		require.NoError(t, err)
		require.True(t, ok)
	}
	for _, keys := range seen {
		for i := range changes {
			require.Equal(t, fmt.Sprint("/k/", i), <-keys)
		}
	}
	cancel()
	for range watchers {
		require.ErrorIs(t, <-ended, context.Canceled)
	}
}

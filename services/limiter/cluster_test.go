package limiter

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/cluster"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/testkit"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// admissions is what the limiters of a test recorded, by app.
type admissions struct {
	mu sync.Mutex
	at map[string][]int64
	// by tells which limiters admitted calls of an app.
	by map[string]map[int]bool
}

func (a *admissions) recorder(limiter int) Recorder {
	return func(app, _ string, _ int64, atNs int64) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.at[app] = append(a.at[app], atNs)
		if a.by[app] == nil {
			a.by[app] = map[int]bool{}
		}
		a.by[app][limiter] = true
	}
}

// TestLimitersUnderLoad offers several apps three times their limit through
// two and three limiters. By the limiters' own record no second sees more than
// the limit, and each app has one owner.
func TestLimitersUnderLoad(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 3} {
		t.Run(fmt.Sprint(n, " limiters"), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			apps := []string{"a", "b", "c", "d"}
			for _, app := range apps {
				r.app(t, app, "basic")
			}
			record := &admissions{at: map[string][]int64{}, by: map[string]map[int]bool{}}
			for i := range n {
				startMember(t, r, i, WithRecorder(record.recorder(i)))
			}
			const callers = 3
			var wg sync.WaitGroup
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			for range callers {
				client, err := cluster.NewClient(t.Context(), cluster.Deps{
					Etcd: r.etcd, Apps: r.catalog, Patience: time.Minute, Logger: testkit.Logger(t), Registerer: prometheus.NewRegistry(),
				})
				require.NoError(t, err)
				t.Cleanup(client.Stop)
				require.Eventually(t, func() bool { return client.Limiters() == n }, 20*time.Second, time.Millisecond)
				for _, app := range apps {
					wg.Go(func() { offer(ctx, t, client, app) })
				}
			}
			wg.Wait()
			for _, app := range apps {
				log := record.at["acme#"+app]
				slices.Sort(log)
				require.Len(t, record.by["acme#"+app], 1, "one owner")
				most, lo := 0, 0
				for hi := range log {
					for log[hi]-log[lo] >= int64(time.Second) {
						lo++
					}
					most = max(most, hi-lo+1)
				}
				t.Logf("app %s: %d admitted, at most %d in any second", app, len(log), most)
				require.LessOrEqual(t, most, 100)
			}
		})
	}
}

// offer makes 100 calls a second until ctx ends.
func offer(ctx context.Context, t *testing.T, c *cluster.Client, app string) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := c.Check(context.Background(), &limiterv1.CheckRequest{Org: "acme", App: app, Rule: "get_user", Cost: 1}); err != nil {
			t.Errorf("app %s: %v", app, err)
			return
		}
	}
}

// startMember starts one more limiter on the rig's etcd and enters it in the
// list.
func startMember(t *testing.T, r *rig, i int, opts ...Option) {
	t.Helper()
	reg, logger := prometheus.NewRegistry(), testkit.Logger(t)
	s, err := New(DefaultConfig(), Deps{Etcd: r.etcd, Catalog: r.catalog, Logger: logger, Registerer: reg}, opts...)
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	server := grpcx.NewServer(grpcx.NewInterceptors(logger, reg), nil)
	s.Register(server)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server.Start(lis)
	t.Cleanup(func() { require.NoError(t, server.Stop(context.Background())) })
	m, err := cluster.Register(t.Context(), r.etcd, logger, fmt.Sprint("limiter-", i), lis.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Stop()) })
}

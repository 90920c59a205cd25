package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lxzan/gws"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/test/harness"
)

// TestDrain stops a server with SIGTERM while messages are sent: nothing that
// was accepted is lost, connections get a close frame, the process ends well.
func TestDrain(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := harness.StartProcess(t, data)
	app := p.NewApp(t, "enterprise", harness.NoLimits)
	app.Register(t, "reader")
	idle := app.Dial(t, "idle", msyncclient.Options{})

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var accepted atomic.Int64
	var done sync.WaitGroup
	for i := range 4 {
		done.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				r, err := app.Try(ctx, http.MethodPost, "/messages/users", map[string]any{
					"from": fmt.Sprintf("w%d", i), "to": []string{"reader"}, "type": "txt", "body": map[string]string{"msg": fmt.Sprint(n)},
				}, app.Token)
				if err != nil {
					return
				}
				if r.Status == http.StatusOK {
					accepted.Add(1)
				}
			}
		})
	}
	require.Eventually(t, func() bool { return accepted.Load() > 300 }, 20*time.Second, 5*time.Millisecond)
	began := time.Now()
	require.NoError(t, p.Terminate(t), "a clean exit")
	t.Logf("stopped after %s", time.Since(began))
	cancel()
	done.Wait()

	select {
	case <-idle.Done():
	case <-time.After(5 * time.Second):
		require.FailNow(t, "the connection was not closed")
	}
	var frame *gws.CloseError
	require.ErrorAs(t, idle.Err(), &frame)
	require.Equal(t, uint16(1001), frame.Code)

	p = harness.StartProcess(t, data)
	c := app.On(p.Server).Dial(t, "reader", msyncclient.Options{KeepDuplicates: true, Buffer: 1 << 16})
	select {
	case <-c.Synced():
	case <-time.After(30 * time.Second):
		require.FailNow(t, "the device did not catch up")
	}
	require.GreaterOrEqual(t, int64(len(c.Received())), accepted.Load())
}

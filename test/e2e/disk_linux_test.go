package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/diskspace"
	"github.com/chappe-im/chappe/services/run"
	"github.com/chappe-im/chappe/test/harness"
)

// smallDisk mounts a file system of its own of so many MiB; only root can.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Skipf("a small disk cannot be mounted: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// fillDisk writes a file that leaves so many bytes free, and returns what
// removes it.
func fillDisk(t *testing.T, dir string, leave int64) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	require.NoError(t, err)
	block := make([]byte, 64<<10)
	for {
		free, err := diskspace.Free(dir)
		require.NoError(t, err)
		if int64(free) <= leave {
			break
		}
		if _, err := f.Write(block[:min(int64(len(block)), int64(free)-leave)]); err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
			break
		}
	}
	require.NoError(t, f.Close())
	return func() { require.NoError(t, os.Remove(path)) }
}

// TestFullDisk fills the disk under load, once up to the reserve and once to
// the last byte: sends are refused and not held up, operators are told, sends
// are taken again soon after there is room, by the same process, and nothing
// that was acknowledged is lost.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 320)
	for name, leave := range map[string]int64{"up to the reserve": 6 << 20, "to the last byte": 0} {
		for _, reserve := range []int64{12 << 20, 0} {
			if leave > 0 && reserve == 0 {
				continue // there is nothing to see
			}
			t.Run(fmt.Sprintf("%s, reserve %d MiB", name, reserve>>20), func(t *testing.T) { //nolint:paralleltest // one disk
				data := filepath.Join(dir, "data")
				defer func() { require.NoError(t, os.RemoveAll(data)) }()
				p := harness.StartProcessWith(t, data, func(c *run.Config) { c.DiskReserve = reserve })
				defer p.Kill(t)
				app := p.NewApp(t, "enterprise", harness.NoLimits)
				app.Register(t, killRecipient)
				load := startLoad(t, app)
				load.await(t, 200, 10*time.Second)

				empty := fillDisk(t, dir, leave)
				require.Eventually(t, func() bool { return load.refused.Load() > 20 }, 15*time.Second, 10*time.Millisecond, "sends are refused")
				if reserve > 0 {
					require.Eventually(t, func() bool {
						status, ready := readyz(t, p.Server)
						return status == http.StatusServiceUnavailable && len(ready.Reasons) > 0
					}, 5*time.Second, 20*time.Millisecond)
				}
				// Half a dozen seconds, in which everything that writes finds out.
				full := time.Now()
				require.Eventually(t, func() bool { return time.Since(full) > 6*time.Second }, 10*time.Second, 100*time.Millisecond)
				if reserve > 0 {
					require.Less(t, load.slowest(), 2*time.Second, "a refusal does not take long")
				}
				acked := load.acked.Load()
				empty()
				load.await(t, acked+200, 10*time.Second)
				load.stop()
				for _, w := range load.writers {
					checkArchive(t, app, w)
				}
				require.Eventually(t, func() bool {
					status, _ := readyz(t, p.Server)
					return status == http.StatusOK
				}, 10*time.Second, 20*time.Millisecond)
				t.Logf("acknowledged %d, refused %d, slowest answer while full %s", load.acked.Load(), load.refused.Load(), load.slowest())
			})
		}
	}
}

// diskLoad is writers that send without pause.
type diskLoad struct {
	writers        []*writer
	acked, refused atomic.Int64
	// took is the longest time of a refusal, nanoseconds.
	took atomic.Int64
	stop func()
}

func startLoad(t *testing.T, app *harness.App) *diskLoad {
	t.Helper()
	l := &diskLoad{}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	for i := range 3 {
		w := &writer{name: fmt.Sprintf("writer%d", i)}
		l.writers = append(l.writers, w)
		done.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				body := fmt.Sprintf("%s-%d", w.name, n)
				began := time.Now()
				r, err := app.Try(ctx, http.MethodPost, "/messages/users", map[string]any{
					"from": w.name, "to": []string{killRecipient}, "type": "txt", "body": map[string]string{"msg": body},
				}, app.Token)
				switch {
				case ctx.Err() != nil:
					return
				case err == nil && r.Status == http.StatusOK:
					w.acked = append(w.acked, body)
					w.ids = append(w.ids, r.Body["data"].(map[string]any)[killRecipient].(string))
					l.acked.Add(1)
				default:
					l.refused.Add(1)
					l.took.Store(max(l.took.Load(), time.Since(began).Nanoseconds()))
				}
				select {
				case <-time.After(2 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	l.stop = func() {
		cancel()
		done.Wait()
	}
	t.Cleanup(l.stop)
	return l
}

func (l *diskLoad) slowest() time.Duration { return time.Duration(l.took.Load()) }

func (l *diskLoad) await(t *testing.T, acked int64, longest time.Duration) {
	t.Helper()
	require.Eventually(t, func() bool { return l.acked.Load() >= acked }, longest, 5*time.Millisecond, "sends are taken")
}

package e2e

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/test/harness"
)

// pausedFor is longer than every lease lives.
const pausedFor = 12 * time.Second

// TestStopAfterALongPause suspends a server for longer than its leases live and
// ends it, at once when it wakes up and after it has worked again: it ends
// cleanly.
func TestStopAfterALongPause(t *testing.T) {
	t.Parallel()
	for name, works := range map[string]bool{"at once": false, "after it has worked again": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := harness.StartProcess(t, t.TempDir())
			app := p.NewApp(t, "enterprise", harness.NoLimits)
			app.Register(t, killRecipient)
			app.Dial(t, killRecipient, msyncclient.Options{})
			w := &writer{name: "writer"}
			w.write(t, app, 20)
			p.Pause(t)
			<-time.After(pausedFor) // the pause
			if !works {
				p.Signal(t, syscall.SIGTERM)
				p.Resume(t)
				require.NoError(t, p.Terminate(t))
				return
			}
			p.Resume(t)
			w.write(t, app, 20)
			checkArchive(t, app, w)
			require.NoError(t, p.Terminate(t))
		})
	}
}

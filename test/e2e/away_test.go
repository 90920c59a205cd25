package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/services/run"
	"github.com/chappe-im/chappe/test/harness"
)

// TestPartsComeBack takes one part after the other away for six seconds while
// messages are sent to a connected device, and measures how long sends and
// deliveries stand still once it is back. Without the database, sends go on.
func TestPartsComeBack(t *testing.T) {
	t.Parallel()
	s := harness.StartSplitBehindProxies(t)
	app := s.NewApp(t, "enterprise", harness.NoLimits)
	app.Register(t, "writer", killRecipient)
	flow := startFlow(t, app)
	flow.acked.next(t, 10*time.Second)
	flow.shown.next(t, 10*time.Second)
	for _, part := range []string{run.TargetMessaging, run.TargetAccount, harness.PartDatabase, harness.PartNATS} {
		p := s.Part(part)
		if p == nil {
			t.Logf("%s cannot be taken away here", part)
			continue
		}
		before := flow.acked.count.Load()
		p.Cut()
		<-time.After(6 * time.Second) // the outage
		sent := flow.acked.count.Load() - before
		p.Pass()
		ack := flow.acked.next(t, 5*time.Second)
		show := flow.shown.next(t, 5*time.Second)
		t.Logf("%s was away for 6 s: %d sends meanwhile, the next after %s, the next delivery after %s", part, sent, ack, show)
		if part == harness.PartDatabase || part == run.TargetAccount {
			require.Greater(t, sent, int64(100), "sends go on")
		}
	}
	flow.stop()
	checkArchive(t, app.On(s.AtMessaging(t)), flow.writer)
}

// tally counts what happens and lets somebody wait for the next.
type tally struct {
	count atomic.Int64
	more  chan struct{}
}

func (c *tally) add() {
	c.count.Add(1)
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// next waits for the next and tells how long that took.
func (c *tally) next(t *testing.T, longest time.Duration) time.Duration {
	t.Helper()
	select {
	case <-c.more: // of before
	default:
	}
	began := time.Now()
	select {
	case <-c.more:
	case <-time.After(longest):
		require.FailNow(t, "it stands still", "for %s", longest)
	}
	return time.Since(began)
}

// flow is a writer without pause and a device that is shown its messages.
type flow struct {
	writer       *writer
	acked, shown tally
	stop         func()
}

func startFlow(t *testing.T, app *harness.App) *flow {
	t.Helper()
	f := &flow{
		writer: &writer{name: "writer"},
		acked:  tally{more: make(chan struct{}, 1)}, shown: tally{more: make(chan struct{}, 1)},
	}
	app.Dial(t, killRecipient, msyncclient.Options{OnReceived: func(msyncclient.Received) { f.shown.add() }})
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		w := f.writer
		for n := 0; ctx.Err() == nil; n++ {
			body := fmt.Sprintf("%s-%d", w.name, n)
			tryCtx, end := context.WithTimeout(ctx, 2*time.Second)
			r, err := app.Try(tryCtx, http.MethodPost, "/messages/users", map[string]any{
				"from": w.name, "to": []string{killRecipient}, "type": "txt", "body": map[string]string{"msg": body},
			}, app.Token)
			end()
			if err == nil && r.Status == http.StatusOK {
				w.acked = append(w.acked, body)
				w.ids = append(w.ids, r.Body["data"].(map[string]any)[killRecipient].(string))
				f.acked.add()
			}
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	f.stop = func() {
		cancel()
		done.Wait()
	}
	t.Cleanup(f.stop)
	return f
}

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	"github.com/chappe-im/chappe/test/harness"
)

const (
	kills         = 5
	acksPerKill   = 250
	writers       = 3
	killRecipient = "reader"
)

// writer sends texts with bodies of their own, one after the other, and keeps
// what was acknowledged.
type writer struct {
	name  string
	acked []string
	ids   []string
}

// TestKill kills the server with SIGKILL while three writers send, and asks
// afterwards for what it had acknowledged.
func TestKill(t *testing.T) {
	data := t.TempDir()
	p := harness.StartProcess(t, data)
	app := p.NewApp(t, "enterprise", harness.NoLimits)
	app.Register(t, killRecipient)

	var current atomic.Pointer[harness.App]
	current.Store(app)
	var acks atomic.Int64
	acked := make(chan struct{}, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	all := make([]*writer, writers)
	var done sync.WaitGroup
	for i := range all {
		w := &writer{name: fmt.Sprintf("writer%d", i)}
		all[i] = w
		done.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				body := fmt.Sprintf("%s-%d", w.name, n)
				r, err := current.Load().Try(ctx, http.MethodPost, "/messages/users", map[string]any{
					"from": w.name, "to": []string{killRecipient}, "type": "txt", "body": map[string]string{"msg": body},
				}, app.Token)
				if err != nil || r.Status != http.StatusOK {
					// Not acknowledged: whether it was stored is open. The next
					// attempt is another message.
					select {
					case <-time.After(5 * time.Millisecond):
					case <-ctx.Done():
					}
					continue
				}
				w.acked = append(w.acked, body)
				w.ids = append(w.ids, r.Body["data"].(map[string]any)[killRecipient].(string))
				acks.Add(1)
				select {
				case acked <- struct{}{}:
				default:
				}
			}
		})
	}
	for k := range kills {
		target := acks.Load() + acksPerKill
		for acks.Load() < target {
			select {
			case <-acked:
			case <-time.After(30 * time.Second):
				require.FailNow(t, "writers stand still", "before kill %d", k)
			}
		}
		p.Kill(t)
		p = harness.StartProcess(t, data)
		current.Store(app.On(p.Server))
	}
	target := acks.Load() + 50
	for acks.Load() < target {
		<-acked
	}
	stop()
	done.Wait()
	app = app.On(p.Server)
	t.Logf("%d messages acknowledged over %d kills", acks.Load(), kills)

	for _, w := range all {
		checkArchive(t, app, w)
	}
	checkFreshClient(t, app, all)
}

// checkArchive wants every acknowledged message in the archive once, in the
// order of the acknowledgements, in places without a hole.
func checkArchive(t *testing.T, app *harness.App, w *writer) {
	t.Helper()
	client := messagingv1.NewMessagingServiceClient(app.Server.Conn())
	conversation := killRecipient + "~" + w.name
	var msgs []*messagingv1.Message
	require.Eventually(t, func() bool {
		msgs = msgs[:0]
		for {
			after := int64(0)
			if len(msgs) > 0 {
				after = msgs[len(msgs)-1].GetSeq()
			}
			resp, err := client.ListMessages(t.Context(), &messagingv1.ListMessagesRequest{
				Org: app.Org, App: app.Name, Conversation: conversation, AfterSeq: after, Limit: 1000,
			})
			if err != nil {
				return false
			}
			if len(resp.GetMessages()) == 0 {
				break
			}
			msgs = append(msgs, resp.GetMessages()...)
		}
		// Some that were stored but not acknowledged may be among them: the count
		// alone does not tell that the last one has come.
		last := w.acked[len(w.acked)-1]
		return slices.ContainsFunc(msgs, func(m *messagingv1.Message) bool {
			return gjson.Get(m.GetPayload(), "bodies.0.msg").String() == last
		})
	}, 30*time.Second, 50*time.Millisecond, "archive of %s", w.name)

	place := map[string]int{}
	for i, m := range msgs {
		require.Equal(t, int64(i+1), m.GetSeq(), "places are dense")
		body := gjson.Get(m.GetPayload(), "bodies.0.msg").String()
		require.NotContains(t, place, body, "archived twice")
		place[body] = i
	}
	last := -1
	for i, body := range w.acked {
		at, ok := place[body]
		require.True(t, ok, "acknowledged and lost: %s", body)
		require.Equal(t, w.ids[i], msgs[at].GetId())
		require.Greater(t, at, last, "order of %s", body)
		last = at
	}
}

// checkFreshClient wants a device that was never here before to get each
// acknowledged message once, in order for each sender.
func checkFreshClient(t *testing.T, app *harness.App, all []*writer) {
	t.Helper()
	c := app.Dial(t, killRecipient, msyncclient.Options{KeepDuplicates: true, Buffer: 1 << 16})
	select {
	case <-c.Synced():
	case <-time.After(60 * time.Second):
		require.FailNow(t, "the device did not catch up")
	}
	got := map[string][]string{}
	for len(c.Received()) > 0 {
		r := <-c.Received()
		from := r.Meta.GetFrom().GetName()
		got[from] = append(got[from], r.Text())
	}
	for _, w := range all {
		seen := map[string]bool{}
		var inOrder []string
		want := map[string]bool{}
		for _, body := range w.acked {
			want[body] = true
		}
		for _, body := range got[w.name] {
			require.False(t, seen[body], "received twice: %s", body)
			seen[body] = true
			if want[body] {
				inOrder = append(inOrder, body)
			}
		}
		require.Equal(t, w.acked, inOrder, "what %s was acknowledged arrives in order", w.name)
	}
}

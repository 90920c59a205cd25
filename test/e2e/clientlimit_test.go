package e2e

import (
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/pkg/tier"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
	"github.com/chappe-im/chappe/services/limiter"
	"github.com/chappe-im/chappe/services/run"
	"github.com/chappe-im/chappe/test/harness"
)

// limited reports whether a send was refused as too much; any other failure is
// one of the test.
func limited(t *testing.T, err error) bool {
	t.Helper()
	if err == nil {
		return false
	}
	var refused *msyncclient.RefusedError
	if !errors.As(err, &refused) || refused.Code != msyncv1.Status_PERMISSION_DENIED || refused.Reason != "traffic limit" {
		t.Errorf("not the refusal of a limit: %v", err)
	}
	return true
}

// flood has each client send as fast as it can for a while, from several
// goroutines, and counts what passed and what was refused.
func flood(t *testing.T, d time.Duration, clients []*msyncclient.Client, send func(c *msyncclient.Client) error) (passed, refused int64) {
	t.Helper()
	var ok, no atomic.Int64
	var done sync.WaitGroup
	until := time.Now().Add(d)
	for _, c := range clients {
		for range 4 {
			done.Go(func() {
				for time.Now().Before(until) {
					if limited(t, send(c)) {
						no.Add(1)
					} else {
						ok.Add(1)
					}
				}
			})
		}
	}
	done.Wait()
	return ok.Load(), no.Load()
}

// override changes an app's limits while the server runs.
func override(t *testing.T, app *harness.App, overrides string) {
	t.Helper()
	_, err := app.Server.Admin().SetAppOverrides(t.Context(), &limiterv1.SetAppOverridesRequest{
		Org: app.Org, App: app.Name, Overrides: overrides, Actor: "test",
	})
	require.NoError(t, err)
}

// TestClientSendsAreLimited has two users of a free app write as fast as they
// can. By the limiter's own record no second sees more than 20 of either; what
// was refused is in nobody's archive; the connections stay and go on.
func TestClientSendsAreLimited(t *testing.T) {
	t.Parallel()
	rec := &record{at: map[string][]int64{}}
	s := harness.Start(t, run.WithLimiterOptions(limiter.WithRecorder(rec.note)))
	app := s.NewApp(t, "free", "")
	app.Register(t, "amelia")
	clients := []*msyncclient.Client{app.Dial(t, "bruno", msyncclient.Options{}), app.Dial(t, "carla", msyncclient.Options{})}

	text := func(c *msyncclient.Client) error {
		_, err := c.SendText(t.Context(), "amelia", "x")
		return err
	}
	const took = 2500 * time.Millisecond
	passed, refused := flood(t, took, clients, text)
	t.Logf("%d messages passed, %d were refused", passed, refused)
	require.Positive(t, refused)
	at := rec.of(app.Key(), tier.RuleClientMessage)
	require.Len(t, at, int(passed), "what the limiter admitted is what was acknowledged")
	require.LessOrEqual(t, most(at, time.Second), 2*20)
	require.GreaterOrEqual(t, passed, int64(2*20*2), "nobody who stays below is refused")

	// Nothing of what was refused is kept.
	require.Eventually(t, func() bool {
		r := app.Call(t, http.MethodGet, "/users/amelia/offline_msg_count", nil, app.Token)
		return r.Status == http.StatusOK && r.Body["data"].(map[string]any)["amelia"] == float64(passed)
	}, 20*time.Second, 20*time.Millisecond, "%d messages", passed)

	// The limit is each user's own, and the connection outlives it.
	other := app.Dial(t, "diego", msyncclient.Options{})
	require.NoError(t, text(other))
	require.Eventually(t, func() bool { return !limited(t, text(clients[0])) }, 5*time.Second, 50*time.Millisecond)
	for _, c := range clients {
		require.NoError(t, c.Err())
	}

	// Receipts have an allowance of their own, and it ends too.
	receipt := func(c *msyncclient.Client) error {
		_, err := c.SendReceipt(t.Context(), "amelia", msyncv1.MessageBody_READ_ACK, 1)
		return err
	}
	for range 200 {
		require.NoError(t, receipt(other), "somebody who opens long conversations")
	}
	require.NoError(t, text(other))
	override(t, app, `{"rules":{"client_send_receipt":{"limits":[{"count":250,"per":"minute","unit":"call","scope":"user"}]}}}`)
	sent := 200
	require.Eventually(t, func() bool {
		if limited(t, receipt(other)) {
			return true
		}
		sent++
		return false
	}, 10*time.Second, time.Millisecond)
	require.GreaterOrEqual(t, sent, 250)
	require.Len(t, rec.of(app.Key(), tier.RuleClientReceipt), sent)
}

// TestClientLimitsAreLive changes the rule of a running app in both directions,
// and shows what is used of it.
func TestClientLimitsAreLive(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	app := s.NewApp(t, "free", "")
	app.Register(t, "amelia")
	c := app.Dial(t, "bruno", msyncclient.Options{})
	text := func() bool {
		_, err := c.SendText(t.Context(), "amelia", "x")
		return !limited(t, err)
	}
	require.True(t, text())

	override(t, app, `{"rules":{"client_send_message":{"limits":[
		{"count":0,"per":"second","unit":"message","scope":"user"},{"count":200,"per":"second","unit":"message","scope":"app"}]}}}`)
	changed := time.Now()
	require.Eventually(t, func() bool { return !text() }, 5*time.Second, 5*time.Millisecond)
	require.Less(t, time.Since(changed), time.Second)
	override(t, app, `{"rules":{"client_send_message":{"limits":[
		{"count":30,"per":"minute","unit":"message","scope":"user"},{"count":200,"per":"second","unit":"message","scope":"app"}]}}}`)
	changed = time.Now()
	require.Eventually(t, text, 5*time.Second, 5*time.Millisecond)
	require.Less(t, time.Since(changed), time.Second)
	for text() {
	}

	usage, err := limiterv1.NewLimiterServiceClient(s.Conn()).GetUsage(t.Context(), &limiterv1.GetUsageRequest{Org: app.Org, App: app.Name})
	require.NoError(t, err)
	byScope := map[string]*limiterv1.RuleUsage{}
	for _, u := range usage.GetRules() {
		if u.GetRule() == tier.RuleClientMessage {
			byScope[u.GetScope()] = u
		}
	}
	require.Equal(t, int64(30), byScope["user"].GetUsed())
	require.Equal(t, int64(30), byScope["user"].GetLimit())
	require.Equal(t, time.Minute.Milliseconds(), byScope["user"].GetWindowMs())
	require.Equal(t, int64(200), byScope["app"].GetLimit())
	require.Positive(t, byScope["user"].GetThrottledTotal())
}

// TestClientLimitsHoldOverGateways has one user send through two gateways of a
// cluster at once, with the limits at their owner.
func TestClientLimitsHoldOverGateways(t *testing.T) {
	rec := &record{at: map[string][]int64{}}
	s := harness.StartSplit(t, run.WithLimiterOptions(limiter.WithRecorder(rec.note)), run.WithLimiterPatience(5*time.Second))
	app := s.NewApp(t, "enterprise", "")
	app.Register(t, "amelia")
	second := app.On(s.Gateway(t))
	clients := []*msyncclient.Client{app.Dial(t, "bruno", msyncclient.Options{}), second.Dial(t, "bruno", msyncclient.Options{})}
	passed, refused := flood(t, 2*time.Second, clients, func(c *msyncclient.Client) error {
		_, err := c.SendText(t.Context(), "amelia", "x")
		return err
	})
	t.Logf("%d messages passed, %d were refused", passed, refused)
	require.Positive(t, refused)
	at := rec.of(app.Key(), tier.RuleClientMessage)
	require.Len(t, at, int(passed))
	require.LessOrEqual(t, most(at, time.Second), 20)
}

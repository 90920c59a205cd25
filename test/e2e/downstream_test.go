package e2e

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/services/run"
	"github.com/chappe-im/chappe/test/harness"
)

// TestDownstream lets 10 calls of 600 targets be distributed at the default
// cap of 2,000 deliveries a second while another app sends as usual.
func TestDownstream(t *testing.T) {
	s := harness.Start(t)
	paced(t, []*harness.Server{s})
}

// TestDownstreamOfACluster is the same with two limiters, two messaging
// services, which share the partitions of the log, and two gateways: they draw
// on one budget.
func TestDownstreamOfACluster(t *testing.T) {
	split := harness.StartSplit(t, run.WithLimiterPatience(time.Minute))
	split.Limiter(t)
	split.Messaging(t)
	gateways := []*harness.Server{split.Server, split.Gateway(t)}
	awaitLimiters(t, gateways, 2)
	paced(t, gateways)
}

// paced sends and receives through all gateways in turn.
func paced(t *testing.T, gateways []*harness.Server) {
	t.Helper()
	s := gateways[0]
	via := func(i int) *harness.Server { return gateways[i%len(gateways)] }
	const calls, targets, perSecond, rounds = 10, 600, 2000, 4
	app := s.NewApp(t, "enterprise", `{"rate_counting":{"per_ip":false},"rules":{
		"send_message_users":{"limits":[{"count":1000000,"per":"minute","unit":"message","scope":"app"}]},
		"get_token":{"limits":[{"count":100000,"per":"second","unit":"call","scope":"app"}]}}}`)
	other := s.NewApp(t, "enterprise", harness.NoLimits)
	other.Register(t, "omar")
	users := make([]string, targets)
	for i := range users {
		users[i] = fmt.Sprintf("u%d", i)
	}
	app.Register(t, users...)

	var mu sync.Mutex
	var arrivals []time.Time
	texts := make([][]string, targets)
	var dialed sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i, u := range users {
		dialed.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			app.On(via(i)).Dial(t, u, msyncclient.Options{KeepDuplicates: true, OnReceived: func(r msyncclient.Received) {
				mu.Lock()
				defer mu.Unlock()
				arrivals = append(arrivals, time.Now())
				texts[i] = append(texts[i], r.Text())
			}})
		})
	}
	bystander := other.Dial(t, "omar", msyncclient.Options{})
	dialed.Wait()

	// Other work on the machine can delay arrivals, never hasten the server: of
	// a few rounds one has to keep the pace; each has to deliver all in order.
	var rate float64
	var meanwhile time.Duration
	for round := range rounds {
		began := time.Now()
		for n := range calls {
			r := app.On(via(n)).Call(t, http.MethodPost, "/messages/users", map[string]any{
				"to": users, "type": "txt", "body": map[string]string{"msg": fmt.Sprint(n)},
			}, app.Token)
			require.Equal(t, http.StatusOK, r.Status, "%s", r.Raw)
		}
		sent := time.Now()
		r := other.Call(t, http.MethodPost, "/messages/users", map[string]any{
			"to": []string{"omar"}, "type": "txt", "body": map[string]string{"msg": "meanwhile"},
		}, other.Token)
		require.Equal(t, http.StatusOK, r.Status)
		select {
		case got := <-bystander.Received():
			require.Equal(t, "meanwhile", got.Text())
		case <-time.After(10 * time.Second):
			require.FailNow(t, "the other app's message did not arrive")
		}
		meanwhile = time.Since(sent)

		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(arrivals) >= calls*targets
		}, 30*time.Second, 10*time.Millisecond)
		mu.Lock()
		require.Len(t, arrivals, calls*targets)
		for i, got := range texts {
			require.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, got, "in order at %s", users[i])
			texts[i] = nil
		}
		slices.SortFunc(arrivals, time.Time.Compare)
		// A second's budget goes out at once; what follows is paced, so that
		// the last one's time tells the pace.
		took := arrivals[len(arrivals)-1].Sub(began)
		rate = float64(len(arrivals)-perSecond) / took.Seconds()
		from, _ := slices.BinarySearchFunc(arrivals, began.Add(time.Second), time.Time.Compare)
		t.Logf("round %d: %d deliveries in %s, %d after the first second; after the first %d %.0f a second; the other app's message took %s",
			round, len(arrivals), took, len(arrivals)-from, perSecond, rate, meanwhile)
		arrivals = nil
		mu.Unlock()
		if math.Abs(rate-float64(perSecond)) <= 0.05*perSecond && meanwhile < 200*time.Millisecond {
			return
		}
		<-time.After(1500 * time.Millisecond) // the budget of a second is full again
	}
	require.InDelta(t, perSecond, rate, 0.05*perSecond)
	require.Less(t, meanwhile, 200*time.Millisecond)
}

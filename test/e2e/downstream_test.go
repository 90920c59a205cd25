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
	"github.com/chappe-im/chappe/test/harness"
)

// TestDownstream lets 10 calls of 600 targets be distributed at the default
// cap of 2,000 deliveries a second while another app sends as usual.
func TestDownstream(t *testing.T) {
	s := harness.Start(t)
	const calls, targets, perSecond, rounds = 10, 600, 2000.0, 4
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
			app.Dial(t, u, msyncclient.Options{KeepDuplicates: true, OnReceived: func(r msyncclient.Received) {
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
			r := app.Call(t, http.MethodPost, "/messages/users", map[string]any{
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
		// A second's budget goes out at once and is being worked off during the
		// first second; what follows is paced.
		from, _ := slices.BinarySearchFunc(arrivals, began.Add(time.Second), time.Time.Compare)
		rate = slope(arrivals[from:])
		t.Logf("round %d: %d deliveries in %s, after the first second %d at %.0f a second; the other app's message took %s",
			round, len(arrivals), arrivals[len(arrivals)-1].Sub(began), len(arrivals)-from, rate, meanwhile)
		arrivals = nil
		mu.Unlock()
		if math.Abs(rate-perSecond) <= 0.05*perSecond && meanwhile < 200*time.Millisecond {
			return
		}
		<-time.After(1500 * time.Millisecond) // the budget of a second is full again
	}
	require.InDelta(t, perSecond, rate, 0.05*perSecond)
	require.Less(t, meanwhile, 200*time.Millisecond)
}

// slope is the rate per second of events by least squares, which a few late
// ones do not bend.
func slope(at []time.Time) float64 {
	var n, sx, sy, sxx, sxy float64
	for i, t := range at {
		x, y := t.Sub(at[0]).Seconds(), float64(i)
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

package e2e

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	"github.com/chappe-im/chappe/services/limiter"
	"github.com/chappe-im/chappe/services/run"
	"github.com/chappe-im/chappe/test/harness"
)

// record keeps when the limiter admitted what.
type record struct {
	mu sync.Mutex
	at map[string][]int64
}

func (r *record) note(app, rule string, cost, at int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range cost {
		r.at[app+" "+rule] = append(r.at[app+" "+rule], at)
	}
}

func (r *record) of(app, rule string) []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.at[app+" "+rule])
	slices.Sort(out)
	return out
}

// most counts what was admitted in the fullest interval of a length.
func most(at []int64, window time.Duration) int {
	best, from := 0, 0
	for to := range at {
		for at[to]-at[from] >= int64(window) {
			from++
		}
		best = max(best, to-from+1)
	}
	return best
}

// TestLimit offers 1,000 calls in 2 s at a rule of 100 a second, then raises
// the rule while the server runs.
func TestLimit(t *testing.T) {
	t.Parallel()
	rec := &record{at: map[string][]int64{}}
	s := harness.Start(t, run.WithLimiterOptions(limiter.WithRecorder(rec.note)))
	app := s.NewApp(t, "advanced", "")
	app.Register(t, "amelia")
	const rule = "get_user"

	const offered = 1000
	var ok, limited, other atomic.Int64
	tick := time.NewTicker(2 * time.Second / offered)
	defer tick.Stop()
	calls := make(chan struct{})
	var done sync.WaitGroup
	for range 32 {
		done.Go(func() {
			for range calls {
				r, err := app.Try(t.Context(), http.MethodGet, "/users/amelia", nil, app.Token)
				switch {
				case err != nil:
					other.Add(1)
				case r.Status == http.StatusOK:
					ok.Add(1)
				case r.Status == http.StatusTooManyRequests && r.Body["error"] == "reach_limit" &&
					r.Body["error_description"] == "This request has reached api limit" && r.Header.Get("Retry-After") != "":
					limited.Add(1)
				default:
					other.Add(1)
				}
			}
		})
	}
	for range offered {
		<-tick.C
		calls <- struct{}{}
	}
	close(calls)
	done.Wait()

	at := rec.of(app.Key(), rule)
	t.Logf("%d admitted, %d refused, fullest second %d", ok.Load(), limited.Load(), most(at, time.Second))
	require.Zero(t, other.Load())
	require.Len(t, at, int(ok.Load()), "the limiter's record agrees with the answers")
	require.LessOrEqual(t, most(at, time.Second), 100, "never more than 100 in any second")
	require.GreaterOrEqual(t, ok.Load(), int64(196))
	require.Equal(t, int64(offered), ok.Load()+limited.Load())

	// The tier is raised; nothing is restarted.
	got, err := s.Admin().GetTier(t.Context(), &limiterv1.GetTierRequest{Name: "advanced"})
	require.NoError(t, err)
	var doc map[string]any
	require.NoError(t, json.Unmarshal([]byte(got.GetTier().GetDocument()), &doc))
	doc["rules"].(map[string]any)[rule] = map[string]any{"limits": []any{map[string]any{"count": 1000, "per": "second", "unit": "call", "scope": "app"}}}
	raised, err := json.Marshal(doc)
	require.NoError(t, err)
	before := time.Now()
	_, err = s.Admin().PutTier(t.Context(), &limiterv1.PutTierRequest{Name: "advanced", Document: string(raised), Actor: "test"})
	require.NoError(t, err)
	// More than 100 calls within one second pass only under the raised rule.
	require.Eventually(t, func() bool {
		_, err := app.Try(t.Context(), http.MethodGet, "/users/amelia", nil, app.Token)
		return err == nil && most(rec.of(app.Key(), rule), time.Second) > 100
	}, 10*time.Second, time.Microsecond, "the raised rule is in force")
	first := time.Since(before)
	t.Logf("more than 100 in a second %s after the change", first)
	require.Less(t, first, 2*time.Second, "under 1 s to be in force, up to 1 s to count 101 calls")
}

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/services/limiter"
	"github.com/chappe-im/chappe/services/run"
	"github.com/chappe-im/chappe/test/harness"
)

const (
	// loadFor is how long several limiters are loaded.
	loadFor = 10 * time.Second
	// ruled is the rule that the load meets, limitOf its calls a second.
	ruled   = "get_user"
	limitOf = 100
)

// answered is a call of the load.
type answered struct {
	began, ended time.Time
	status       int
}

// load calls an app through one gateway, perSecond times a second until ctx
// ends, and tells what came of it. A call that is late is not made up for.
func load(ctx context.Context, app *harness.App, perSecond int) []answered {
	var mu sync.Mutex
	var log []answered
	calls := make(chan struct{})
	var done sync.WaitGroup
	for range 8 {
		done.Go(func() {
			for range calls {
				a := answered{began: time.Now()}
				r, err := app.Try(context.WithoutCancel(ctx), http.MethodGet, "/users/amelia", nil, app.Token)
				if a.ended = time.Now(); err == nil {
					a.status = r.Status
				}
				mu.Lock()
				log = append(log, a)
				mu.Unlock()
			}
		})
	}
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			select {
			case calls <- struct{}{}:
			default: // all are busy
			}
		}
	}
	close(calls)
	done.Wait()
	return log
}

// loadAll calls every app through every gateway at three times the limit.
func loadAll(ctx context.Context, apps []*harness.App, gateways []*harness.Server) map[*harness.App][]answered {
	ctx, cancel := context.WithTimeout(ctx, loadFor)
	defer cancel()
	var mu sync.Mutex
	all := map[*harness.App][]answered{}
	var done sync.WaitGroup
	for _, app := range apps {
		for _, g := range gateways {
			done.Go(func() {
				log := load(ctx, app.On(g), 3*limitOf/len(gateways))
				mu.Lock()
				defer mu.Unlock()
				all[app] = append(all[app], log...)
			})
		}
	}
	done.Wait()
	return all
}

// newLoadApps makes apps with a user, known to all gateways.
func newLoadApps(t *testing.T, s *harness.Server, gateways []*harness.Server, n int) (apps []*harness.App) {
	t.Helper()
	for range n {
		app := s.NewApp(t, "enterprise", "")
		app.Register(t, "amelia")
		for _, g := range gateways {
			require.Eventually(t, func() bool {
				return app.On(g).Call(t, http.MethodGet, "/users/amelia", nil, app.Token).Status == http.StatusOK
			}, 10*time.Second, 10*time.Millisecond)
		}
		apps = append(apps, app)
	}
	return apps
}

func awaitLimiters(t *testing.T, gateways []*harness.Server, n int) {
	t.Helper()
	for _, g := range gateways {
		require.Eventually(t, func() bool { return int(g.Metric(t, "chappe_limiter_owners")) == n }, 20*time.Second, 10*time.Millisecond)
	}
}

// TestSeveralLimiters loads apps through three gateways at three times their
// limit, with two and with three limiters. By the limiters' own record no
// second of any app sees more than the limit, and hardly any less.
func TestSeveralLimiters(t *testing.T) {
	for _, n := range []int{2, 3} {
		t.Run(fmt.Sprint(n, " limiters"), func(t *testing.T) {
			rec := &record{at: map[string][]int64{}}
			began := time.Now()
			split := harness.StartSplit(t, run.WithLimiterPatience(time.Minute), run.WithLimiterOptions(
				limiter.WithRecorder(rec.note), limiter.WithClock(func() int64 { return int64(time.Since(began)) })))
			for range n - 1 {
				split.Limiter(t)
			}
			gateways := []*harness.Server{split.Server, split.Gateway(t), split.Gateway(t)}
			awaitLimiters(t, gateways, n)
			apps := newLoadApps(t, split.Server, gateways, 3)

			// A machine that stands still makes calls late, never more of them
			// admitted: of a few rounds one has to come within 1 %.
			const rounds = 3
			want := float64(limitOf) * loadFor.Seconds()
			least := 0.0
			for round := range rounds {
				from := int64(time.Since(began))
				answers := loadAll(t.Context(), apps, gateways)
				least = want
				for _, app := range apps {
					at := slices.DeleteFunc(rec.of(app.Key(), ruled), func(at int64) bool { return at < from || at >= from+int64(loadFor) })
					ok := 0
					for _, a := range answers[app] {
						require.Contains(t, []int{http.StatusOK, http.StatusTooManyRequests}, a.status)
						if a.status == http.StatusOK {
							ok++
						}
					}
					t.Logf("round %d, app %s: %d of %d calls admitted in %s, fullest second %d",
						round, app.Name, ok, len(answers[app]), loadFor, most(at, time.Second))
					require.LessOrEqual(t, most(at, time.Second), limitOf)
					require.LessOrEqual(t, float64(ok), 1.01*want, "nobody else admits anything")
					least = min(least, float64(len(at)))
				}
				if least >= 0.99*want {
					return
				}
			}
			require.GreaterOrEqual(t, least, 0.99*want)
		})
	}
}

// TestLimiterDies kills a limiter under load. Its apps get at most one extra
// window's worth, those of the other limiter none, and nobody is refused an
// answer.
func TestLimiterDies(t *testing.T) {
	split := harness.StartSplit(t, run.WithLimiterPatience(time.Minute))
	doomed := split.LimiterProcess(t)
	gateways := []*harness.Server{split.Server, split.Gateway(t), split.Gateway(t)}
	awaitLimiters(t, gateways, 2)
	// Apps are made until each limiter owns one.
	var apps []*harness.App
	owned := map[bool]*harness.App{}
	for len(owned) < 2 {
		before := doomed.Metric(t, "chappe_limiter_admitted_total")
		app := newLoadApps(t, split.Server, gateways, 1)[0]
		owned[doomed.Metric(t, "chappe_limiter_admitted_total") > before] = app
	}
	apps = append(apps, owned[true], owned[false])

	killed := make(chan time.Time, 1)
	timer := time.AfterFunc(loadFor*4/10, func() {
		doomed.Kill(t)
		killed <- time.Now()
	})
	defer timer.Stop()
	all := loadAll(t.Context(), apps, gateways)
	at := <-killed
	for i, extra := range []int{limitOf, 0} {
		var surely, total int
		var slowest time.Duration
		log := all[apps[i]]
		for _, a := range log {
			require.Contains(t, []int{http.StatusOK, http.StatusTooManyRequests}, a.status, "everybody is answered")
			if a.ended.After(at) && a.began.Before(at.Add(2*time.Second)) {
				slowest = max(slowest, a.ended.Sub(a.began))
			}
			if a.status == http.StatusOK {
				total++
			}
		}
		slices.SortFunc(log, func(a, b answered) int { return a.began.Compare(b.began) })
		for j, first := range log {
			n := 0
			for _, a := range log[j:] {
				// Calls that began and ended within a second were decided in it.
				if a.status == http.StatusOK && a.ended.Before(first.began.Add(time.Second)) {
					n++
				}
				if a.began.After(first.began.Add(time.Second)) {
					break
				}
			}
			surely = max(surely, n)
		}
		t.Logf("app %s: %d of %d calls admitted in %s, at most %d in any second; slowest call around the kill %s",
			apps[i].Name, total, len(log), loadFor, surely, slowest)
		require.LessOrEqual(t, surely, limitOf+extra)
		require.LessOrEqual(t, total, limitOf*(int(loadFor.Seconds())+1)+extra, "what full windows hold, and the extra one")
	}
	var alone float64
	for _, g := range gateways {
		alone += g.Metric(t, "chappe_limiter_local_decisions_total")
	}
	require.Positive(t, alone, "gateways that decide by themselves say so")
	awaitLimiters(t, gateways, 1)
}

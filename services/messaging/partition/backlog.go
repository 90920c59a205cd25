package partition

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe-im/chappe/pkg/ident"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// backlogEvery is how often waiting deliveries are reported to the limiter.
const backlogEvery = 500 * time.Millisecond

// backlogs reports what waits at this instance's distributors, so that the
// limiter can refuse sends of an app whose queue has grown too long.
type backlogs struct {
	limiter limiterv1.LimiterServiceClient
	// reporter is the instance's ID.
	reporter string
	total    prometheus.Gauge

	mu  sync.Mutex
	all map[*distributor]struct{}
}

func (b *backlogs) add(d *distributor) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all[d] = struct{}{}
}

func (b *backlogs) remove(d *distributor) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.all, d)
}

// sums returns how many deliveries wait, by app.
func (b *backlogs) sums() map[ident.AppKey]int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	sums := map[ident.AppKey]int64{}
	for d := range b.all {
		d.addWaiting(sums)
	}
	return sums
}

func (b *backlogs) run(ctx context.Context) {
	t := time.NewTicker(backlogEvery)
	defer t.Stop()
	reported := map[ident.AppKey]int64{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		sums := b.sums()
		for app := range reported {
			if _, ok := sums[app]; !ok {
				sums[app] = 0
			}
		}
		total := int64(0)
		for app, n := range sums {
			total += n
			if b.report(ctx, app, n) == nil && n == 0 {
				delete(reported, app)
			} else {
				reported[app] = n
			}
		}
		b.total.Set(float64(total))
	}
}

func (b *backlogs) report(ctx context.Context, app ident.AppKey, n int64) error {
	ctx, cancel := context.WithTimeout(ctx, backlogEvery)
	defer cancel()
	org, name, _ := app.Split()
	_, err := b.limiter.ReportBacklog(ctx, &limiterv1.ReportBacklogRequest{Org: org, App: name, Reporter: b.reporter, Deliveries: n})
	return err
}

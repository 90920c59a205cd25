package messaging

import (
	"context"
	"sync"
	"time"

	"github.com/chappe-im/chappe/pkg/names"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// backlogEvery is how often waiting deliveries are reported to the limiter.
const backlogEvery = 500 * time.Millisecond

// backlogs reports what waits at this instance's distributors, so that the
// limiter can refuse sends of an app whose queue has grown too long.
type backlogs struct {
	svc *Service
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

func (b *backlogs) run(ctx context.Context) {
	t := time.NewTicker(backlogEvery)
	defer t.Stop()
	reported := map[string]int64{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		sums := map[string]int64{}
		b.mu.Lock()
		for d := range b.all {
			d.waiting(sums)
		}
		b.mu.Unlock()
		for app := range reported {
			if _, ok := sums[app]; !ok {
				sums[app] = 0
			}
		}
		total := int64(0)
		for app, n := range sums {
			total += n
			org, name, _ := names.SplitAppKey(app)
			rctx, cancel := context.WithTimeout(ctx, backlogEvery)
			_, err := b.svc.deps.Limiter.ReportBacklog(rctx, &limiterv1.ReportBacklogRequest{
				Org: org, App: name, Reporter: b.svc.owner.id, Deliveries: n,
			})
			cancel()
			if n == 0 && err == nil {
				delete(reported, app)
			} else {
				reported[app] = n
			}
		}
		b.svc.metrics.backlog.Set(float64(total))
	}
}

package partition

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/entrytype"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/natsx"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// distributor pushes one partition's entries to the gateways, in order, within
// each app's downstream budget.
//
// Entries that the budget does not allow at once go, in slices, to the work
// queue of their app, and so does everything paced of that app until the queue
// is empty: that keeps their order. The queue is drained at the pace that the
// limiter grants. Other apps do not wait.
type distributor struct {
	*distribution
	partition int
	logger    *slog.Logger

	ctx     context.Context //nolint:containedctx // the life of the drainers, between start and stop
	cancel  context.CancelFunc
	drained sync.WaitGroup

	mu     sync.Mutex
	queues map[ident.AppKey]*appQueue
	// unlimitedUntil are apps without a bound, and until when to believe it.
	unlimitedUntil map[ident.AppKey]time.Time
}

// distribution has what the distributors of all partitions work with.
type distribution struct {
	nats     *natsx.Conn
	limiter  limiterv1.LimiterServiceClient
	backlogs *backlogs
	metrics  *metrics
	now      func() time.Time
}

// unlimitedFor is how long an answer "no bound" is believed.
const unlimitedFor = time.Second

func newDistributor(s *distribution, partition int, logger *slog.Logger) *distributor {
	return &distributor{
		distribution: s, partition: partition, logger: logger,
		queues: map[ident.AppKey]*appQueue{}, unlimitedUntil: map[ident.AppKey]time.Time{},
	}
}

// start takes up queues that a worker before left behind.
func (d *distributor) start(ctx context.Context) error {
	d.ctx, d.cancel = context.WithCancel(ctx)
	left, err := d.nats.StreamSubjects(ctx, bus.SpillStream(d.partition), bus.SpillSubject(d.partition, "*"))
	if err != nil {
		return err
	}
	d.backlogs.add(d)
	d.mu.Lock()
	defer d.mu.Unlock()
	for subject, n := range left {
		token := subject[strings.LastIndexByte(subject, '.')+1:]
		d.open(ident.AppKey(ident.FromToken(token))).waiting = int64(n) * sliceSize
	}
	return nil
}

// stop ends the drainers and waits for them; their queues stay.
func (d *distributor) stop() {
	if d.cancel == nil {
		return
	}
	d.cancel()
	d.drained.Wait()
	d.backlogs.remove(d)
}

// distribute pushes what may go at once and stores the rest in the work
// queues; it returns when that is committed.
func (d *distributor) distribute(ctx context.Context, groups []group) error {
	var stored []storedSlice
	for _, g := range groups {
		now, app := len(g.entries), ident.AppKey(g.record.GetApp())
		if g.record.GetPaced() {
			now = d.reserveNow(ctx, app, now)
		}
		for i := range now {
			if err := d.push(itemOf(g.record, &g.entries[i]), app); err != nil {
				return err
			}
		}
		if now == len(g.entries) {
			continue
		}
		more, err := d.deferEntries(app, g.record, g.entries[now:])
		if err != nil {
			return err
		}
		stored = append(stored, more...)
	}
	for _, st := range stored {
		if err := natsx.Await(ctx, st.ack); err != nil {
			return err
		}
		d.mu.Lock()
		st.queue.inFlight--
		d.mu.Unlock()
	}
	return nil
}

// storedSlice is a slice on its way into its queue.
type storedSlice struct {
	queue *appQueue
	ack   natsx.PubAckFuture
}

func itemOf(r *busv1.LogRecord, e *entry) *busv1.SpillItem {
	item := &busv1.SpillItem{To: e.to, Kind: r.GetKind(), Push: e.push}
	if r.GetKind() != busv1.Kind_KIND_USER {
		return item // the sender's devices are on the group's subject
	}
	// What a device did, receipts and contact events too, goes to its user as
	// well, even when the user's devices are not to show it: without it each of
	// them would see a gap in the conversation and read the archive for nothing.
	if (r.GetSyncSender() || r.GetFromResource() != "" || entrytype.CopiesToSender(r.GetType())) && r.GetFrom() != e.to && r.GetFrom() != string(ident.Admin) {
		item.CopyTo = r.GetFrom()
	}
	return item
}

func (d *distributor) push(item *busv1.SpillItem, app ident.AppKey) error {
	d.metrics.pushed.Inc()
	if err := d.nats.Publish(bus.DeliverySubject(string(app), item.GetKind(), item.GetTo()), item.GetPush()); err != nil {
		return err
	}
	if item.GetCopyTo() == "" {
		return nil
	}
	return d.nats.Publish(bus.UserSubject(string(app), item.GetCopyTo()), item.GetPush())
}

// reserveNow asks for budget for n deliveries right now and returns how many it got.
// Nothing goes past a queue that is not empty.
func (d *distributor) reserveNow(ctx context.Context, app ident.AppKey, n int) int {
	d.mu.Lock()
	q, until := d.queues[app], d.unlimitedUntil[app]
	d.mu.Unlock()
	if q != nil {
		return 0
	}
	if d.now().Before(until) {
		return n
	}
	granted, _, err := d.reserve(ctx, app, n, 0)
	if err != nil {
		// Pacing protects others from a flood; without a limiter to ask, what
		// is queued is paced by the time it takes to ask again.
		return 0
	}
	return granted
}

// reserve asks the limiter for n deliveries within a delay.
func (d *distributor) reserve(ctx context.Context, app ident.AppKey, n int, maxDelay time.Duration) (granted int, delay time.Duration, err error) {
	org, name, _ := app.Split()
	r, err := d.limiter.Reserve(ctx, &limiterv1.ReserveRequest{Org: org, App: name, Cost: int64(n), MaxDelayMs: maxDelay.Milliseconds()})
	if err != nil {
		return 0, 0, err
	}
	if r.GetUnlimited() {
		d.mu.Lock()
		if len(d.unlimitedUntil) > maxUnlimited {
			clear(d.unlimitedUntil)
		}
		d.unlimitedUntil[app] = d.now().Add(unlimitedFor)
		d.mu.Unlock()
		return n, 0, nil
	}
	return int(r.GetGranted()), time.Duration(r.GetDelayUs()) * time.Microsecond, nil
}

// maxUnlimited bounds the memory of apps without a bound.
const maxUnlimited = 10_000

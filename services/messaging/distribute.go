package messaging

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/names"
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
	svc       *Service
	partition int
	logger    *slog.Logger

	ctx     context.Context //nolint:containedctx // the life of the drainers, between start and stop
	cancel  context.CancelFunc
	drained sync.WaitGroup

	mu    sync.Mutex
	flows map[string]*flow
	// free are apps without a bound, and until when to believe it.
	free map[string]time.Time
}

// flow is an app's queue of waiting deliveries.
type flow struct {
	app     string
	pending int64
	// storing counts slices on their way into the queue.
	storing int
}

// sliceSize is how many deliveries of a queue go out at once: at 2,000 a
// second, every 20 ms.
const sliceSize = 40

// freeFor is how long an answer "no bound" is believed.
const freeFor = time.Second

func newDistributor(s *Service, partition int, logger *slog.Logger) *distributor {
	return &distributor{svc: s, partition: partition, logger: logger, flows: map[string]*flow{}, free: map[string]time.Time{}}
}

// start takes up queues that a worker before left behind.
func (d *distributor) start(ctx context.Context) error {
	d.ctx, d.cancel = context.WithCancel(ctx)
	left, err := d.svc.deps.NATS.StreamSubjects(ctx, bus.SpillStream(d.partition), bus.SpillSubject(d.partition, "*"))
	if err != nil {
		return err
	}
	d.svc.backlogs.add(d)
	d.mu.Lock()
	defer d.mu.Unlock()
	for subject, n := range left {
		token := subject[strings.LastIndexByte(subject, '.')+1:]
		d.open(names.FromToken(token)).pending = int64(n) * sliceSize //nolint:gosec // a count
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
	d.svc.backlogs.remove(d)
}

// distribute pushes what may go at once and stores the rest in the work
// queues; it returns when that is committed.
func (d *distributor) distribute(ctx context.Context, groups []group) error {
	var stored []storing
	for _, g := range groups {
		now := len(g.entries)
		if g.record.GetPaced() {
			now = d.take(ctx, g.record.GetApp(), now)
		}
		for _, e := range g.entries[:now] {
			if err := d.push(itemOf(g.record, e), g.record.GetApp()); err != nil {
				return err
			}
		}
		if now == len(g.entries) {
			continue
		}
		more, err := d.spill(g.record, g.entries[now:])
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
		st.flow.storing--
		d.mu.Unlock()
	}
	return nil
}

// storing is a slice on its way into its queue.
type storing struct {
	flow *flow
	ack  natsx.PubAckFuture
}

func itemOf(r *busv1.LogRecord, e *entry) *busv1.SpillItem {
	item := &busv1.SpillItem{To: e.to, Kind: r.GetKind(), Push: e.push}
	if r.GetKind() != busv1.Kind_KIND_USER {
		return item // the sender's devices are on the group's subject
	}
	// What a device did, receipts and contact events too, goes to its user as
	// well, even when the user's devices are not to show it: without it each of
	// them would see a gap in the conversation and read the archive for nothing.
	if (r.GetSyncSender() || r.GetFromResource() != "" || bus.IsEvent(r.GetType())) && r.GetFrom() != e.to && r.GetFrom() != names.AdminUser {
		item.CopyTo = r.GetFrom()
	}
	return item
}

func (d *distributor) push(item *busv1.SpillItem, app string) error {
	d.svc.metrics.pushed.Inc()
	if err := d.svc.deps.NATS.Publish(bus.DeliverySubject(app, item.GetKind(), item.GetTo()), item.GetPush()); err != nil {
		return err
	}
	if item.GetCopyTo() == "" {
		return nil
	}
	return d.svc.deps.NATS.Publish(bus.UserSubject(app, item.GetCopyTo()), item.GetPush())
}

// take asks for budget for n deliveries right now and returns how many it got.
// Nothing goes past a queue that is not empty.
func (d *distributor) take(ctx context.Context, app string, n int) int {
	d.mu.Lock()
	f, until := d.flows[app], d.free[app]
	d.mu.Unlock()
	if f != nil {
		return 0
	}
	if d.svc.deps.Now().Before(until) {
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
func (d *distributor) reserve(ctx context.Context, app string, n int, maxDelay time.Duration) (granted int, delay time.Duration, err error) {
	org, name, _ := names.SplitAppKey(app)
	r, err := d.svc.deps.Limiter.Reserve(ctx, &limiterv1.ReserveRequest{Org: org, App: name, Cost: int64(n), MaxDelayMs: maxDelay.Milliseconds()})
	if err != nil {
		return 0, 0, err
	}
	if r.GetUnlimited() {
		d.mu.Lock()
		if len(d.free) > maxFree {
			clear(d.free)
		}
		d.free[app] = d.svc.deps.Now().Add(freeFor)
		d.mu.Unlock()
		return n, 0, nil
	}
	return int(r.GetGranted()), time.Duration(r.GetDelayUs()) * time.Microsecond, nil
}

// maxFree bounds the memory of apps without a bound.
const maxFree = 10_000

// spill puts entries into the app's work queue.
func (d *distributor) spill(r *busv1.LogRecord, entries []*entry) ([]storing, error) {
	d.svc.metrics.spilled.Add(float64(len(entries)))
	d.mu.Lock()
	flow := d.open(r.GetApp())
	flow.pending += int64(len(entries))
	flow.storing += (len(entries) + sliceSize - 1) / sliceSize
	d.mu.Unlock()
	var out []storing
	for len(entries) > 0 {
		n := min(sliceSize, len(entries))
		slice := &busv1.Spill{Items: make([]*busv1.SpillItem, n)}
		for i, e := range entries[:n] {
			slice.Items[i] = itemOf(r, e)
		}
		data, err := proto.Marshal(slice)
		if err != nil {
			return nil, err
		}
		ack, err := d.svc.deps.NATS.PublishAsync(bus.SpillSubject(d.partition, r.GetApp()), data, "")
		if err != nil {
			return nil, err
		}
		out = append(out, storing{flow: flow, ack: ack})
		entries = entries[n:]
	}
	return out, nil
}

// open gives the app's flow, beginning to drain it if it is new. The caller
// holds d.mu.
func (d *distributor) open(app string) *flow {
	f := d.flows[app]
	if f == nil {
		f = &flow{app: app}
		d.flows[app] = f
		d.drained.Add(1)
		go func() {
			defer d.drained.Done()
			d.drain(f)
		}()
	}
	return f
}

// drain empties an app's queue at the pace of its budget and ends when nothing
// waits any more.
func (d *distributor) drain(f *flow) {
	for d.ctx.Err() == nil {
		err := d.drainQueue(f)
		if err == nil || d.ctx.Err() != nil {
			return
		}
		d.logger.Warn("queue of waiting deliveries: trying again", "app", f.app, "error", err)
		sleep(d.ctx, 500*time.Millisecond)
	}
}

func (d *distributor) drainQueue(f *flow) error {
	stream, name := bus.SpillStream(d.partition), "drain_"+strings.NewReplacer("=", "_", "#", "_").Replace(names.Token(f.app))
	queue, err := d.svc.deps.NATS.WorkConsumer(d.ctx, stream, name, bus.SpillSubject(d.partition, f.app))
	if err != nil {
		return err
	}
	for {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		msg, err := natsx.NextWork(queue, spillSettle)
		switch {
		case errors.Is(err, natsx.ErrNoWork):
			if d.close(f) {
				return d.svc.deps.NATS.DeleteConsumer(d.ctx, stream, name)
			}
			continue
		case err != nil:
			return err
		}
		var slice busv1.Spill
		if err := proto.Unmarshal(msg.Data(), &slice); err != nil {
			d.logger.Error("slice of waiting deliveries is unreadable and left out", "app", f.app, "error", err)
		}
		if err := d.release(f, slice.GetItems()); err != nil {
			return err
		}
		if err := msg.Ack(); err != nil {
			return err
		}
	}
}

// maxSliceDelay bounds how far ahead budget is reserved.
const maxSliceDelay = 5 * time.Second

// release pushes the items of a slice as budget is granted for them.
func (d *distributor) release(f *flow, items []*busv1.SpillItem) error {
	for len(items) > 0 {
		granted, delay, err := d.reserve(d.ctx, f.app, len(items), maxSliceDelay)
		if err != nil {
			return err
		}
		if delay > 0 && !sleep(d.ctx, delay) {
			return d.ctx.Err()
		}
		granted = min(granted, len(items))
		for _, item := range items[:granted] {
			if err := d.push(item, f.app); err != nil {
				return err
			}
		}
		items = items[granted:]
		d.mu.Lock()
		f.pending = max(0, f.pending-int64(granted))
		d.mu.Unlock()
	}
	return nil
}

// close ends a flow whose queue is empty. Deliveries counted but not stored
// yet keep it open.
func (d *distributor) close(f *flow) bool {
	left, err := d.svc.deps.NATS.StreamSubjects(d.ctx, bus.SpillStream(d.partition), bus.SpillSubject(d.partition, f.app))
	if err != nil || len(left) > 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.storing > 0 {
		return false
	}
	delete(d.flows, f.app)
	return true
}

// waiting adds the app's waiting deliveries to sums.
func (d *distributor) waiting(sums map[string]int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for app, f := range d.flows {
		sums[app] += f.pending
	}
}

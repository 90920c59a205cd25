package partition

import (
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/lifecycle"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// appQueue is an app's queue of deferred deliveries.
type appQueue struct {
	app     ident.AppKey
	waiting int64
	// inFlight counts slices on their way into the queue.
	inFlight int
}

const (
	// sliceSize is how many deliveries of a queue go out at once: at 2,000 a
	// second, every 20 ms.
	sliceSize = 40
	// queueGrace is how long a queue must be empty before its drainer ends.
	queueGrace = 500 * time.Millisecond
	// drainPause is the time between two tries at a queue that failed.
	drainPause = 500 * time.Millisecond
)

// deferEntries puts entries into the app's work queue.
func (d *distributor) deferEntries(app ident.AppKey, r *busv1.LogRecord, entries []entry) ([]storedSlice, error) {
	d.metrics.spilled.Add(float64(len(entries)))
	d.mu.Lock()
	queue := d.open(app)
	queue.waiting += int64(len(entries))
	queue.inFlight += (len(entries) + sliceSize - 1) / sliceSize
	d.mu.Unlock()
	var out []storedSlice
	for len(entries) > 0 {
		n := min(sliceSize, len(entries))
		slice := &busv1.Spill{Items: make([]*busv1.SpillItem, n)}
		for i := range n {
			slice.Items[i] = itemOf(r, &entries[i])
		}
		data, err := proto.Marshal(slice)
		if err != nil {
			return nil, err
		}
		ack, err := d.nats.PublishAsync(bus.SpillSubject(d.partition, string(app)), data, "")
		if err != nil {
			return nil, err
		}
		out = append(out, storedSlice{queue: queue, ack: ack})
		entries = entries[n:]
	}
	return out, nil
}

// open returns the app's queue, beginning to drain it if it is new. The caller
// holds d.mu.
func (d *distributor) open(app ident.AppKey) *appQueue {
	q := d.queues[app]
	if q == nil {
		q = &appQueue{app: app}
		d.queues[app] = q
		d.drained.Go(func() { d.drain(q) })
	}
	return q
}

// drain empties an app's queue at the pace of its budget and ends when nothing
// waits any more.
func (d *distributor) drain(q *appQueue) {
	for d.ctx.Err() == nil {
		err := d.drainQueue(q)
		if err == nil || d.ctx.Err() != nil {
			return
		}
		d.logger.Warn("queue of waiting deliveries: trying again", obs.KeyApp, q.app, obs.KeyError, err)
		_ = lifecycle.Sleep(d.ctx, drainPause)
	}
}

func (d *distributor) drainQueue(q *appQueue) error {
	stream, name := bus.SpillStream(d.partition), "drain_"+strings.NewReplacer("=", "_", "#", "_").Replace(q.app.Token())
	queue, err := d.nats.WorkConsumer(d.ctx, stream, name, bus.SpillSubject(d.partition, string(q.app)))
	if err != nil {
		return err
	}
	for {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		msg, err := natsx.NextWork(queue, queueGrace)
		switch {
		case errors.Is(err, natsx.ErrNoWork):
			if d.close(q) {
				return d.nats.DeleteConsumer(d.ctx, stream, name)
			}
			continue
		case err != nil:
			return err
		}
		var slice busv1.Spill
		if err := proto.Unmarshal(msg.Data(), &slice); err != nil {
			d.logger.Error("slice of waiting deliveries is unreadable and left out", obs.KeyApp, q.app, obs.KeyError, err)
		}
		if err := d.deliverReserved(q, slice.GetItems()); err != nil {
			return err
		}
		if err := msg.Ack(); err != nil {
			return err
		}
	}
}

// maxSliceDelay bounds how far ahead budget is reserved.
const maxSliceDelay = 5 * time.Second

// deliverReserved pushes the items of a slice as budget is granted for them.
func (d *distributor) deliverReserved(q *appQueue, items []*busv1.SpillItem) error {
	for len(items) > 0 {
		granted, delay, err := d.reserve(d.ctx, q.app, len(items), maxSliceDelay)
		if err != nil {
			return err
		}
		if err := lifecycle.Sleep(d.ctx, delay); err != nil {
			return err
		}
		granted = min(granted, len(items))
		for _, item := range items[:granted] {
			if err := d.push(item, q.app); err != nil {
				return err
			}
		}
		items = items[granted:]
		d.mu.Lock()
		q.waiting = max(0, q.waiting-int64(granted))
		d.mu.Unlock()
	}
	return nil
}

// close ends a queue that is empty. Deliveries counted but not stored
// yet keep it open.
func (d *distributor) close(q *appQueue) bool {
	left, err := d.nats.StreamSubjects(d.ctx, bus.SpillStream(d.partition), bus.SpillSubject(d.partition, string(q.app)))
	if err != nil || len(left) > 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if q.inFlight > 0 {
		return false
	}
	delete(d.queues, q.app)
	return true
}

// addWaiting adds how many deliveries of each app wait to sums.
func (d *distributor) addWaiting(sums map[ident.AppKey]int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for app, q := range d.queues {
		sums[app] += q.waiting
	}
}

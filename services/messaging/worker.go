package messaging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/idgen"
	"github.com/chappe-im/chappe/pkg/natsx"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// worker takes one partition of the log into the archive and to the gateways.
// The archive's own note of how far it is, written in the transaction of each
// batch, is the worker's only position: nothing is acknowledged to the log, and
// whoever works on the partition next goes on exactly there.
type worker struct {
	svc       *Service
	partition int
	logger    *slog.Logger
	seq       *sequencer
	dist      *distributor
	// at is where the worker has read to; only at.seq and at.mark move.
	at archivedPlace
	// read is the same for the watch over the log.
	read atomic.Pointer[readPlace]
	// underway are batches on their way into the archive, in order.
	underway chan *batch
}

// readPlace is a place with the fingerprint of its record; 0 if none is known.
type readPlace struct {
	seq  uint64
	mark int64
}

// maxUnderway bounds the batches that pushes of a partition may run ahead of
// the archive, maxUnderwayBytes what they take in memory over all partitions.
// While the database is away, pushes go on within these bounds; the log keeps
// what the archive does not have.
const (
	maxUnderway      = 4096
	maxUnderwayBytes = 64 << 20
)

// maxBatch bounds the records that a worker takes in one go, maxBatchEntries
// the entries after which it takes no further record.
const (
	maxBatch        = 512
	maxBatchEntries = 4000
)

// maxWorkerPause is the longest time before a worker that failed begins anew:
// what it needs may be back any moment.
const maxWorkerPause = 500 * time.Millisecond

// run works until ctx ends; after a failure it begins anew from the archive.
func (s *Service) runWorker(ctx context.Context, partition int) {
	logger := s.deps.Logger.With("partition", partition)
	s.metrics.partition.Inc()
	defer s.metrics.partition.Dec()
	for delay := 50 * time.Millisecond; ; delay = min(2*delay, maxWorkerPause) {
		began := time.Now()
		err := s.workPartition(ctx, partition, logger)
		if ctx.Err() != nil {
			return
		}
		cause := "error"
		switch {
		case errors.Is(err, errFenced):
			cause = "fenced"
		case errors.Is(err, errLogChanged):
			cause = "log_changed"
		}
		s.metrics.failures.WithLabelValues(cause).Inc()
		logger.Warn("partition worker starts over", "error", err)
		if cause == "fenced" && !s.owner.awaitOwned(ctx, partition) {
			return
		}
		if time.Since(began) > time.Minute {
			delay = 50 * time.Millisecond
		}
		if !sleep(ctx, delay) {
			return
		}
	}
}

func (s *Service) workPartition(ctx context.Context, partition int, logger *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	seq, err := newSequencer(s.archive)
	if err != nil {
		return err
	}
	at, err := s.settle(ctx, partition, logger)
	if err != nil {
		return err
	}
	w := &worker{svc: s, partition: partition, logger: logger, seq: seq, at: at, underway: make(chan *batch, maxUnderway)}
	w.read.Store(&readPlace{seq: at.seq, mark: at.mark})
	w.dist = newDistributor(s, partition, logger)
	defer w.dist.stop()
	if err := w.dist.start(ctx); err != nil {
		return err
	}
	var archived sync.WaitGroup
	archived.Go(func() { w.awaitArchive(cancel) })
	defer archived.Wait()
	defer close(w.underway)
	var watched sync.WaitGroup
	watched.Go(func() { w.watchLog(ctx, cancel) })
	defer watched.Wait()
	defer cancel(nil)

	reader, err := s.deps.NATS.ReadStream(ctx, bus.LogStream(partition), at.seq+1, maxBatch)
	if err != nil {
		return err
	}
	defer reader.Stop()
	batch := make([]natsx.StreamMsg, 0, maxBatch)
	for {
		batch, err = reader.Next(ctx, batch[:0], maxBatch)
		if err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		for rest := batch; len(rest) > 0; {
			n, err := w.process(ctx, rest)
			if err != nil {
				return errors.Join(err, context.Cause(ctx))
			}
			rest = rest[n:]
		}
	}
}

// awaitArchive ends the worker when a batch could not be archived. Those after
// it fail as well, for they no longer follow on the archive's position.
func (w *worker) awaitArchive(fail context.CancelCauseFunc) {
	for b := range w.underway {
		if err := <-b.done; err != nil {
			fail(err)
		}
	}
}

// process takes a batch through sequencing, archive and distribution and tells
// how many of the messages it took. Pushes run beside the archive's
// transaction.
func (w *worker) process(ctx context.Context, msgs []natsx.StreamMsg) (taken int, err error) {
	b := &batch{partition: w.partition, epoch: w.at.epoch, from: w.at.seq, through: w.at.seq, mark: w.at.mark}
	groups := make([]group, 0, len(msgs))
	for _, m := range msgs {
		if len(b.entries) >= maxBatchEntries {
			break
		}
		taken++
		meta, err := m.Metadata()
		if err != nil {
			return 0, fmt.Errorf("message of the log: %w", err)
		}
		place := meta.Sequence.Stream
		if place <= b.through {
			continue
		}
		if err := w.countHole(ctx, b.through+1, place); err != nil {
			return 0, err
		}
		b.through, b.mark = place, fingerprint(m.Data())
		var r busv1.LogRecord
		if err := proto.Unmarshal(m.Data(), &r); err != nil {
			// Nobody but us writes here, so this is a fault of ours; the log
			// keeps the record, and the partition must not stand still for it.
			w.logger.Error("record of the log is unreadable and left out", "stream_seq", b.through, "error", err)
			continue
		}
		if place <= w.at.repeats {
			if err := w.leaveOut(ctx, &r); err != nil {
				return 0, err
			}
		}
		g, err := w.sequence(ctx, &r, b)
		if err != nil {
			return 0, err
		}
		if len(g.entries) > 0 {
			groups = append(groups, g)
		}
	}
	if b.through == w.at.seq {
		return taken, nil
	}
	// What has to wait for budget is stored before the log's position moves
	// past it.
	if err := w.dist.distribute(ctx, groups); err != nil {
		return 0, err
	}
	if err := w.svc.archive.submit(ctx, b); err != nil {
		return 0, err
	}
	w.underway <- b
	w.at.seq, w.at.mark = b.through, b.mark
	w.read.Store(&readPlace{seq: b.through, mark: b.mark})
	return taken, nil
}

// leaveOut takes the targets off a record whose messages are archived.
func (w *worker) leaveOut(ctx context.Context, r *busv1.LogRecord) error {
	out, err := w.svc.leftOut(ctx, r)
	if err != nil {
		return err
	}
	r.Targets = slices.DeleteFunc(r.GetTargets(), func(t *busv1.LogTarget) bool { return out[t.GetId()] })
	return nil
}

// countHole counts the records from one place to before another that the log
// no longer holds: nothing takes records out of its middle but damage, and
// what it drops at its beginning should have been archived long before.
func (w *worker) countHole(ctx context.Context, from, to uint64) error {
	// Before repeats the hole was there when the epoch began, and what was in
	// it is counted or archived.
	from = max(from, w.at.repeats+1)
	if from >= to {
		return nil
	}
	lost := to - from
	if err := w.svc.archive.addLost(ctx, w.partition, lost); err != nil {
		return err
	}
	w.svc.gates.addLost(w.partition, lost)
	w.svc.metrics.logLost.Add(float64(lost))
	w.logger.Error("records of the log are lost before they were archived", "first", from, "last", to-1, "lost", lost,
		"hint", "the log's files are damaged, or the archive was away for longer than the log is kept; see docs/operations.md")
	return nil
}

// watchEvery is how often a worker looks whether the log still is what it read.
const watchEvery = time.Second

// watchLog ends the worker when the log under it is not what it was: the
// gate was shut, or the log ends before what was read of it, or holds something
// else there.
func (w *worker) watchLog(ctx context.Context, fail context.CancelCauseFunc) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		open, changed := w.svc.gates.state(w.partition)
		if !open {
			fail(errLogChanged)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
			continue
		case <-t.C:
		}
		read := w.read.Load()
		log, err := w.svc.deps.NATS.StreamState(ctx, bus.LogStream(w.partition))
		switch {
		case errors.Is(err, natsx.ErrNoStream):
		case err != nil:
			continue // it cannot be asked; reading goes on when it can
		case log.Created.UnixNano() == w.at.created && log.Last >= read.seq && w.same(ctx, log, read):
			w.trim(ctx, log)
			continue
		}
		w.svc.gates.closeFor(w.partition, "the log has changed while it was read")
		fail(errLogChanged)
		return
	}
}

// A log that is fuller than trimAt percent of its bound is trimmed to trimTo.
const (
	trimAt = 80
	trimTo = 70
)

// trim drops the oldest records of a log that is nearly full, as far as they
// are archived. What is not stays, and sends are refused if that fills the log.
func (w *worker) trim(ctx context.Context, log natsx.StreamState) {
	if log.MaxBytes == 0 || log.Bytes < log.MaxBytes/100*trimAt || log.Last < log.First {
		return
	}
	at, err := w.svc.archive.place(ctx, w.partition)
	if err != nil || at.epoch != w.at.epoch {
		return
	}
	records := log.Last - log.First + 1
	drop := uint64(float64(records) * (1 - float64(log.MaxBytes)*trimTo/100/float64(log.Bytes)))
	// The record at the archive's place stays, to compare it.
	before := min(log.First+drop, at.seq)
	if before <= log.First {
		w.logger.Error("the log is nearly full of messages that are not archived; sends are refused once it is",
			"bytes", log.Bytes, "max_bytes", log.MaxBytes, "archived_through", at.seq, "log_last", log.Last)
		return
	}
	if err := w.svc.deps.NATS.TrimStream(ctx, bus.LogStream(w.partition), before); err != nil {
		w.logger.Warn("the log is nearly full and cannot be trimmed", "error", err)
		return
	}
	w.logger.Info("oldest records of the log are dropped to keep its bound", "before", before, "max_bytes", log.MaxBytes)
}

// same reports whether the log holds what was read at a place, as far as it
// can be asked and holds it at all.
func (w *worker) same(ctx context.Context, log natsx.StreamState, read *readPlace) bool {
	if read.mark == 0 || read.seq < log.First {
		return true
	}
	same, err := w.svc.logHolds(ctx, w.partition, read.seq, read.mark)
	return same || err != nil
}

// group is the entries of one record.
type group struct {
	record  *busv1.LogRecord
	entries []*entry
}

// sequence gives the targets of a record, which the batch reaches to, their
// places and adds their entries to the batch.
func (w *worker) sequence(ctx context.Context, r *busv1.LogRecord, b *batch) (group, error) {
	g := group{record: r, entries: make([]*entry, 0, len(r.GetTargets()))}
	app, ok := w.svc.deps.Apps.AppByKey(r.GetApp())
	if !ok {
		w.logger.Warn("message of an app that is gone is left out", "app", r.GetApp())
		return g, nil
	}
	flags := 0
	if r.GetOnlineOnly() {
		flags |= flagOnlineOnly
	}
	if r.GetSyncSender() {
		flags |= flagSyncSender
	}
	common := deliveryCommon(r)
	entries := make([]entry, len(r.GetTargets()))
	place := bus.LogPlace(w.at.epoch, b.through)
	for i, t := range r.GetTargets() {
		name := conversationOf(r, t.GetTo())
		c, seq, previous, fresh, err := w.seq.next(ctx, app.Number, r.GetKind(), name, place)
		if err != nil {
			return g, err
		}
		if fresh {
			b.fresh = append(b.fresh, c)
		}
		e := &entries[i]
		*e = entry{id: t.GetId(), conv: c, seq: seq, typ: r.GetType(), flags: flags, sender: r.GetFrom(), to: t.GetTo()}
		e.push, e.data = appendPush(common, e.id, name, seq, e.to, place, previous)
		g.entries = append(g.entries, e)
		b.entries = append(b.entries, e)
	}
	if len(entries) > 0 {
		w.svc.metrics.lag.Observe(w.svc.deps.Now().Sub(idgen.Time(entries[0].id)).Seconds())
	}
	return g, nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

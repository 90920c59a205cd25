package partition

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
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/idgen"
	"github.com/chappe-im/chappe/pkg/lifecycle"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	"github.com/chappe-im/chappe/services/messaging/history"
)

// workers has what the workers of all partitions work with.
type workers struct {
	log          *Log
	archive      *history.Archive
	reconciler   *reconciler
	distribution *distribution
	apps         Apps
	metrics      *metrics
	now          func() time.Time
	logger       *slog.Logger
}

// worker takes one partition of the log into the archive and to the gateways.
// The archive's own note of how far it is, written in the transaction of each
// batch, is the worker's only position: nothing is acknowledged to the log, and
// whoever works on the partition next goes on exactly there.
type worker struct {
	*workers
	partition int
	logger    *slog.Logger
	seq       *sequencer
	dist      *distributor
	// at is where the worker has read to; only at.Offset and at.Mark move.
	at history.Position
	// read is the same for the watch over the log.
	read atomic.Pointer[readOffset]
	// underway are batches on their way into the archive, in order.
	underway chan *history.Batch
}

// readOffset is an offset with the fingerprint of its record; 0 if none is known.
type readOffset struct {
	offset uint64
	mark   int64
}

// maxUnderway bounds the batches that pushes of a partition may run ahead of
// the archive, which bounds what they take in memory. While the database is away,
// pushes go on within these bounds; the log keeps what the archive does not have.
const maxUnderway = 4096

// maxBatch bounds the records that a worker takes in one go, maxBatchEntries
// the entries after which it takes no further record.
const (
	maxBatch        = 512
	maxBatchEntries = 4000
)

// maxWorkerPause is the longest time before a worker that failed begins anew:
// what it needs may be back any moment.
const maxWorkerPause = 500 * time.Millisecond

// run works on a partition until ctx ends; after a failure it begins anew from
// the archive. A worker that was fenced off goes on only when awaitOwned reports
// that the partition is this instance's.
func (s *workers) run(ctx context.Context, partition int, awaitOwned func(context.Context, int) bool) {
	logger := s.logger.With("partition", partition)
	s.metrics.partition.Inc()
	defer s.metrics.partition.Dec()
	for delay := 50 * time.Millisecond; ; delay = min(2*delay, maxWorkerPause) {
		began := time.Now()
		err := s.work(ctx, partition, logger)
		if ctx.Err() != nil {
			return
		}
		cause := "error"
		switch {
		case errors.Is(err, history.ErrFenced):
			cause = "fenced"
		case errors.Is(err, errLogChanged):
			cause = "log_changed"
		}
		s.metrics.failures.WithLabelValues(cause).Inc()
		logger.Warn("partition worker starts over", obs.KeyError, err)
		if cause == "fenced" && !awaitOwned(ctx, partition) {
			return
		}
		if time.Since(began) > time.Minute {
			delay = 50 * time.Millisecond
		}
		if lifecycle.Sleep(ctx, delay) != nil {
			return
		}
	}
}

func (s *workers) work(ctx context.Context, partition int, logger *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	seq, err := newSequencer(s.archive)
	if err != nil {
		return err
	}
	at, err := s.reconciler.reconcile(ctx, partition, logger)
	if err != nil {
		return err
	}
	w := &worker{workers: s, partition: partition, logger: logger, seq: seq, at: at, underway: make(chan *history.Batch, maxUnderway)}
	w.read.Store(&readOffset{offset: at.Offset, mark: at.Mark})
	w.dist = newDistributor(s.distribution, partition, logger)
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

	reader, err := s.log.nats.ReadStream(ctx, bus.LogStream(partition), at.Offset+1, maxBatch)
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
		if err := <-b.Done(); err != nil {
			fail(err)
		}
	}
}

// process takes a batch through sequencing, archive and distribution and tells
// how many of the messages it took. Pushes run beside the archive's
// transaction.
func (w *worker) process(ctx context.Context, msgs []natsx.StreamMsg) (taken int, err error) {
	b := &history.Batch{Partition: w.partition, Epoch: w.at.Epoch, From: w.at.Offset, Through: w.at.Offset, Mark: w.at.Mark}
	groups := make([]group, 0, len(msgs))
	for _, m := range msgs {
		if len(b.Entries) >= maxBatchEntries {
			break
		}
		taken++
		meta, err := m.Metadata()
		if err != nil {
			return 0, fmt.Errorf("message of the log: %w", err)
		}
		offset := meta.Sequence.Stream
		if offset <= b.Through {
			continue
		}
		if err := w.countHole(ctx, b.Through+1, offset); err != nil {
			return 0, err
		}
		b.Through, b.Mark = offset, history.Fingerprint(m.Data())
		var r busv1.LogRecord
		if err := proto.Unmarshal(m.Data(), &r); err != nil {
			// Nobody but us writes here, so this is a fault of ours; the log
			// keeps the record, and the partition must not stand still for it.
			w.logger.Error("record of the log is unreadable and left out", "stream_seq", b.Through, obs.KeyError, err)
			continue
		}
		if offset <= w.at.Repeats {
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
	if b.Through == w.at.Offset {
		return taken, nil
	}
	// What has to wait for budget is stored before the log's position moves
	// past it.
	if err := w.dist.distribute(ctx, groups); err != nil {
		return 0, err
	}
	if err := w.archive.Submit(ctx, b); err != nil {
		return 0, err
	}
	w.underway <- b
	w.at.Offset, w.at.Mark = b.Through, b.Mark
	w.read.Store(&readOffset{offset: b.Through, mark: b.Mark})
	return taken, nil
}

// leaveOut takes the targets off a record whose messages are archived.
func (w *worker) leaveOut(ctx context.Context, r *busv1.LogRecord) error {
	out, err := w.reconciler.leftOut(ctx, r)
	if err != nil {
		return err
	}
	r.Targets = slices.DeleteFunc(r.GetTargets(), func(t *busv1.LogTarget) bool { return out[t.GetId()] })
	return nil
}

// countHole counts the records from one offset to before another that the log
// no longer holds: nothing takes records out of its middle but damage, and
// what it drops at its beginning should have been archived long before.
func (w *worker) countHole(ctx context.Context, from, to uint64) error {
	// Before repeats the hole was there when the epoch began, and what was in
	// it is counted or archived.
	from = max(from, w.at.Repeats+1)
	if from >= to {
		return nil
	}
	lost := to - from
	if err := w.archive.AddLost(ctx, w.partition, lost); err != nil {
		return err
	}
	w.log.gates.addLost(w.partition, lost)
	w.metrics.logLost.Add(float64(lost))
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
		open, changed := w.log.gates.state(w.partition)
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
		log, err := w.log.nats.StreamState(ctx, bus.LogStream(w.partition))
		switch {
		case errors.Is(err, natsx.ErrNoStream):
		case err != nil:
			continue // it cannot be asked; reading goes on when it can
		case log.Created.UnixNano() == w.at.Created && log.Last >= read.offset && w.same(ctx, log, read):
			w.trim(ctx, log)
			continue
		}
		w.log.gates.closeFor(w.partition, "the log has changed while it was read")
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
	at, err := w.archive.Position(ctx, w.partition)
	if err != nil || at.Epoch != w.at.Epoch {
		return
	}
	records := log.Last - log.First + 1
	drop := uint64(float64(records) * (1 - float64(log.MaxBytes)*trimTo/100/float64(log.Bytes)))
	// The record at the archive's position stays, to compare it.
	before := min(log.First+drop, at.Offset)
	if before <= log.First {
		w.logger.Error("the log is nearly full of messages that are not archived; sends are refused once it is",
			"bytes", log.Bytes, "max_bytes", log.MaxBytes, "archived_through", at.Offset, "log_last", log.Last)
		return
	}
	if err := w.log.nats.TrimStream(ctx, bus.LogStream(w.partition), before); err != nil {
		w.logger.Warn("the log is nearly full and cannot be trimmed", obs.KeyError, err)
		return
	}
	w.logger.Info("oldest records of the log are dropped to keep its bound", "before", before, "max_bytes", log.MaxBytes)
}

// same reports whether the log holds what was read at an offset, as far as it
// can be asked and holds it at all.
func (w *worker) same(ctx context.Context, log natsx.StreamState, read *readOffset) bool {
	if read.mark == 0 || read.offset < log.First {
		return true
	}
	same, err := w.log.holds(ctx, w.partition, read.offset, read.mark)
	return same || err != nil
}

// entry is a sequenced message with what the gateways get of it.
type entry struct {
	history.Entry
	to   string
	push []byte // the Push, which holds Data
}

// entryOverhead is what an entry takes in memory besides its texts, in bytes.
const entryOverhead = 256

// group is the entries of one record.
type group struct {
	record  *busv1.LogRecord
	entries []entry
}

// sequence gives the targets of a record, which the batch reaches to, their
// seqs and adds their entries to the batch.
func (w *worker) sequence(ctx context.Context, r *busv1.LogRecord, b *history.Batch) (group, error) {
	app, ok := w.apps.AppByKey(r.GetApp())
	if !ok {
		w.logger.Warn("message of an app that is gone is left out", obs.KeyApp, r.GetApp())
		return group{}, nil
	}
	flags := history.Flags(0)
	if r.GetOnlineOnly() {
		flags |= history.OnlineOnly
	}
	if r.GetSyncSender() {
		flags |= history.SyncSender
	}
	common := deliveryCommon(r)
	g := group{record: r, entries: make([]entry, len(r.GetTargets()))}
	place := bus.LogPlace(w.at.Epoch, b.Through)
	for i, t := range r.GetTargets() {
		name := ConversationOf(r, t.GetTo())
		c, seq, previous, fresh, err := w.seq.next(ctx, app.Number, r.GetKind(), name, place)
		if err != nil {
			return g, err
		}
		if fresh {
			b.Fresh = append(b.Fresh, c)
		}
		push, data := appendPush(common, t.GetId(), name, seq, t.GetTo(), place, previous)
		e := &g.entries[i]
		*e = entry{to: t.GetTo(), push: push, Entry: history.Entry{
			ID: t.GetId(), Conversation: c, Seq: seq, Type: r.GetType(), Flags: flags, Sender: ident.UserID(r.GetFrom()), Data: data,
		}}
		b.Entries = append(b.Entries, &e.Entry)
		b.Size += int64(len(push)) + entryOverhead
	}
	if len(g.entries) > 0 {
		w.metrics.lag.Observe(w.now().Sub(idgen.Time(g.entries[0].ID)).Seconds())
	}
	return g, nil
}

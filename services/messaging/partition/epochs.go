package partition

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/idgen"
	"github.com/chappe-im/chappe/pkg/natsx"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	"github.com/chappe-im/chappe/services/messaging/history"
)

// Log and archive are written by two systems, which lose different things when
// power fails, a disk breaks or a backup is put back. A log that ends before
// what was archived would give its next messages offsets that the archive has
// passed already. So the two are compared whenever the log may have changed, and
// where they disagree a new epoch begins: the archive takes the log from the
// offset on at which it holds what is not archived. Offsets are comparable within
// one epoch only.

// errLogChanged says that the log under a worker is not what it was.
var errLogChanged = errors.New("the log has changed")

// errForeignLog says that the log belongs to another installation.
var errForeignLog = errors.New("the log is not this installation's: connect the NATS server that is, or restart with --accept-installation")

// Apps finds the app that a record names.
type Apps interface {
	AppByKey(key string) (*catalog.App, bool)
}

// reconciler makes log and archive of the partitions agree and opens their
// gates.
type reconciler struct {
	log     *Log
	archive *history.Archive
	barrier *history.ReadBarrier
	apps    Apps
	metrics *metrics
	now     func() time.Time
}

// comparison is what log and archive say of a partition.
type comparison struct {
	// seen is what this process had seen of the log before.
	seen sight
	at   history.Position
	log  natsx.StreamState
	// logEpoch is the epoch that the log says it is of.
	logEpoch int64
	// adopt says that the archive has to note the log as its own.
	adopt bool
	// why they disagree; empty if they do not.
	why string
	// ours says that nothing but what this process saw speaks against the log.
	ours bool
}

// compare looks whether a partition's log goes on where the archive is.
func (r *reconciler) compare(ctx context.Context, p int) (c comparison, err error) {
	c.seen = r.log.gates.seen(p)
	stream := bus.LogStream(p)
	if c.at, err = r.archive.Position(ctx, p); err != nil {
		return c, err
	}
	c.log, err = r.log.nats.StreamState(ctx, stream)
	if errors.Is(err, natsx.ErrNoStream) {
		// It was deleted while we run.
		if err = r.log.ensureStreams(ctx, p); err == nil {
			c.log, err = r.log.nats.StreamState(ctx, stream)
		}
	}
	if err != nil {
		return c, err
	}
	if is, want := c.log.Metadata[natsx.InstallationKey], r.log.nats.Installation(); is != "" && want != "" && is != want {
		return c, fmt.Errorf("%w: stream %s carries installation %s, this process belongs to %s", errForeignLog, stream, is, want)
	}
	if c.logEpoch, err = epochOf(p, c.log); err != nil {
		return c, err
	}
	switch {
	case c.at.Offset == 0 && c.logEpoch >= c.at.Epoch:
		c.adopt = c.at.Created != c.log.Created.UnixNano() || c.logEpoch != c.at.Epoch // nothing of it was archived
	case c.at.Created != 0 && c.at.Created != c.log.Created.UnixNano():
		c.why = "the log is another one than was archived"
	case c.at.Created != 0 && c.at.Epoch != c.logEpoch:
		c.why = fmt.Sprintf("the log is of epoch %d, the archive of epoch %d", c.logEpoch, c.at.Epoch)
	case c.log.Last < c.at.Offset:
		c.why = fmt.Sprintf("the log ends at %d, the archive at %d", c.log.Last, c.at.Offset)
	case c.at.Mark != 0 && c.at.Offset >= c.log.First:
		same, err := r.log.holds(ctx, p, c.at.Offset, c.at.Mark)
		if err != nil {
			return c, err
		}
		if !same {
			c.why = fmt.Sprintf("the log holds something else at %d than was archived", c.at.Offset)
		}
	}
	c.adopt = c.adopt || c.at.Created == 0
	if c.why == "" && c.seen.epoch == c.at.Epoch {
		switch {
		case c.seen.acked > c.log.Last:
			c.ours, c.why = true, fmt.Sprintf("the log ends at %d, and %d was acknowledged", c.log.Last, c.seen.acked)
		case !c.seen.suspected.IsZero():
			c.ours, c.why = true, "the log gave out an offset a second time"
		}
	}
	return c, nil
}

// holds reports whether an offset of a partition's log holds the record with a
// fingerprint.
func (l *Log) holds(ctx context.Context, p int, offset uint64, mark int64) (bool, error) {
	data, ok, err := l.nats.StreamRecord(ctx, bus.LogStream(p), offset)
	return ok && history.Fingerprint(data) == mark, err
}

// reconcile makes log and archive of a partition agree and opens its gate. It is
// called by the partition's worker before anything else.
func (r *reconciler) reconcile(ctx context.Context, p int, logger *slog.Logger) (history.Position, error) {
	for {
		c, err := r.compare(ctx, p)
		if errors.Is(err, errForeignLog) {
			r.log.gates.closeFor(p, err.Error())
		}
		if err != nil {
			return c.at, err
		}
		if c.why == "" {
			if c.adopt {
				if err := r.archive.Adopt(ctx, p, c.logEpoch, c.log.Created.UnixNano()); err != nil {
					return c.at, err
				}
				if c.at, err = r.archive.Position(ctx, p); err != nil {
					return c.at, err
				}
			}
			if r.agreed(p, c) {
				return c.at, nil
			}
			continue
		}
		r.log.gates.closeFor(p, c.why)
		if err := r.beginEpoch(ctx, p, c, logger); err != nil {
			return c.at, err
		}
	}
}

// agreed opens a partition's gate, unless something has changed since the
// comparison began.
func (r *reconciler) agreed(p int, c comparison) bool {
	if c.seen.epoch != c.at.Epoch {
		r.barrier.Archived(p, bus.LogPlace(c.at.Epoch, c.at.Offset))
	}
	if !r.log.gates.openFor(p, c.seen, c.at, c.log.Last) {
		return false
	}
	r.metrics.logEpoch.WithLabelValues(strconv.Itoa(p)).Set(float64(c.at.Epoch))
	return true
}

// beginEpoch has the archive go on in a log that is not the one it was in.
func (r *reconciler) beginEpoch(ctx context.Context, p int, c comparison, logger *slog.Logger) error {
	to := history.Position{Epoch: max(c.at.Epoch, c.logEpoch) + 1, Created: c.log.Created.UnixNano()}
	if err := r.log.nats.SetStreamMetadata(ctx, bus.LogStream(p), epochKey, strconv.FormatInt(to.Epoch, 10)); err != nil {
		return err
	}
	log, err := r.log.nats.StreamState(ctx, bus.LogStream(p))
	if err != nil {
		return err
	}
	if to.Began, err = r.fork(ctx, p, log); err != nil {
		return err
	}
	lost := c.lost()
	to.Offset, to.Repeats, to.Lost = to.Began, log.Last, c.at.Lost+int64(lost)
	if err := r.archive.BeginEpoch(ctx, p, c.at, to); err != nil {
		return err
	}
	r.metrics.logLost.Add(float64(lost))
	logger.Error("log and archive disagreed: a new epoch of the log begins", "reason", c.why, "epoch", to.Epoch,
		"archived_through", c.at.Offset, "log_first", log.First, "log_last", log.Last, "goes_on_after", to.Began, "lost", lost,
		"hint", "what was acknowledged after the last archived message and is not in this log is lost; see docs/operations.md")
	return nil
}

// lost counts the records that this process knows to be lost with a log: those
// it saw acknowledged that were not archived and are not in the log any more.
// What other processes acknowledged it cannot know.
func (c *comparison) lost() uint64 {
	if c.seen.epoch != c.at.Epoch {
		return 0
	}
	kept := c.at.Offset
	if c.at.Created == c.log.Created.UnixNano() && c.at.Epoch == c.logEpoch {
		switch {
		case !c.seen.suspected.IsZero():
			kept = max(kept, c.seen.rolledBack)
		case c.seen.acked > c.log.Last || c.log.Last < c.at.Offset:
			kept = max(kept, c.log.Last)
		default:
			return 0 // a hole, which the worker counts when it gets there
		}
	}
	if c.seen.acked <= kept {
		return 0
	}
	return c.seen.acked - kept
}

// fork finds the offset before the first record of a log that is not archived.
// Records are archived in their order, so those that are come first, and are
// passed over without being read.
func (r *reconciler) fork(ctx context.Context, p int, log natsx.StreamState) (uint64, error) {
	low, high := max(log.First, 1), log.Last+1 // the first record not archived is within
	for low < high {
		middle := low + (high-low)/2
		at, data, ok, err := r.log.nats.NextStreamRecord(ctx, bus.LogStream(p), bus.LogFilter(p), middle)
		if err != nil {
			return 0, err
		}
		if !ok {
			high = middle
			continue
		}
		known, err := r.isArchived(ctx, data)
		if err != nil {
			return 0, err
		}
		if known {
			low = min(at, log.Last) + 1
		} else {
			high = middle
		}
	}
	return low - 1, nil
}

// isArchived reports whether the archive holds the messages of a record.
func (r *reconciler) isArchived(ctx context.Context, data []byte) (bool, error) {
	var record busv1.LogRecord
	if err := proto.Unmarshal(data, &record); err != nil || len(record.GetTargets()) == 0 {
		return false, nil //nolint:nilerr // the worker reports it
	}
	app, ok := r.apps.AppByKey(record.GetApp())
	if !ok {
		return false, nil
	}
	id := record.GetTargets()[0].GetId()
	known, err := r.archive.Holds(ctx, app.Number, []int64{id})
	return known[id], err
}

// leftOut tells which messages of a record that may have been archived before
// are not to be archived now: those that were, and those so old that they were
// deleted since.
func (r *reconciler) leftOut(ctx context.Context, record *busv1.LogRecord) (map[int64]bool, error) {
	app, ok := r.apps.AppByKey(record.GetApp())
	if !ok {
		return nil, nil
	}
	ids := make([]int64, len(record.GetTargets()))
	for i, t := range record.GetTargets() {
		ids[i] = t.GetId()
	}
	out, err := r.archive.Holds(ctx, app.Number, ids)
	if err != nil {
		return nil, err
	}
	if kept := app.Tier.Retention(); kept > 0 {
		oldest := idgen.FirstAt(r.now().Add(-kept))
		for _, id := range ids {
			if id < oldest {
				out[id] = true
			}
		}
	}
	return out, nil
}

const (
	// compareEvery is how often partitions with a shut gate are compared.
	compareEvery = 100 * time.Millisecond
	// suspectFor is how long a process that alone has seen a log go back leaves
	// the partition's worker time to see it too.
	suspectFor = 3 * time.Second
)

// run opens the gates of partitions whose worker is elsewhere once log
// and archive agree, and says why they do not.
func (r *reconciler) run(ctx context.Context) {
	for {
		waiting := false
		for p := range r.log.cfg.Partitions {
			if open, _ := r.log.gates.state(p); open {
				continue
			}
			c, err := r.compare(ctx, p)
			suspected := c.seen.suspected
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				r.log.gates.closeFor(p, "log and archive cannot be compared: "+err.Error())
			case c.why == "" && !c.adopt, c.ours && !suspected.IsZero() && time.Since(suspected) > suspectFor:
				if r.agreed(p, c) {
					continue
				}
			case c.why != "":
				r.log.gates.closeFor(p, c.why)
			}
			waiting = true
		}
		var again <-chan time.Time
		t := time.NewTimer(compareEvery)
		if waiting {
			again = t.C
		}
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-again:
		case <-r.log.gates.shut:
			if waiting { // closeFor above says so as well
				select {
				case <-t.C:
				case <-ctx.Done():
				}
			}
		}
		t.Stop()
	}
}

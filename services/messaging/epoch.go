package messaging

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/idgen"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/store"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// Log and archive are written by two systems, which lose different things when
// power fails, a disk breaks or a backup is put back. A log that ends before
// what was archived would give its next messages places that the archive has
// taken already. So the two are compared whenever the log may have changed, and
// where they disagree a new epoch begins: the archive takes the log from the
// place on at which it holds what is not archived. Places are comparable within
// one epoch only.

// epochKey is where a stream's metadata holds its epoch. A copy of the files
// that was made before an epoch began says so by it.
const epochKey = "chappe_epoch"

// errLogChanged says that the log under a worker is not what it was.
var errLogChanged = errors.New("the log has changed")

// errForeignLog says that the log belongs to another installation.
var errForeignLog = errors.New("the log is not this installation's: connect the NATS server that is, or restart with --accept-installation")

// archivedPlace is how far a partition is archived.
type archivedPlace struct {
	// seq is the place in the log up to which all is archived, of an epoch.
	seq   uint64
	epoch int64
	// created tells the stream, by its time of creation in Unix nanoseconds; 0
	// before it was looked at.
	created int64
	// mark is the fingerprint of the record at seq; 0 if none is known.
	mark int64
	// began is the place before the first record of the epoch that had not been
	// archived when it began; up to repeats there may be some that had.
	began, repeats uint64
	// lost counts the records known to be lost.
	lost int64
}

// fingerprint tells records apart. They hold message IDs, so no two are alike.
func fingerprint(data []byte) int64 {
	return int64(xxhash.Sum64(data) | 1) //nolint:gosec // any number but 0
}

// place reads how far a partition is archived.
func (a *archive) place(ctx context.Context, partition int) (archivedPlace, error) {
	ctx, cancel := context.WithTimeout(ctx, sqlTimeout)
	defer cancel()
	var at archivedPlace
	var seq, began, repeats int64
	err := a.db.Read().QueryRowContext(ctx, `SELECT stream_seq, epoch, created, fingerprint, began, repeats, lost FROM log_position WHERE partition_no = $1`,
		partition).Scan(&seq, &at.epoch, &at.created, &at.mark, &began, &repeats, &at.lost)
	if errors.Is(err, sql.ErrNoRows) {
		return archivedPlace{}, nil
	}
	at.seq, at.began, at.repeats = uint64(seq), uint64(began), uint64(repeats) //nolint:gosec // never negative
	return at, store.Translate(err)
}

// sqlTimeout bounds one look into the database that everything waits for.
const sqlTimeout = 5 * time.Second

// begin makes the row of a partition and notes the stream it belongs to.
func (a *archive) begin(ctx context.Context, partition int, epoch, created int64) error {
	ctx, cancel := context.WithTimeout(ctx, sqlTimeout)
	defer cancel()
	return a.db.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO log_position (partition_no, stream_seq, epoch, created) VALUES ($1, 0, $2, $3) ON CONFLICT DO NOTHING`,
			partition, epoch, created); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE log_position SET epoch = $1, created = $2 WHERE partition_no = $3 AND (created = 0 OR stream_seq = 0)`,
			epoch, created, partition)
		return err
	})
}

// renew moves a partition from one place to another of a new epoch, unless
// somebody else has moved it.
func (a *archive) renew(ctx context.Context, partition int, from, to archivedPlace) error {
	ctx, cancel := context.WithTimeout(ctx, sqlTimeout)
	defer cancel()
	return a.db.Write(ctx, func(tx *sql.Tx) error {
		//nolint:gosec // places stay far below 2^63
		r, err := tx.ExecContext(ctx, `UPDATE log_position SET stream_seq = $1, epoch = $2, created = $3, fingerprint = $4, began = $5, repeats = $6, lost = $7
			WHERE partition_no = $8 AND epoch = $9 AND stream_seq = $10`,
			int64(to.seq), to.epoch, to.created, to.mark, int64(to.began), int64(to.repeats), to.lost, partition, from.epoch, int64(from.seq))
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return errFenced
	})
}

// addLost counts records that are lost.
func (a *archive) addLost(ctx context.Context, partition int, n uint64) error {
	ctx, cancel := context.WithTimeout(ctx, sqlTimeout)
	defer cancel()
	return a.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE log_position SET lost = lost + $1 WHERE partition_no = $2`, int64(n), partition) //nolint:gosec // a count
		return err
	})
}

// holds tells which messages of an app the archive holds.
func (a *archive) holds(ctx context.Context, app int64, ids []int64) (map[int64]bool, error) {
	out := map[int64]bool{}
	for len(ids) > 0 {
		some := ids[:min(len(ids), 256)]
		ids = ids[len(some):]
		args := make([]any, 0, len(some)+1)
		args = append(args, app)
		for _, id := range some {
			args = append(args, id)
		}
		rows, err := a.db.Read().QueryContext(ctx, `SELECT id FROM message WHERE app = $1 AND id IN (`+store.In(2, len(some))+`)`, args...)
		if err != nil {
			return nil, store.Translate(err)
		}
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				_ = rows.Close()
				return nil, store.Translate(err)
			}
			out[id] = true
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return nil, store.Translate(err)
		}
	}
	return out, nil
}

// comparison is what log and archive say of a partition.
type comparison struct {
	// seen is what this process had seen of the log before.
	seen sight
	at   archivedPlace
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
func (s *Service) compare(ctx context.Context, p int) (c comparison, err error) {
	c.seen = s.gates.seen(p)
	stream := bus.LogStream(p)
	if c.at, err = s.archive.place(ctx, p); err != nil {
		return c, err
	}
	c.log, err = s.deps.NATS.StreamState(ctx, stream)
	if errors.Is(err, natsx.ErrNoStream) {
		// It was deleted while we run.
		if err = s.ensureStreams(ctx, p); err == nil {
			c.log, err = s.deps.NATS.StreamState(ctx, stream)
		}
	}
	if err != nil {
		return c, err
	}
	if is, want := c.log.Metadata[natsx.InstallationKey], s.deps.NATS.Installation(); is != "" && want != "" && is != want {
		return c, fmt.Errorf("%w: stream %s carries installation %s, this process belongs to %s", errForeignLog, stream, is, want)
	}
	if text := c.log.Metadata[epochKey]; text != "" {
		if c.logEpoch, err = strconv.ParseInt(text, 10, 64); err != nil {
			return c, fmt.Errorf("stream %s: its metadata says %s=%q: %w", stream, epochKey, text, err)
		}
	}
	switch {
	case c.at.seq == 0 && c.logEpoch >= c.at.epoch:
		c.adopt = c.at.created != c.log.Created.UnixNano() || c.logEpoch != c.at.epoch // nothing of it was archived
	case c.at.created != 0 && c.at.created != c.log.Created.UnixNano():
		c.why = "the log is another one than was archived"
	case c.at.created != 0 && c.at.epoch != c.logEpoch:
		c.why = fmt.Sprintf("the log is of epoch %d, the archive of epoch %d", c.logEpoch, c.at.epoch)
	case c.log.Last < c.at.seq:
		c.why = fmt.Sprintf("the log ends at %d, the archive at %d", c.log.Last, c.at.seq)
	case c.at.mark != 0 && c.at.seq >= c.log.First:
		same, err := s.logHolds(ctx, p, c.at.seq, c.at.mark)
		if err != nil {
			return c, err
		}
		if !same {
			c.why = fmt.Sprintf("the log holds something else at %d than was archived", c.at.seq)
		}
	}
	c.adopt = c.adopt || c.at.created == 0
	if c.why == "" && c.seen.epoch == c.at.epoch {
		switch {
		case c.seen.acked > c.log.Last:
			c.ours, c.why = true, fmt.Sprintf("the log ends at %d, and %d was acknowledged", c.log.Last, c.seen.acked)
		case !c.seen.suspected.IsZero():
			c.ours, c.why = true, "the log gave out a place a second time"
		}
	}
	return c, nil
}

// logHolds reports whether a place of the log holds the record with a
// fingerprint.
func (s *Service) logHolds(ctx context.Context, p int, place uint64, mark int64) (bool, error) {
	data, ok, err := s.deps.NATS.StreamRecord(ctx, bus.LogStream(p), place)
	return ok && fingerprint(data) == mark, err
}

// settle makes log and archive of a partition agree and opens its gate. It is
// called by the partition's worker before anything else.
func (s *Service) settle(ctx context.Context, p int, logger *slog.Logger) (archivedPlace, error) {
	for {
		c, err := s.compare(ctx, p)
		if errors.Is(err, errForeignLog) {
			s.gates.closeFor(p, err.Error())
		}
		if err != nil {
			return c.at, err
		}
		if c.why == "" {
			if c.adopt {
				if err := s.archive.begin(ctx, p, c.logEpoch, c.log.Created.UnixNano()); err != nil {
					return c.at, err
				}
				if c.at, err = s.archive.place(ctx, p); err != nil {
					return c.at, err
				}
			}
			if s.agreed(p, c) {
				return c.at, nil
			}
			continue
		}
		s.gates.closeFor(p, c.why)
		if err := s.beginEpoch(ctx, p, c, logger); err != nil {
			return c.at, err
		}
	}
}

// agreed opens a partition's gate, unless something has changed since the
// comparison began.
func (s *Service) agreed(p int, c comparison) bool {
	if c.seen.epoch != c.at.epoch {
		s.settling.restart(p, c.at.seq)
	}
	if !s.gates.openFor(p, c.seen, c.at, c.log.Last) {
		return false
	}
	s.metrics.logEpoch.WithLabelValues(strconv.Itoa(p)).Set(float64(c.at.epoch))
	return true
}

// beginEpoch has the archive go on in a log that is not the one it was in.
func (s *Service) beginEpoch(ctx context.Context, p int, c comparison, logger *slog.Logger) error {
	to := archivedPlace{epoch: max(c.at.epoch, c.logEpoch) + 1, created: c.log.Created.UnixNano()}
	if err := s.deps.NATS.SetStreamMetadata(ctx, bus.LogStream(p), epochKey, strconv.FormatInt(to.epoch, 10)); err != nil {
		return err
	}
	log, err := s.deps.NATS.StreamState(ctx, bus.LogStream(p))
	if err != nil {
		return err
	}
	if to.began, err = s.fork(ctx, p, log); err != nil {
		return err
	}
	lost := c.lost()
	to.seq, to.repeats, to.lost = to.began, log.Last, c.at.lost+int64(lost) //nolint:gosec // a count
	if err := s.archive.renew(ctx, p, c.at, to); err != nil {
		return err
	}
	s.metrics.logLost.Add(float64(lost))
	logger.Error("log and archive disagreed: a new epoch of the log begins", "reason", c.why, "epoch", to.epoch,
		"archived_through", c.at.seq, "log_first", log.First, "log_last", log.Last, "goes_on_after", to.began, "lost", lost,
		"hint", "what was acknowledged after the last archived message and is not in this log is lost; see docs/operations.md")
	return nil
}

// lost counts the records that this process knows to be lost with a log: those
// it saw acknowledged that were not archived and are not in the log any more.
// What other processes acknowledged it cannot know.
func (c *comparison) lost() uint64 {
	if c.seen.epoch != c.at.epoch {
		return 0
	}
	kept := c.at.seq
	if c.at.created == c.log.Created.UnixNano() && c.at.epoch == c.logEpoch {
		switch {
		case !c.seen.suspected.IsZero():
			kept = max(kept, c.seen.rolledBack)
		case c.seen.acked > c.log.Last || c.log.Last < c.at.seq:
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

// fork finds the place before the first record of a log that is not archived.
// Records are archived in their order, so those that are come first, and are
// passed over without being read.
func (s *Service) fork(ctx context.Context, p int, log natsx.StreamState) (uint64, error) {
	low, high := max(log.First, 1), log.Last+1 // the first record not archived is within
	for low < high {
		middle := low + (high-low)/2
		at, data, ok, err := s.deps.NATS.NextStreamRecord(ctx, bus.LogStream(p), bus.LogFilter(p), middle)
		if err != nil {
			return 0, err
		}
		if !ok {
			high = middle
			continue
		}
		known, err := s.isArchived(ctx, data)
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
func (s *Service) isArchived(ctx context.Context, data []byte) (bool, error) {
	var r busv1.LogRecord
	if err := proto.Unmarshal(data, &r); err != nil || len(r.GetTargets()) == 0 {
		return false, nil //nolint:nilerr // the worker reports it
	}
	app, ok := s.deps.Apps.AppByKey(r.GetApp())
	if !ok {
		return false, nil
	}
	id := r.GetTargets()[0].GetId()
	known, err := s.archive.holds(ctx, app.Number, []int64{id})
	return known[id], err
}

// leftOut tells which messages of a record that may have been archived before
// are not to be archived now: those that were, and those so old that they were
// deleted since.
func (s *Service) leftOut(ctx context.Context, r *busv1.LogRecord) (map[int64]bool, error) {
	app, ok := s.deps.Apps.AppByKey(r.GetApp())
	if !ok {
		return nil, nil
	}
	ids := make([]int64, len(r.GetTargets()))
	for i, t := range r.GetTargets() {
		ids[i] = t.GetId()
	}
	out, err := s.archive.holds(ctx, app.Number, ids)
	if err != nil {
		return nil, err
	}
	if kept := app.Tier.Retention(); kept > 0 {
		oldest := idgen.FirstAt(s.deps.Now().Add(-kept))
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

// runCompare opens the gates of partitions whose worker is elsewhere once log
// and archive agree, and says why they do not.
func (s *Service) runCompare(ctx context.Context) {
	for {
		waiting := false
		for p := range s.cfg.Partitions {
			if open, _ := s.gates.state(p); open {
				continue
			}
			c, err := s.compare(ctx, p)
			suspected := c.seen.suspected
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				s.gates.closeFor(p, "log and archive cannot be compared: "+err.Error())
			case c.why == "" && !c.adopt, c.ours && !suspected.IsZero() && time.Since(suspected) > suspectFor:
				if s.agreed(p, c) {
					continue
				}
			case c.why != "":
				s.gates.closeFor(p, c.why)
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
		case <-s.gates.shut:
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

package history

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/lifecycle"
	"github.com/chappe-im/chappe/pkg/obs"
	"github.com/chappe-im/chappe/pkg/store"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// Flags of archived entries.
type Flags int

// The flags. Their values are stored.
const (
	// OnlineOnly entries are for nobody who comes later.
	OnlineOnly Flags = 1 << iota
	// SyncSender entries are copied to their sender's devices.
	SyncSender
)

// Entry is a sequenced message on its way into the archive.
type Entry struct {
	ID           int64
	Conversation *Conversation
	Seq          int64
	Type         busv1.EntryType
	Flags        Flags
	Sender       ident.UserID
	// Data is the serialized Delivery.
	Data []byte
}

// Batch is what a worker read of its partition in one go.
type Batch struct {
	Partition int
	Epoch     int64
	// From and Through are the offsets in the stream before and at the end,
	// Mark is the fingerprint of the last record.
	From, Through uint64
	Mark          int64
	Entries       []*Entry
	// Fresh are conversations that no row exists for yet.
	Fresh []*Conversation
	// Size is what the batch takes in memory, in bytes.
	Size int64

	done chan error
}

// Done returns the channel that gets the outcome of a submitted batch.
func (b *Batch) Done() <-chan error { return b.done }

// ErrFenced says that another worker has archived past this one.
var ErrFenced = errors.New("another worker has taken the partition over")

// Archive writes batches. All partitions of a process share one writer, which
// puts whatever is waiting into one transaction: the fewer commits, the
// cheaper each message.
type Archive struct {
	db      *store.DB
	metrics *metrics
	barrier *ReadBarrier
	// archived is told how far each partition is archived.
	archived func(partition int, epoch int64, offset uint64)
	logger   *slog.Logger
	// room is what batches under way may still take in memory.
	room    *semaphore.Weighted
	queue   chan *Batch
	advance *sql.Stmt
	insert  [len(insertSizes)]*sql.Stmt
}

// insertSizes are how many rows one INSERT takes; each statement is prepared
// once.
var insertSizes = [...]int{64, 32, 16, 8, 4, 2, 1}

const insertColumns = 8

// NewArchive makes an archive that tells archived how far each partition is
// archived. Nothing is written before Prepare, and only while Run runs.
func NewArchive(db *store.DB, barrier *ReadBarrier, archived func(partition int, epoch int64, offset uint64), logger *slog.Logger, reg prometheus.Registerer) *Archive {
	return &Archive{
		db: db, metrics: newMetrics(reg), barrier: barrier, archived: archived, logger: logger,
		queue: make(chan *Batch, 256), room: semaphore.NewWeighted(maxUnderwayBytes),
	}
}

// maxUnderwayBytes bounds what batches on their way into the archive take in
// memory over all partitions.
const maxUnderwayBytes = 64 << 20

// Prepare makes the schema and the statements.
func (a *Archive) Prepare(ctx context.Context) error {
	migrations, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return err
	}
	if err := a.db.Migrate(ctx, migrations); err != nil {
		return err
	}
	if a.advance, err = a.db.Prepare(ctx, `UPDATE log_positions SET stream_seq = $1, fingerprint = $2 WHERE partition_no = $3 AND epoch = $4 AND stream_seq = $5`); err != nil {
		return err
	}
	for i, n := range insertSizes {
		if a.insert[i], err = a.db.Prepare(ctx, "INSERT INTO messages (id, app, conversation_id, seq, type, flags, sender, data) VALUES "+a.db.Rows(n, insertColumns)); err != nil {
			return err
		}
	}
	return nil
}

// Run writes batches until Close, which is called when all workers have ended.
// While the database is away it waits for it, until patience ends.
func (a *Archive) Run(patience context.Context) {
	defer a.closeStatements()
	for b := range a.queue {
		a.write(patience, a.gather(b))
	}
}

// Close ends Run after what was submitted.
func (a *Archive) Close() { close(a.queue) }

func (a *Archive) closeStatements() {
	_ = a.advance.Close()
	for _, st := range a.insert {
		_ = st.Close()
	}
}

const (
	// maxGathered bounds the entries of one transaction.
	maxGathered = 4000
	// enoughGathered entries, or enoughBatches, are written without waiting for
	// more.
	enoughGathered = 2000
	enoughBatches  = 24
	// gatherFor is how long a transaction waits for more entries: the commit
	// costs more than the rows of a few milliseconds. Neither the answer to a
	// sender nor a push waits for the archive.
	gatherFor = 20 * time.Millisecond
	// hurriedFor is gatherFor while somebody waits to read.
	hurriedFor = 2 * time.Millisecond
)

func (a *Archive) gather(first *Batch) []*Batch {
	all, n := []*Batch{first}, len(first.Entries)
	began := time.Now()
	wait := time.NewTimer(gatherFor)
	defer wait.Stop()
	for n < maxGathered {
		b, ok := a.receive(n >= enoughGathered || len(all) >= enoughBatches, began, wait)
		if !ok {
			return all
		}
		all = append(all, b)
		n += len(b.Entries)
	}
	return all
}

// receive takes a further batch: at once when there are enough, else waiting
// for one until enough time has passed.
func (a *Archive) receive(enough bool, began time.Time, wait *time.Timer) (*Batch, bool) {
	if enough {
		select {
		case b, ok := <-a.queue:
			return b, ok
		default:
			return nil, false
		}
	}
	for {
		select {
		case b, ok := <-a.queue:
			return b, ok
		case <-a.barrier.hurry:
			wait.Reset(hurriedFor - time.Since(began))
		case <-wait.C:
			return nil, false
		}
	}
}

// Submit hands a batch over, waiting until there is room for it; its Done
// channel gets the outcome.
func (a *Archive) Submit(ctx context.Context, b *Batch) error {
	b.Size = min(b.Size, maxUnderwayBytes)
	if err := a.room.Acquire(ctx, b.Size); err != nil {
		return err
	}
	b.done = make(chan error, 1)
	select {
	case a.queue <- b:
		return nil
	case <-ctx.Done():
		a.room.Release(b.Size)
		return ctx.Err()
	}
}

const (
	// writeTimeout bounds one transaction of the archive; a database that does
	// not answer is asked anew.
	writeTimeout = 5 * time.Second
	// awayPause is the time between two tries at a database that is away.
	awayPause = 100 * time.Millisecond
)

// write commits batches together, and tries again while the database is away.
// Should a transaction have been committed whose answer was lost, the next try
// finds the position moved, and the worker begins anew from there.
func (a *Archive) write(patience context.Context, all []*Batch) {
	var away time.Time
	for {
		fenced, err := a.writeOnce(context.WithoutCancel(patience), all)
		if errs.IsAway(err) {
			if away.IsZero() {
				away = time.Now()
				a.logger.Warn("the archive is away: messages are pushed and wait for it", obs.KeyError, err)
			}
			if lifecycle.Sleep(patience, awayPause) == nil {
				continue
			}
		}
		if !away.IsZero() && err == nil {
			a.logger.Info("the archive is back", "away_ms", time.Since(away).Milliseconds())
		}
		a.tell(all, fenced, err)
		return
	}
}

// writeOnce writes batches in one transaction. A batch that was fenced off is
// left out.
func (a *Archive) writeOnce(ctx context.Context, all []*Batch) (fenced map[*Batch]bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	fenced = map[*Batch]bool{}
	runs := contiguousRuns(all)
	err = a.db.Write(ctx, func(tx *sql.Tx) error {
		clear(fenced)
		for _, r := range runs {
			ok, err := a.advancePosition(ctx, tx, r)
			if err != nil {
				return err
			}
			for _, b := range r {
				fenced[b] = !ok
			}
		}
		for _, b := range all {
			if fenced[b] {
				continue
			}
			for _, c := range b.Fresh {
				if err := createConversation(ctx, tx, c); err != nil {
					return err
				}
			}
		}
		return a.insertEntries(ctx, tx, all, fenced)
	})
	return fenced, err
}

// tell gives each batch its outcome.
func (a *Archive) tell(all []*Batch, fenced map[*Batch]bool, err error) {
	n := 0
	for _, b := range all {
		a.room.Release(b.Size)
		switch {
		case err != nil:
			b.done <- err
		case fenced[b]:
			b.done <- ErrFenced
		default:
			n += len(b.Entries)
			a.barrier.Archived(b.Partition, bus.LogPlace(b.Epoch, b.Through))
			a.archived(b.Partition, b.Epoch, b.Through)
			b.done <- nil
		}
	}
	if n > 0 {
		a.metrics.archived.Add(float64(n))
		a.metrics.batch.Observe(float64(n))
	}
}

// contiguousRuns puts the batches of a partition that follow on each other together.
func contiguousRuns(all []*Batch) [][]*Batch {
	var runs [][]*Batch
	last := map[int]int{} // index in runs, by partition
	for _, b := range all {
		i, ok := last[b.Partition]
		if ok && runs[i][0].Epoch == b.Epoch && runs[i][len(runs[i])-1].Through == b.From {
			runs[i] = append(runs[i], b)
			continue
		}
		last[b.Partition] = len(runs)
		runs = append(runs, []*Batch{b})
	}
	return runs
}

// advancePosition moves the partition's position in the log to the end of a run if it is
// where the run began. This is what makes the archive hold each message once,
// whoever else believes to be the partition's worker.
func (a *Archive) advancePosition(ctx context.Context, tx *sql.Tx, run []*Batch) (bool, error) {
	first, last := run[0], run[len(run)-1]
	r, err := tx.StmtContext(ctx, a.advance).ExecContext(ctx, int64(last.Through), last.Mark, first.Partition, first.Epoch, int64(first.From))
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n == 1, err
}

func (a *Archive) insertEntries(ctx context.Context, tx *sql.Tx, all []*Batch, fenced map[*Batch]bool) error {
	var rows []*Entry
	for _, b := range all {
		if !fenced[b] {
			rows = append(rows, b.Entries...)
		}
	}
	var args []any
	for i, size := range insertSizes {
		if len(rows) < size {
			continue
		}
		insert := tx.StmtContext(ctx, a.insert[i])
		for len(rows) >= size {
			args = args[:0]
			for _, e := range rows[:size] {
				args = append(args, e.ID, e.Conversation.App, e.Conversation.id, e.Seq, int(e.Type), int(e.Flags), string(e.Sender), e.Data)
			}
			if _, err := insert.ExecContext(ctx, args...); err != nil {
				return err
			}
			rows = rows[size:]
		}
	}
	return nil
}

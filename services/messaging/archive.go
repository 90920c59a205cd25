package messaging

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/store"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// Flags of archived entries.
const (
	flagOnlineOnly = 1 << iota
	flagSyncSender
)

// entry is a sequenced message on its way into the archive.
type entry struct {
	id     int64
	conv   *conversation
	seq    int64
	typ    busv1.EntryType
	flags  int
	sender string
	to     string
	push   []byte // Push for the gateways
	data   []byte // the Delivery within push
}

// batch is what a worker read of its partition in one go.
type batch struct {
	partition int
	epoch     int64
	// from and through are the places in the stream before and at the end,
	// mark is the fingerprint of the last record.
	from, through uint64
	mark          int64
	entries       []*entry
	// fresh are conversations that no row exists for yet.
	fresh []*conversation
	size  int64
	done  chan error
}

// errFenced says that another worker has archived past this one.
var errFenced = errors.New("another worker has taken the partition over")

// archive writes batches. All partitions of a process share one writer, which
// puts whatever is waiting into one transaction: the fewer commits, the
// cheaper each message.
type archive struct {
	db       *store.DB
	metrics  *metrics
	settling *settling
	gates    *gates
	logger   *slog.Logger
	// room is what batches under way may still take in memory.
	room    *semaphore.Weighted
	queue   chan *batch
	advance *sql.Stmt
	insert  [len(insertSizes)]*sql.Stmt
}

// insertSizes are how many rows one INSERT takes; each statement is prepared
// once.
var insertSizes = [...]int{64, 32, 16, 8, 4, 2, 1}

const insertColumns = 8

func newArchive(db *store.DB, m *metrics, s *settling, g *gates, l *slog.Logger) *archive {
	return &archive{db: db, metrics: m, settling: s, gates: g, queue: make(chan *batch, 256), room: semaphore.NewWeighted(maxUnderwayBytes), logger: l}
}

// prepare makes the statements; the schema must be there.
func (a *archive) prepare(ctx context.Context) error {
	var err error
	if a.advance, err = a.db.Prepare(ctx, `UPDATE log_position SET stream_seq = $1, fingerprint = $2 WHERE partition_no = $3 AND epoch = $4 AND stream_seq = $5`); err != nil {
		return err
	}
	for i, n := range insertSizes {
		if a.insert[i], err = a.db.Prepare(ctx, "INSERT INTO message (id, app, conv, seq, type, flags, sender, data) VALUES "+a.db.Rows(n, insertColumns)); err != nil {
			return err
		}
	}
	return nil
}

// run writes batches until the queue is closed, which the service does when
// all workers have ended. While the database is away it waits for it, until
// patience ends.
func (a *archive) run(patience context.Context) {
	defer a.closeStatements()
	for b := range a.queue {
		a.write(patience, a.gather(b))
	}
}

func (a *archive) closeStatements() {
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

func (a *archive) gather(first *batch) []*batch {
	all, n := []*batch{first}, len(first.entries)
	began := time.Now()
	wait := time.NewTimer(gatherFor)
	defer wait.Stop()
	for n < maxGathered {
		b, ok := a.receive(n >= enoughGathered || len(all) >= enoughBatches, began, wait)
		if !ok {
			return all
		}
		all = append(all, b)
		n += len(b.entries)
	}
	return all
}

// receive takes a further batch: at once when there are enough, else waiting
// for one until enough time has passed.
func (a *archive) receive(enough bool, began time.Time, wait *time.Timer) (*batch, bool) {
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
		case <-a.settling.hurry:
			wait.Reset(hurriedFor - time.Since(began))
		case <-wait.C:
			return nil, false
		}
	}
}

// submit hands a batch over, waiting until there is room for it; its done
// channel gets the outcome.
func (a *archive) submit(ctx context.Context, b *batch) error {
	const perEntry = 256 // of what is kept of an entry besides its texts
	for _, e := range b.entries {
		b.size += int64(len(e.push)) + perEntry
	}
	b.size = min(b.size, maxUnderwayBytes)
	if err := a.room.Acquire(ctx, b.size); err != nil {
		return err
	}
	b.done = make(chan error, 1)
	select {
	case a.queue <- b:
		return nil
	case <-ctx.Done():
		a.room.Release(b.size)
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

// isAway reports whether somebody who was asked did not answer.
func isAway(err error) bool {
	return errs.Is(err, errs.ReasonUnavailable) || errs.Is(err, errs.ReasonDeadline)
}

// write commits batches together, and tries again while the database is away.
// Should a transaction have been committed whose answer was lost, the next try
// finds the position moved, and the worker begins anew from there.
func (a *archive) write(patience context.Context, all []*batch) {
	var away time.Time
	for {
		fenced, err := a.writeOnce(context.WithoutCancel(patience), all)
		if isAway(err) {
			if away.IsZero() {
				away = time.Now()
				a.logger.Warn("the archive is away: messages are pushed and wait for it", "error", err)
			}
			if sleep(patience, awayPause) {
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
func (a *archive) writeOnce(ctx context.Context, all []*batch) (fenced map[*batch]bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	fenced = map[*batch]bool{}
	runs := runsOf(all)
	err = a.db.Write(ctx, func(tx *sql.Tx) error {
		clear(fenced)
		for _, r := range runs {
			ok, err := a.moveOn(ctx, tx, r)
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
			for _, c := range b.fresh {
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
func (a *archive) tell(all []*batch, fenced map[*batch]bool, err error) {
	n := 0
	for _, b := range all {
		a.room.Release(b.size)
		switch {
		case err != nil:
			b.done <- err
		case fenced[b]:
			b.done <- errFenced
		default:
			n += len(b.entries)
			a.settling.archived(b.partition, b.through)
			a.gates.archived(b.partition, b.epoch, b.through)
			b.done <- nil
		}
	}
	if n > 0 {
		a.metrics.archived.Add(float64(n))
		a.metrics.batch.Observe(float64(n))
	}
}

// runsOf puts the batches of a partition that follow on each other together.
func runsOf(all []*batch) [][]*batch {
	var runs [][]*batch
	last := map[int]int{} // place in runs, by partition
	for _, b := range all {
		i, ok := last[b.partition]
		if ok && runs[i][0].epoch == b.epoch && runs[i][len(runs[i])-1].through == b.from {
			runs[i] = append(runs[i], b)
			continue
		}
		last[b.partition] = len(runs)
		runs = append(runs, []*batch{b})
	}
	return runs
}

// moveOn moves the partition's place in the log to the end of a run if it is
// where the run began. This is what makes the archive hold each message once,
// whoever else believes to be the partition's worker.
func (a *archive) moveOn(ctx context.Context, tx *sql.Tx, run []*batch) (bool, error) {
	first, last := run[0], run[len(run)-1]
	//nolint:gosec // stream places stay far below 2^63
	r, err := tx.StmtContext(ctx, a.advance).ExecContext(ctx, int64(last.through), last.mark, first.partition, first.epoch, int64(first.from))
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n == 1, err
}

func createConversation(ctx context.Context, tx *sql.Tx, c *conversation) error {
	err := tx.QueryRowContext(ctx, `INSERT INTO conversation (app, name, kind) VALUES ($1, $2, $3) RETURNING id`,
		c.app, c.name, int(c.kind)).Scan(&c.id)
	if err != nil {
		return err
	}
	for _, m := range c.members() {
		if _, err := tx.ExecContext(ctx, `INSERT INTO member (app, username, conv, peer) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			c.app, m.user, c.id, m.peer); err != nil {
			return err
		}
	}
	return nil
}

func (a *archive) insertEntries(ctx context.Context, tx *sql.Tx, all []*batch, fenced map[*batch]bool) error {
	var rows []*entry
	for _, b := range all {
		if !fenced[b] {
			rows = append(rows, b.entries...)
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
				args = append(args, e.id, e.conv.app, e.conv.id, e.seq, int(e.typ), e.flags, e.sender, e.data)
			}
			if _, err := insert.ExecContext(ctx, args...); err != nil {
				return err
			}
			rows = rows[size:]
		}
	}
	return nil
}

// findPatiently is find that waits while the database is away: what comes
// behind an entry in the log must not overtake it.
func (a *archive) findPatiently(ctx context.Context, app int64, name string) (*conversation, error) {
	for {
		c, err := func() (*conversation, error) {
			ctx, cancel := context.WithTimeout(ctx, writeTimeout)
			defer cancel()
			return a.find(ctx, app, name)
		}()
		if err == nil || ctx.Err() != nil || !isAway(err) {
			return c, err
		}
		if !sleep(ctx, awayPause) {
			return nil, ctx.Err()
		}
	}
}

// find reads a conversation with the place of its newest entry; nil if there
// is none.
func (a *archive) find(ctx context.Context, app int64, name string) (*conversation, error) {
	c := &conversation{app: app, name: name}
	var kind int32
	var newest sql.NullInt64
	err := a.db.Read().QueryRowContext(ctx, `SELECT c.id, c.kind, c.floor, (SELECT MAX(m.seq) FROM message m WHERE m.app = c.app AND m.conv = c.id)
		FROM conversation c WHERE c.app = $1 AND c.name = $2`, app, name).Scan(&c.id, &kind, &c.last, &newest)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, store.Translate(err)
	}
	c.kind = busv1.Kind(kind)
	c.last = max(c.last, newest.Int64)
	return c, nil
}

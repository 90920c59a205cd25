package messaging

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"sync"

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
	// from and through are the places in the stream before and at the end.
	from, through uint64
	entries       []*entry
	// fresh are conversations that no row exists for yet.
	fresh []*conversation
	done  chan error
}

// errFenced says that another worker has archived past this one.
var errFenced = errors.New("another worker has taken the partition over")

// archive writes batches. All partitions of a process share one writer, which
// puts whatever is waiting into one transaction: the fewer commits, the
// cheaper each message.
type archive struct {
	db      *store.DB
	metrics *metrics
	queue   chan *batch
	insert  [len(insertSizes)]string
}

// insertSizes are how many rows one INSERT takes; the SQL of each is made
// once.
var insertSizes = [...]int{100, 20, 5, 1}

const insertColumns = 8

func newArchive(db *store.DB, m *metrics) *archive {
	a := &archive{db: db, metrics: m, queue: make(chan *batch, 256)}
	for i, n := range insertSizes {
		a.insert[i] = insertSQL("INSERT INTO message (id, app, conv, seq, type, flags, sender, data) VALUES ", n, insertColumns)
	}
	return a
}

func insertSQL(head string, rows, columns int) string {
	var b strings.Builder
	b.WriteString(head)
	p := 1
	for r := range rows {
		if r > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('(')
		for c := range columns {
			if c > 0 {
				b.WriteByte(',')
			}
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(p))
			p++
		}
		b.WriteByte(')')
	}
	return b.String()
}

func (a *archive) start(ctx context.Context, done *sync.WaitGroup) {
	done.Add(1)
	go func() {
		defer done.Done()
		for {
			select {
			case <-ctx.Done():
				a.refuseRest()
				return
			case b := <-a.queue:
				a.write(ctx, a.gather(b))
			}
		}
	}()
}

// maxGathered bounds the entries of one transaction.
const maxGathered = 4000

func (a *archive) gather(first *batch) []*batch {
	all, n := []*batch{first}, len(first.entries)
	for n < maxGathered {
		select {
		case b := <-a.queue:
			all = append(all, b)
			n += len(b.entries)
		default:
			return all
		}
	}
	return all
}

func (a *archive) refuseRest() {
	for {
		select {
		case b := <-a.queue:
			b.done <- context.Canceled
		default:
			return
		}
	}
}

// submit hands a batch over; its done channel gets the outcome.
func (a *archive) submit(ctx context.Context, b *batch) error {
	b.done = make(chan error, 1)
	select {
	case a.queue <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write commits batches together. A batch that was fenced off fails alone.
func (a *archive) write(ctx context.Context, all []*batch) {
	fenced := map[*batch]bool{}
	err := a.db.Write(ctx, func(tx *sql.Tx) error {
		clear(fenced)
		for _, b := range all {
			ok, err := advance(ctx, tx, b)
			if err != nil {
				return err
			}
			if !ok {
				fenced[b] = true
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
	n := 0
	for _, b := range all {
		switch {
		case err != nil:
			b.done <- err
		case fenced[b]:
			b.done <- errFenced
		default:
			n += len(b.entries)
			b.done <- nil
		}
	}
	if n > 0 {
		a.metrics.archived.Add(float64(n))
		a.metrics.batch.Observe(float64(n))
	}
}

// advance moves the partition's place in the log if it is where the batch
// began. This is what makes the archive hold each message once, whoever else
// believes to be the partition's worker.
func advance(ctx context.Context, tx *sql.Tx, b *batch) (bool, error) {
	//nolint:gosec // stream places stay far below 2^63
	r, err := tx.ExecContext(ctx, `UPDATE log_position SET stream_seq = $1 WHERE partition_no = $2 AND stream_seq = $3`,
		int64(b.through), b.partition, int64(b.from))
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
		for len(rows) >= size {
			args = args[:0]
			for _, e := range rows[:size] {
				args = append(args, e.id, e.conv.app, e.conv.id, e.seq, int(e.typ), e.flags, e.sender, e.data)
			}
			if _, err := tx.ExecContext(ctx, a.insert[i], args...); err != nil {
				return err
			}
			rows = rows[size:]
		}
	}
	return nil
}

// position reads how far a partition is archived, and begins it at 0.
func (a *archive) position(ctx context.Context, partition int) (uint64, error) {
	if err := a.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO log_position (partition_no, stream_seq) VALUES ($1, 0) ON CONFLICT DO NOTHING`, partition)
		return err
	}); err != nil {
		return 0, err
	}
	var pos int64
	err := a.db.Read().QueryRowContext(ctx, `SELECT stream_seq FROM log_position WHERE partition_no = $1`, partition).Scan(&pos)
	if err != nil {
		return 0, store.Translate(err)
	}
	return uint64(pos), nil //nolint:gosec // never negative
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

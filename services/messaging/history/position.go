package history

import (
	"context"
	"database/sql"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/chappe-im/chappe/pkg/store"
)

// Position is how far a partition is archived.
type Position struct {
	// Offset is the offset in the log up to which all is archived, of an epoch.
	Offset uint64
	Epoch  int64
	// Created tells the stream, by its time of creation in Unix nanoseconds; 0
	// before it was looked at.
	Created int64
	// Mark is the fingerprint of the record at Offset; 0 if none is known.
	Mark int64
	// Began is the offset before the first record of the epoch that had not been
	// archived when it began; up to Repeats there may be some that had.
	Began, Repeats uint64
	// Lost counts the records known to be lost.
	Lost int64
}

// Fingerprint tells records apart. They hold message IDs, so no two are alike.
func Fingerprint(data []byte) int64 {
	return int64(xxhash.Sum64(data) | 1) // any number but 0
}

// sqlTimeout bounds one look into the database that everything waits for.
const sqlTimeout = 5 * time.Second

// Position reads how far a partition is archived.
func (a *Archive) Position(ctx context.Context, partition int) (Position, error) {
	ctx, cancel := context.WithTimeout(ctx, sqlTimeout)
	defer cancel()
	var at Position
	var offset, began, repeats int64
	_, err := store.Row(ctx, a.db.Read(), `SELECT stream_seq, epoch, created, fingerprint, began, repeats, lost FROM log_positions WHERE partition_no = $1`,
		[]any{partition}, &offset, &at.Epoch, &at.Created, &at.Mark, &began, &repeats, &at.Lost)
	at.Offset, at.Began, at.Repeats = uint64(offset), uint64(began), uint64(repeats)
	return at, err
}

// Adopt makes the row of a partition and notes the stream it belongs to.
func (a *Archive) Adopt(ctx context.Context, partition int, epoch, created int64) error {
	ctx, cancel := context.WithTimeout(ctx, sqlTimeout)
	defer cancel()
	return a.db.Write(ctx, func(tx *sql.Tx) error {
		if _, err := store.Exec(ctx, tx, `INSERT INTO log_positions (partition_no, stream_seq, epoch, created) VALUES ($1, 0, $2, $3) ON CONFLICT DO NOTHING`,
			partition, epoch, created); err != nil {
			return err
		}
		_, err := store.Exec(ctx, tx, `UPDATE log_positions SET epoch = $1, created = $2 WHERE partition_no = $3 AND (created = 0 OR stream_seq = 0)`,
			epoch, created, partition)
		return err
	})
}

// BeginEpoch moves a partition from one position to another of a new epoch,
// unless somebody else has moved it.
func (a *Archive) BeginEpoch(ctx context.Context, partition int, from, to Position) error {
	ctx, cancel := context.WithTimeout(ctx, sqlTimeout)
	defer cancel()
	return a.db.Write(ctx, func(tx *sql.Tx) error {
		n, err := store.Exec(ctx, tx, `UPDATE log_positions SET stream_seq = $1, epoch = $2, created = $3, fingerprint = $4, began = $5, repeats = $6, lost = $7
			WHERE partition_no = $8 AND epoch = $9 AND stream_seq = $10`,
			int64(to.Offset), to.Epoch, to.Created, to.Mark, int64(to.Began), int64(to.Repeats), to.Lost, partition, from.Epoch, int64(from.Offset))
		if err != nil || n == 1 {
			return err
		}
		return ErrFenced
	})
}

// AddLost counts records that are lost.
func (a *Archive) AddLost(ctx context.Context, partition int, n uint64) error {
	ctx, cancel := context.WithTimeout(ctx, sqlTimeout)
	defer cancel()
	return a.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := store.Exec(ctx, tx, `UPDATE log_positions SET lost = lost + $1 WHERE partition_no = $2`, int64(n), partition)
		return err
	})
}

// Holds tells which messages of an app the archive holds.
func (a *Archive) Holds(ctx context.Context, app int64, ids []int64) (map[int64]bool, error) {
	out := map[int64]bool{}
	for len(ids) > 0 {
		some := ids[:min(len(ids), 256)]
		ids = ids[len(some):]
		args := make([]any, 0, len(some)+1)
		args = append(args, app)
		for _, id := range some {
			args = append(args, id)
		}
		held, err := store.Column[int64](ctx, a.db.Read(), `SELECT id FROM messages WHERE app = $1 AND id IN (`+store.In(2, len(some))+`)`, args...)
		if err != nil {
			return nil, err
		}
		for _, id := range held {
			out[id] = true
		}
	}
	return out, nil
}

// NewestID returns the greatest message ID that is archived; 0 if there is none.
func (a *Archive) NewestID(ctx context.Context) (int64, error) {
	var id sql.NullInt64
	_, err := store.Row(ctx, a.db.Read(), `SELECT MAX(id) FROM messages`, nil, &id)
	return id.Int64, err
}

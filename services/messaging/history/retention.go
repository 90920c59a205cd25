package history

import (
	"context"
	"database/sql"
	"log/slog"
	"time"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/idgen"
	"github.com/chappe-im/chappe/pkg/lifecycle"
	"github.com/chappe-im/chappe/pkg/obs"
	"github.com/chappe-im/chappe/pkg/store"
)

const (
	// retentionBatch bounds the rows of one deletion, retentionPause is what
	// writers get in between.
	retentionBatch = 500
	retentionPause = 20 * time.Millisecond
)

// Retention deletes messages that are older than the days of their app's tier:
// from history, roaming and offline queues alike, which all read the one
// archive. It runs on one instance of a cluster.
type Retention struct {
	archive *Archive
	apps    Apps
	logger  *slog.Logger
	now     func() time.Time
	// here reports whether this instance is the one to do it.
	here func() bool
	// swept is up to which message ID an app has been swept; it spares reading
	// again what was kept for other apps.
	swept map[int64]int64
}

// Apps lists the apps, with their tiers.
type Apps interface{ Apps() []*catalog.App }

// NewRetention makes the retention of an archive. It does nothing while here
// reports that it is another instance's turn.
func NewRetention(archive *Archive, apps Apps, here func() bool, now func() time.Time, logger *slog.Logger) *Retention {
	return &Retention{archive: archive, apps: apps, here: here, now: now, logger: logger, swept: map[int64]int64{}}
}

// Run looks for messages that are too old every so often, until ctx ends.
func (r *Retention) Run(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if !r.here() {
			clear(r.swept)
			continue
		}
		for _, app := range r.apps.Apps() {
			days := app.Tier.Retention()
			if days <= 0 {
				continue
			}
			if err := r.sweep(ctx, app.Number, idgen.FirstAt(r.now().Add(-days))); err != nil && ctx.Err() == nil {
				r.logger.Warn("old messages stay for now", obs.KeyApp, app.Key, obs.KeyError, err)
			}
		}
		if err := r.reclaim(ctx); err != nil && ctx.Err() == nil {
			r.logger.Warn("the archive's file keeps its size for now", obs.KeyError, err)
		}
	}
}

// reclaim gives the space of deleted messages back to the disk, with pauses for
// writers.
func (r *Retention) reclaim(ctx context.Context) error {
	for {
		more, err := r.archive.db.Reclaim(ctx)
		if err != nil || !more {
			return err
		}
		if err := lifecycle.Sleep(ctx, retentionPause); err != nil {
			return err
		}
	}
}

// sweep deletes an app's messages with smaller IDs, batch by batch.
func (r *Retention) sweep(ctx context.Context, app, before int64) error {
	for ctx.Err() == nil {
		n, last, err := r.archive.expire(ctx, app, r.swept[app], before)
		if err != nil {
			return err
		}
		r.archive.metrics.expired.Add(float64(n))
		if n < retentionBatch {
			r.swept[app] = max(r.swept[app], before-1)
			return nil
		}
		r.swept[app] = last
		_ = lifecycle.Sleep(ctx, retentionPause)
	}
	return ctx.Err()
}

// expire deletes up to retentionBatch messages of an app with IDs between two,
// both excluded. Their conversations remember the seqs, which are not given
// out again.
func (a *Archive) expire(ctx context.Context, app, after, before int64) (n int, last int64, err error) {
	lastSeqs := map[int64]int64{}
	err = store.Each(ctx, a.db.Read(), `SELECT id, conversation_id, seq FROM messages WHERE app = $1 AND id > $2 AND id < $3 ORDER BY id LIMIT $4`,
		[]any{app, after, before, retentionBatch}, func(row store.Scanner) error {
			var conversation, seq int64
			if err := row.Scan(&last, &conversation, &seq); err != nil {
				return err
			}
			lastSeqs[conversation] = max(lastSeqs[conversation], seq)
			n++
			return nil
		})
	if err != nil || n == 0 {
		return 0, 0, err
	}
	return n, last, a.db.Write(ctx, func(tx *sql.Tx) error {
		for conversation, seq := range lastSeqs {
			if _, err := store.Exec(ctx, tx, `UPDATE conversations SET last_seq = $1 WHERE id = $2 AND last_seq < $3`, seq, conversation, seq); err != nil {
				return err
			}
		}
		_, err := store.Exec(ctx, tx, `DELETE FROM messages WHERE app = $1 AND id > $2 AND id <= $3`, app, after, last)
		return err
	})
}

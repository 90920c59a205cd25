package messaging

import (
	"context"
	"database/sql"
	"time"

	"github.com/chappe-im/chappe/pkg/idgen"
	"github.com/chappe-im/chappe/pkg/store"
)

const (
	// retentionBatch bounds the rows of one deletion, retentionPause is what
	// writers get in between.
	retentionBatch = 500
	retentionPause = 20 * time.Millisecond
)

// retention deletes messages that are older than the days of their app's tier:
// from history, roaming and offline queues alike, which all read the one
// archive. It runs where the worker of partition 0 is, so once in a cluster.
type retention struct {
	svc *Service
	// swept is up to which message ID an app has been swept; it spares reading
	// again what was kept for other apps.
	swept map[int64]int64
}

func (r *retention) run(ctx context.Context) {
	t := time.NewTicker(r.svc.cfg.RetentionEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if !r.svc.owner.worksFirst() {
			clear(r.swept)
			continue
		}
		for _, app := range r.svc.deps.Apps.Apps() {
			days := app.Tier.Retention()
			if days <= 0 {
				continue
			}
			if err := r.sweep(ctx, app.Number, idgen.FirstAt(r.svc.deps.Now().Add(-days))); err != nil && ctx.Err() == nil {
				r.svc.deps.Logger.Warn("old messages stay for now", "app", app.Key, "error", err)
			}
		}
		if err := r.reclaim(ctx); err != nil && ctx.Err() == nil {
			r.svc.deps.Logger.Warn("the archive's file keeps its size for now", "error", err)
		}
	}
}

// reclaim gives the space of deleted messages back to the disk, with pauses for
// writers.
func (r *retention) reclaim(ctx context.Context) error {
	for {
		more, err := r.svc.deps.DB.Reclaim(ctx)
		if err != nil || !more || !sleep(ctx, retentionPause) {
			return err
		}
	}
}

// sweep deletes an app's messages with smaller IDs, batch by batch.
func (r *retention) sweep(ctx context.Context, app, before int64) error {
	for ctx.Err() == nil {
		n, last, err := r.svc.archive.expire(ctx, app, r.swept[app], before)
		if err != nil {
			return err
		}
		r.svc.metrics.expired.Add(float64(n))
		if n < retentionBatch {
			r.swept[app] = max(r.swept[app], before-1)
			return nil
		}
		r.swept[app] = last
		sleep(ctx, retentionPause)
	}
	return ctx.Err()
}

// expire deletes up to retentionBatch messages of an app with IDs between two,
// both excluded. Their conversations remember the places, which are not given
// out again.
func (a *archive) expire(ctx context.Context, app, after, before int64) (n int, last int64, err error) {
	rows, err := a.db.Read().QueryContext(ctx, `SELECT id, conv, seq FROM message WHERE app = $1 AND id > $2 AND id < $3 ORDER BY id LIMIT $4`,
		app, after, before, retentionBatch)
	if err != nil {
		return 0, 0, store.Translate(err)
	}
	floors := map[int64]int64{}
	for rows.Next() {
		var conv, seq int64
		if err := rows.Scan(&last, &conv, &seq); err != nil {
			_ = rows.Close()
			return 0, 0, store.Translate(err)
		}
		floors[conv] = max(floors[conv], seq)
		n++
	}
	if err := rows.Close(); err != nil || n == 0 {
		return 0, 0, store.Translate(err)
	}
	if err := rows.Err(); err != nil {
		return 0, 0, store.Translate(err)
	}
	return n, last, a.db.Write(ctx, func(tx *sql.Tx) error {
		for conv, floor := range floors {
			if _, err := tx.ExecContext(ctx, `UPDATE conversation SET floor = $1 WHERE id = $2 AND floor < $3`, floor, conv, floor); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM message WHERE app = $1 AND id > $2 AND id <= $3`, app, after, last)
		return err
	})
}

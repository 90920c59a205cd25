package store

import (
	"context"
	"database/sql"
	"fmt"
)

const (
	// keptFree is how many free pages (of 4 KiB) a SQLite file keeps for what is
	// written next.
	keptFree = 1024
	// reclaimStep is how many pages one step gives back, a few milliseconds.
	reclaimStep = 256
)

// Reclaim gives pages that are free in a SQLite file back to the disk, a step
// at a time, and reports whether there may be more. It does nothing in files
// that were made without the means for it, nor on PostgreSQL, which has its own.
func (db *DB) Reclaim(ctx context.Context) (more bool, err error) {
	if db.dialect != SQLite {
		return false, nil
	}
	c, err := db.write.Conn(ctx)
	if err != nil {
		return false, Translate(err)
	}
	defer func() { _ = c.Close() }()
	mode, err := pragma(ctx, c, "auto_vacuum")
	if err != nil || mode != incremental {
		return false, err
	}
	free, err := pragma(ctx, c, "freelist_count")
	if err != nil || free <= keptFree {
		return false, err
	}
	step := min(reclaimStep, free-keptFree)
	if _, err := c.ExecContext(ctx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", step)); err != nil {
		return false, Translate(err)
	}
	if free-step > keptFree {
		return true, nil
	}
	// The file shrinks when the change has left the write-ahead log. No reader
	// is waited for: the next checkpoint does what this one leaves.
	_, err = c.ExecContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)")
	return false, Translate(err)
}

// incremental is the value of auto_vacuum with which a file can give pages
// back.
const incremental = 2

func pragma(ctx context.Context, c *sql.Conn, name string) (v int64, err error) {
	err = c.QueryRowContext(ctx, "PRAGMA "+name).Scan(&v)
	return v, Translate(err)
}

// maxConverted is the size in bytes up to which a file that cannot give pages
// back is rewritten at its opening so that it can: about two seconds.
const maxConverted = 256 << 20

// makeReclaimable rewrites a SQLite file of an older version, if it is small.
func makeReclaimable(ctx context.Context, w *sql.DB) error {
	c, err := w.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	mode, err := pragma(ctx, c, "auto_vacuum")
	if err != nil || mode == incremental {
		return err
	}
	pages, err := pragma(ctx, c, "page_count")
	if err != nil {
		return err
	}
	size, err := pragma(ctx, c, "page_size")
	if err != nil || pages*size > maxConverted {
		return err
	}
	for _, q := range []string{fmt.Sprintf("PRAGMA auto_vacuum = %d", incremental), "VACUUM"} {
		if _, err := c.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

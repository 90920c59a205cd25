package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// installationTimeout bounds reading and writing the installation's ID.
const installationTimeout = 10 * time.Second

// Installation returns the ID of the installation that the schema belongs to;
// empty if it carries none.
func (db *DB) Installation(ctx context.Context) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, installationTimeout)
	defer cancel()
	err = db.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS installation (id TEXT PRIMARY KEY)`); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `SELECT id FROM installation`).Scan(&id)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return id, err
}

// SetInstallation writes the ID of the installation that the schema belongs to
// from now on.
func (db *DB) SetInstallation(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, installationTimeout)
	defer cancel()
	return db.Write(ctx, func(tx *sql.Tx) error {
		for _, query := range []string{
			`CREATE TABLE IF NOT EXISTS installation (id TEXT PRIMARY KEY)`, `DELETE FROM installation`,
		} {
			if _, err := tx.ExecContext(ctx, query); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO installation (id) VALUES ($1)`, id)
		return err
	})
}

// Starts returns how often services were started on the schema; 0 if that was
// never counted.
func (db *DB) Starts(ctx context.Context) (n int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, installationTimeout)
	defer cancel()
	err = db.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, createStarts); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(n), 0) FROM installation_starts`).Scan(&n)
	})
	return n, err
}

// SetStarts raises the number of starts; a smaller one changes nothing. It is
// kept when the power fails right after.
func (db *DB) SetStarts(ctx context.Context, n int64) error {
	ctx, cancel := context.WithTimeout(ctx, installationTimeout)
	defer cancel()
	err := db.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, createStarts); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO installation_starts (n) VALUES ($1) ON CONFLICT (n) DO NOTHING`, n); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM installation_starts WHERE n < (SELECT MAX(n) FROM installation_starts)`)
		return err
	})
	if err != nil || db.dialect != SQLite {
		return err
	}
	// SQLite's log reaches the disk with the next checkpoint.
	_, err = db.write.ExecContext(ctx, `PRAGMA wal_checkpoint(FULL)`)
	return Translate(err)
}

const createStarts = `CREATE TABLE IF NOT EXISTS installation_starts (n BIGINT PRIMARY KEY)`

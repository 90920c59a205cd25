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

package store

import (
	"context"
	"database/sql"
)

// Querier runs statements: a *sql.Tx of Write, or the connections of Read.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Scanner is one row of a result.
type Scanner interface{ Scan(dest ...any) error }

// Each calls f with every row of a query, in order, until f fails. Errors of
// the database come back as by Translate.
func Each(ctx context.Context, q Querier, query string, args []any, f func(Scanner) error) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return Translate(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := f(rows); err != nil {
			return Translate(err)
		}
	}
	return Translate(rows.Err())
}

// Row reads the first row of a query into dest and reports whether there is
// one. Errors of the database come back as by Translate.
func Row(ctx context.Context, q Querier, query string, args []any, dest ...any) (found bool, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return false, Translate(err)
	}
	defer func() { _ = rows.Close() }()
	if !rows.Next() {
		return false, Translate(rows.Err())
	}
	if err := rows.Scan(dest...); err != nil {
		return false, Translate(err)
	}
	// A statement that writes and returns its row may fail as late as here.
	if err := rows.Close(); err != nil {
		return false, Translate(err)
	}
	return true, Translate(rows.Err())
}

// Column reads the only column of a query's rows.
func Column[T any](ctx context.Context, q Querier, query string, args ...any) ([]T, error) {
	var out []T
	err := Each(ctx, q, query, args, func(row Scanner) error {
		var v T
		if err := row.Scan(&v); err != nil {
			return err
		}
		out = append(out, v)
		return nil
	})
	return out, err
}

// Exec runs a statement and returns how many rows it changed. Errors of the
// database come back as by Translate.
func Exec(ctx context.Context, q Querier, query string, args ...any) (changed int64, err error) {
	r, err := q.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, Translate(err)
	}
	changed, err = r.RowsAffected()
	return changed, Translate(err)
}

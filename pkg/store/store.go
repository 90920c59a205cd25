// Package store opens the SQL databases: SQLite files on one node, PostgreSQL
// in clusters. Services write one SQL for both; what must differ stands in
// their migrations. Parameters are $1, $2 … in order of appearance.
package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/chappe-im/chappe/pkg/errs"
)

// Dialect tells the two kinds of database apart where SQL has to.
type Dialect int

// The dialects.
const (
	SQLite Dialect = iota
	Postgres
)

// Config says where a service's schema lives.
type Config struct {
	// URL is "sqlite:DIR" (one file per service below DIR) or
	// "postgres://…" (one schema per service).
	URL string
	// Service names the file or schema: lower-case letters.
	Service string
	// SyncFull makes every commit survive a power cut (SQLite; PostgreSQL is
	// set up by its operator).
	SyncFull bool
	// MaxConns bounds connections for reading (SQLite) or in all (PostgreSQL);
	// 0 means 8.
	MaxConns int
}

// DB is one service's database. SQLite has a single writer, so that writers
// queue here and not on locks.
type DB struct {
	dialect Dialect
	write   *sql.DB
	read    *sql.DB
}

// Open opens a database and waits until it answers.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = 8
	}
	switch {
	case strings.HasPrefix(cfg.URL, "sqlite:"):
		return openSQLite(ctx, cfg)
	case strings.HasPrefix(cfg.URL, "postgres://"), strings.HasPrefix(cfg.URL, "postgresql://"):
		return openPostgres(ctx, cfg)
	default:
		return nil, fmt.Errorf("database URL %q begins with neither sqlite: nor postgres://", redact(cfg.URL))
	}
}

func openSQLite(ctx context.Context, cfg Config) (*DB, error) {
	dir := strings.TrimPrefix(cfg.URL, "sqlite:")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("database directory: %w", err)
	}
	path := filepath.Join(dir, cfg.Service+".db")
	sync := "NORMAL"
	if cfg.SyncFull {
		sync = "FULL"
	}
	dsn := func(extra string) string {
		return "file:" + url.PathEscape(path) + "?_pragma=busy_timeout(10000)&_pragma=auto_vacuum(2)&_pragma=journal_mode(WAL)&_pragma=journal_size_limit(67108864)&_pragma=synchronous(" + sync +
			")&_pragma=foreign_keys(1)&_pragma=cache_size(-16384)&_pragma=temp_store(MEMORY)&_pragma=wal_autocheckpoint(8192)" + extra
	}
	open := func(extra string) (*sql.DB, error) {
		c, err := sqlite.NewConnector(dsn(extra))
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		return sql.OpenDB(keeping{c}), nil
	}
	w, err := open("&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	w.SetMaxOpenConns(1)
	w.SetMaxIdleConns(1)
	if err := w.PingContext(ctx); err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	// What cannot be rewritten, for want of room say, works as it is.
	_ = makeReclaimable(ctx, w)
	r, err := open("&_pragma=query_only(1)")
	if err != nil {
		_ = w.Close()
		return nil, err
	}
	r.SetMaxOpenConns(cfg.MaxConns)
	r.SetMaxIdleConns(2)
	r.SetConnMaxIdleTime(time.Minute)
	return &DB{dialect: SQLite, write: w, read: r}, nil
}

// connectTimeout bounds one try to connect to PostgreSQL.
const connectTimeout = 2 * time.Second

func openPostgres(ctx context.Context, cfg Config) (*DB, error) {
	pc, err := pgx.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	pc.RuntimeParams["search_path"] = cfg.Service
	pc.RuntimeParams["application_name"] = "chappe-" + cfg.Service
	if pc.ConnectTimeout == 0 {
		pc.ConnectTimeout = connectTimeout
	}
	pc.DialFunc = (&net.Dialer{Timeout: connectTimeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3,
	}}).DialContext
	db := stdlib.OpenDB(*pc)
	db.SetMaxOpenConns(cfg.MaxConns)
	db.SetMaxIdleConns(cfg.MaxConns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	if _, err := db.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS `+pgx.Identifier{cfg.Service}.Sanitize()); err != nil {
		// Two services that start at once may race for the catalog's row.
		var pe *pgconn.PgError
		if !errors.As(err, &pe) || (pe.Code != "23505" && pe.Code != "42P06") {
			_ = db.Close()
			return nil, fmt.Errorf("open database: %w", err)
		}
	}
	return &DB{dialect: Postgres, write: db, read: db}, nil
}

// Dialect of the database.
func (db *DB) Dialect() Dialect { return db.dialect }

// Close closes the database.
func (db *DB) Close() error {
	if db.read == db.write {
		return db.write.Close()
	}
	return errors.Join(db.read.Close(), db.write.Close())
}

// Migrate brings the schema up to date. migrations holds the folders "sqlite"
// and "postgres" with goose files of the same versions.
func (db *DB) Migrate(ctx context.Context, migrations fs.FS) error {
	folder, dialect := "sqlite", goose.DialectSQLite3
	if db.dialect == Postgres {
		folder, dialect = "postgres", goose.DialectPostgres
	}
	sub, err := fs.Sub(migrations, folder)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	st, err := database.NewStore(dialect, "schema_version")
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	p, err := goose.NewProvider("", db.write, sub, goose.WithStore(st))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// Prepare makes a statement for use in Write's transactions, by tx.Stmt. The
// caller closes it.
func (db *DB) Prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	st, err := db.write.PrepareContext(ctx, query)
	return st, Translate(err)
}

// Rows writes the VALUES of an INSERT of several rows, with the cheapest kind
// of parameter the database has.
func (db *DB) Rows(rows, columns int) string {
	var b strings.Builder
	for r := range rows {
		if r > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('(')
		for c := range columns {
			if c > 0 {
				b.WriteByte(',')
			}
			if db.dialect == Postgres {
				fmt.Fprintf(&b, "$%d", r*columns+c+1)
			} else {
				b.WriteByte('?')
			}
		}
		b.WriteByte(')')
	}
	return b.String()
}

// Read gives the connections for queries outside a transaction.
func (db *DB) Read() *sql.DB { return db.read }

// maxAttempts bounds how often Write repeats a transaction that lost against
// another.
const maxAttempts = 8

// Write runs f in a transaction and commits it if f returns nil. When the
// database says that the transaction lost against another one, f runs again,
// so it must have no effect outside tx. Errors that are not *errs.Error come
// back as Unavailable or Internal.
func (db *DB) Write(ctx context.Context, f func(tx *sql.Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := db.once(ctx, f)
		if err == nil || attempt == maxAttempts || !lostRace(err) {
			return Translate(err)
		}
		t := time.NewTimer(time.Duration(attempt)*2*time.Millisecond + rand.N(5*time.Millisecond))
		select {
		case <-ctx.Done():
			t.Stop()
			return Translate(ctx.Err())
		case <-t.C:
		}
	}
}

func (db *DB) once(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

// IsUnique reports whether err is a violated unique constraint.
func IsUnique(err error) bool {
	var se *sqlite.Error
	if errors.As(err, &se) {
		return se.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || se.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
	}
	var pe *pgconn.PgError
	return errors.As(err, &pe) && pe.Code == "23505"
}

func lostRace(err error) bool {
	var se *sqlite.Error
	if errors.As(err, &se) {
		return se.Code()&0xff == sqlite3.SQLITE_BUSY
	}
	var pe *pgconn.PgError
	return errors.As(err, &pe) && (pe.Code == "40001" || pe.Code == "40P01")
}

// Translate makes the database's errors the project's: *errs.Error and
// sql.ErrNoRows stay what they are, a database that cannot be reached is
// Unavailable, all else is Internal.
func Translate(err error) error {
	if err == nil || errors.Is(err, sql.ErrNoRows) {
		return err
	}
	var e *errs.Error
	if errors.As(err, &e) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return errs.From(err)
	}
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		switch pe.Code[:2] {
		case "08", "57", "53": // connection, operator intervention, out of resources
			return errs.Unavailable("database", err)
		}
		return errs.Internal(err)
	}
	var ce *pgconn.ConnectError
	if errors.As(err, &ce) || pgconn.SafeToRetry(err) || connectionBroke(err) {
		return errs.Unavailable("database", err)
	}
	var se *sqlite.Error
	if errors.As(err, &se) {
		switch se.Code() & 0xff {
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN:
			return errs.Unavailable("database", err)
		}
	}
	return errs.Internal(err)
}

// connectionBroke reports whether the connection ended under a statement.
func connectionBroke(err error) bool {
	var ne *net.OpError
	return errors.As(err, &ne) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone)
}

// In writes a list of n parameters for an IN clause, from $first on:
// "$3,$4,$5".
func In(first, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "$%d", first+i)
	}
	return b.String()
}

func redact(u string) string {
	if p, err := url.Parse(u); err == nil {
		return p.Redacted()
	}
	return "(unreadable)"
}

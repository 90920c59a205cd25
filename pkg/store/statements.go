package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// keptStatements bounds the statements that one connection keeps.
	keptStatements = 128
	// maxKeptText bounds, in bytes, the text of a statement that is kept. Longer
	// ones are lists whose length changes from call to call; kept, they would
	// push out what comes again and again.
	maxKeptText = 1 << 10
)

// keeping makes connections that keep their statements prepared. SQLite has
// no server to do so: each text is parsed and planned where it is used, which
// takes longer than most of our statements run. PostgreSQL's driver keeps them
// by itself.
type keeping struct{ driver.Connector }

// Connect opens a connection.
func (k keeping) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := k.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	inner, ok := c.(driverConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("store: a connection of type %T lacks what is asked of it", c)
	}
	return newKeepingConn(inner)
}

// driverConn is what the driver's connections can do.
type driverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// driverStmt is what the driver's statements can do.
type driverStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// driverRows is what the driver's rows can do.
type driverRows interface {
	driver.Rows
	driver.RowsColumnTypeDatabaseTypeName
	driver.RowsColumnTypeLength
	driver.RowsColumnTypeNullable
	driver.RowsColumnTypePrecisionScale
	driver.RowsColumnTypeScanType
}

// keepingConn is a connection that prepares the text of an Exec or a Query
// once. Like every driver's connection it is used by one goroutine at a time.
// A statement notices by itself when the schema has changed, whoever changed
// it, and is planned anew.
type keepingConn struct {
	driverConn
	kept *simplelru.LRU[string, *keptStmt]
}

// keptStmt is a statement in the cache. It can run once at a time: while rows
// of it are open it is busy, and one that was pushed out then is closed when
// they are.
type keptStmt struct {
	driverStmt
	busy, dropped bool
}

func newKeepingConn(inner driverConn) (*keepingConn, error) {
	kept, err := simplelru.NewLRU(keptStatements, func(_ string, s *keptStmt) {
		s.dropped = true
		if !s.busy {
			// The text is correct, or there would be no statement; what its last
			// run failed of was told to whoever ran it.
			_ = s.Close()
		}
	})
	if err != nil {
		return nil, err
	}
	return &keepingConn{driverConn: inner, kept: kept}, nil
}

// ExecContext runs a statement without rows.
func (c *keepingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if !keepable(query) {
		return c.driverConn.ExecContext(ctx, query, args)
	}
	s, err := c.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	r, err := s.ExecContext(ctx, args)
	c.release(query, s, err)
	return r, err
}

// QueryContext runs a statement with rows.
func (c *keepingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if !keepable(query) {
		return c.driverConn.QueryContext(ctx, query, args)
	}
	s, err := c.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	r, err := s.QueryContext(ctx, args)
	if err != nil {
		c.release(query, s, err)
		return nil, err
	}
	rows, ok := r.(driverRows)
	if !ok {
		err = fmt.Errorf("store: rows of type %T lack what is asked of them", r)
		_ = r.Close()
		c.release(query, s, err)
		return nil, err
	}
	return &keptRows{driverRows: rows, c: c, query: query, s: s}, nil
}

// PrepareContext gives a handle to a statement that is kept, or a statement of
// the caller's own.
func (c *keepingConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if !keepable(query) {
		return c.driverConn.PrepareContext(ctx, query)
	}
	s, err := c.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	c.release(query, s, nil)
	return &handle{c: c, query: query}, nil
}

// Close closes the connection and its statements.
func (c *keepingConn) Close() error {
	c.kept.Purge()
	return c.driverConn.Close()
}

// statement gives a prepared statement, which is the caller's until release.
func (c *keepingConn) statement(ctx context.Context, query string) (*keptStmt, error) {
	known, ok := c.kept.Get(query)
	if ok && !known.busy {
		known.busy = true
		return known, nil
	}
	p, err := c.driverConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	inner, can := p.(driverStmt)
	if !can {
		_ = p.Close()
		return nil, fmt.Errorf("store: a statement of type %T lacks what is asked of it", p)
	}
	s := &keptStmt{driverStmt: inner, busy: true}
	if ok {
		s.dropped = true // beside the one that is busy, for this once
	} else {
		c.kept.Add(query, s)
	}
	return s, nil
}

// handle runs a kept statement under its text.
type handle struct {
	c     *keepingConn
	query string
}

var _ driverStmt = (*handle)(nil)

// Close leaves the statement to the connection.
func (h *handle) Close() error { return nil }

// NumInput is not known.
func (h *handle) NumInput() int { return -1 }

// ExecContext runs the statement without rows.
func (h *handle) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return h.c.ExecContext(ctx, h.query, args)
}

// QueryContext runs the statement with rows.
func (h *handle) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return h.c.QueryContext(ctx, h.query, args)
}

// Exec is ExecContext for those who have no context; nobody here.
func (h *handle) Exec(args []driver.Value) (driver.Result, error) {
	return h.ExecContext(context.Background(), named(args))
}

// Query is QueryContext for those who have no context; nobody here.
func (h *handle) Query(args []driver.Value) (driver.Rows, error) {
	return h.QueryContext(context.Background(), named(args))
}

func named(args []driver.Value) []driver.NamedValue {
	out := make([]driver.NamedValue, len(args))
	for i, v := range args {
		out[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return out
}

// release ends the use of a statement. One that failed is not trusted again.
func (c *keepingConn) release(query string, s *keptStmt, err error) {
	s.busy = false
	switch {
	case s.dropped:
		_ = s.Close()
	case err != nil:
		c.kept.Remove(query)
	}
}

// keepable tells the statements of services from those that set up a database:
// keeping these would be of no use.
func keepable(query string) bool {
	if len(query) > maxKeptText || len(query) < len("SELECT ") {
		return false
	}
	switch query[:7] {
	case "SELECT ", "INSERT ", "UPDATE ", "DELETE ":
		return true
	}
	return query[:5] == "WITH "
}

// keptRows are the rows of a kept statement, which is free again when they are
// closed.
type keptRows struct {
	driverRows
	c      *keepingConn
	query  string
	s      *keptStmt
	err    error
	closed bool
}

// Next reads a row.
func (r *keptRows) Next(dest []driver.Value) error {
	err := r.driverRows.Next(dest)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return err
}

// Close ends the reading.
func (r *keptRows) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	err := r.driverRows.Close()
	r.c.release(r.query, r.s, errors.Join(r.err, err))
	return err
}

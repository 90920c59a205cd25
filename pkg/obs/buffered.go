package obs

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// flushEvery is how long a log line may wait to be written, flushBytes how
	// much may wait.
	flushEvery = 200 * time.Millisecond
	flushBytes = 64 << 10
)

// Buffered gathers log lines and writes them together: under load the writes
// cost more than the lines. Warnings and errors are written at once, with what
// came before them. Close writes the rest; a process that is killed loses the
// lines of the last moment.
type Buffered struct {
	w io.Writer

	mu  sync.Mutex
	buf []byte

	stop chan struct{}
	done sync.WaitGroup
}

// NewBuffered begins to gather lines for w.
func NewBuffered(w io.Writer) *Buffered {
	b := &Buffered{w: w, stop: make(chan struct{})}
	b.done.Go(b.run)
	return b
}

func (b *Buffered) run() {
	t := time.NewTicker(flushEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			b.Flush()
		case <-b.stop:
			return
		}
	}
}

// Write takes a line.
func (b *Buffered) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, p...)
	if len(b.buf) >= flushBytes {
		return len(p), b.flush()
	}
	return len(p), nil
}

// Flush writes what waits.
func (b *Buffered) Flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.flush() // there is nowhere to tell that the log cannot be written
}

func (b *Buffered) flush() error {
	if len(b.buf) == 0 {
		return nil
	}
	_, err := b.w.Write(b.buf)
	b.buf = b.buf[:0]
	return err
}

// Close writes what waits and ends the gathering. Later lines are written only
// by Flush.
func (b *Buffered) Close() {
	close(b.stop)
	b.done.Wait()
	b.Flush()
}

// Handler wraps a handler that writes to b, so that what matters is written at
// once.
func (b *Buffered) Handler(next slog.Handler) slog.Handler { return &flushing{next, b} }

type flushing struct {
	slog.Handler
	b *Buffered
}

// Handle passes a record on.
func (f *flushing) Handle(ctx context.Context, r slog.Record) error {
	err := f.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		f.b.Flush()
	}
	return err
}

// WithAttrs keeps the wrapping.
func (f *flushing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &flushing{f.Handler.WithAttrs(attrs), f.b}
}

// WithGroup keeps the wrapping.
func (f *flushing) WithGroup(name string) slog.Handler {
	return &flushing{f.Handler.WithGroup(name), f.b}
}

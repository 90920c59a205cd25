package obs

import (
	"context"
	"io"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"time"
)

// lines writes the same lines as slog's JSON handler, which it asks for all but
// the plainest: at one line a request the general way costs as much as the rest
// of a short call.
type lines struct {
	slog.Handler // writes to out too
	out          *lockedWriter
	// attrs are those of With, as they stand in a line.
	attrs []byte
}

// newLines makes a handler that writes to w.
func newLines(w io.Writer, opts *slog.HandlerOptions) *lines {
	out := &lockedWriter{w: w}
	return &lines{Handler: slog.NewJSONHandler(out, opts), out: out}
}

// lockedWriter takes one line at a time.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write passes a line on.
func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// maxKeptLine bounds the buffers that are used again.
const maxKeptLine = 16 << 10

var lineBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

// Handle writes a record.
func (l *lines) Handle(ctx context.Context, r slog.Record) error {
	buf := lineBuffers.Get().(*[]byte) //nolint:forcetypeassert // nothing else is put there
	line, plain := l.line((*buf)[:0], r)
	var err error
	if plain {
		_, err = l.out.Write(line)
	} else {
		err = l.Handler.Handle(ctx, r)
	}
	if cap(line) <= maxKeptLine {
		*buf = line
		lineBuffers.Put(buf)
	}
	return err
}

// line writes a record if it is a plain one.
func (l *lines) line(b []byte, r slog.Record) ([]byte, bool) {
	t := r.Time.Round(0)
	if y := t.Year(); r.Time.IsZero() || y < 0 || y > 9999 || !plain(r.Message) {
		return b, false
	}
	b = append(b, `{"time":"`...)
	b = t.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","level":"`...)
	switch r.Level {
	case slog.LevelDebug:
		b = append(b, "DEBUG"...)
	case slog.LevelInfo:
		b = append(b, "INFO"...)
	case slog.LevelWarn:
		b = append(b, "WARN"...)
	case slog.LevelError:
		b = append(b, "ERROR"...)
	default:
		return b, false
	}
	b = append(b, `","msg":"`...)
	b = append(b, r.Message...)
	b = append(b, '"')
	b = append(b, l.attrs...)
	ok := true
	r.Attrs(func(a slog.Attr) bool {
		b, ok = appendAttr(b, a)
		return ok
	})
	return append(b, "}\n"...), ok
}

// appendAttr writes a plain attribute with a comma before it.
func appendAttr(b []byte, a slog.Attr) ([]byte, bool) {
	if a.Key == "" || !plain(a.Key) {
		return b, false
	}
	b = append(b, ',', '"')
	b = append(b, a.Key...)
	b = append(b, '"', ':')
	switch v := a.Value; v.Kind() {
	case slog.KindString:
		s := v.String()
		if !plain(s) {
			return b, false
		}
		b = append(b, '"')
		b = append(b, s...)
		return append(b, '"'), true
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10), true
	case slog.KindUint64:
		return strconv.AppendUint(b, v.Uint64(), 10), true
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool()), true
	case slog.KindFloat64:
		f := v.Float64()
		if size := math.Abs(f); f != 0 && (size < 1e-6 || size >= 1e21) || f != f {
			return b, false
		}
		return strconv.AppendFloat(b, f, 'f', -1, 64), true
	default:
		return b, false
	}
}

// plain reports whether a text stands in JSON as it is.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// WithAttrs adds attributes to every line.
func (l *lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	inner := l.Handler.WithAttrs(attrs)
	b := append([]byte(nil), l.attrs...)
	for _, a := range attrs {
		var ok bool
		if b, ok = appendAttr(b, a); !ok {
			return inner
		}
	}
	return &lines{Handler: inner, out: l.out, attrs: b}
}

// WithGroup leaves groups to the general way.
func (l *lines) WithGroup(name string) slog.Handler {
	if name == "" {
		return l
	}
	return l.Handler.WithGroup(name)
}

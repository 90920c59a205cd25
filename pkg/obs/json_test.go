package obs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLinesAreSlogs writes records of all kinds both ways.
func TestLinesAreSlogs(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 4, 5, 6, 7, 890_120_000, time.FixedZone("", 3600))
	for name, c := range map[string]struct {
		msg   string
		level slog.Level
		at    time.Time
		attrs []any
		plain bool
	}{
		"nothing":          {msg: "http", at: at, plain: true},
		"no time":          {msg: "http"},
		"now":              {msg: "http", at: time.Now(), plain: true},
		"utc":              {msg: "http", at: at.UTC(), plain: true},
		"whole second":     {msg: "http", at: at.Truncate(time.Second), plain: true},
		"year 12026":       {msg: "http", at: at.AddDate(10_000, 0, 0)},
		"warning":          {msg: "x", level: slog.LevelWarn, at: at, plain: true},
		"error":            {msg: "x", level: slog.LevelError, at: at, plain: true},
		"debug":            {msg: "x", level: slog.LevelDebug, at: at, plain: true},
		"another level":    {msg: "x", level: slog.LevelInfo + 1, at: at},
		"quotes":           {msg: `say "x"`, at: at},
		"letters":          {msg: "grün", at: at},
		"strings":          {msg: "x", at: at, attrs: []any{"a", "1 <&> 2", "b", ""}, plain: true},
		"escaped":          {msg: "x", at: at, attrs: []any{"a", "1\n2", "b", "\\", "c", "\x7f", "d", "\xff"}},
		"a key to escape":  {msg: "x", at: at, attrs: []any{"a\"", "1"}},
		"numbers":          {msg: "x", at: at, attrs: []any{"a", -7, "b", uint64(math.MaxUint64), "c", int64(math.MinInt64)}, plain: true},
		"fractions":        {msg: "x", at: at, attrs: []any{"a", 0.0, "b", 12.345, "c", -1e20, "d", 1e-6, "e", 3.0, "f", math.Copysign(0, -1)}, plain: true},
		"large":            {msg: "x", at: at, attrs: []any{"a", 1e21}},
		"small":            {msg: "x", at: at, attrs: []any{"a", 1e-7}},
		"no numbers":       {msg: "x", at: at, attrs: []any{"a", math.NaN(), "b", math.Inf(1)}},
		"truth":            {msg: "x", at: at, attrs: []any{"a", true, "b", false}, plain: true},
		"a span":           {msg: "x", at: at, attrs: []any{"a", time.Second}},
		"an instant":       {msg: "x", at: at, attrs: []any{"a", at}},
		"an error":         {msg: "x", at: at, attrs: []any{"a", "b", "c", errors.New("no")}},
		"a group":          {msg: "x", at: at, attrs: []any{slog.Group("g", "a", 1)}},
		"an empty one":     {msg: "x", at: at, attrs: []any{slog.Attr{}}},
		"more than inline": {msg: "x", at: at, attrs: []any{"a", 1, "b", 2, "c", 3, "d", 4, "e", 5, "f", 6, "g", 7}, plain: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := slog.NewRecord(c.at, c.level, c.msg, 0)
			r.Add(c.attrs...)
			var want, got bytes.Buffer
			opts := &slog.HandlerOptions{Level: slog.LevelDebug}
			general, ours := slog.Handler(slog.NewJSONHandler(&want, opts)), slog.Handler(newLines(&got, opts))
			write := func() {
				require.NoError(t, general.Handle(context.Background(), r))
				require.NoError(t, ours.Handle(context.Background(), r))
				require.Equal(t, want.String(), got.String())
			}
			write()
			_, plain := ours.(*lines).line(nil, r)
			require.Equal(t, c.plain, plain)
			for _, with := range [][]slog.Attr{{slog.String("service", "gateway"), slog.Int("n", 1)}, {slog.Any("of", []int{1})}, {slog.Bool("b", true)}} {
				general, ours = general.WithAttrs(with), ours.WithAttrs(with)
				write()
			}
			general, ours = general.WithGroup("").WithGroup("g"), ours.WithGroup("").WithGroup("g")
			write()
		})
	}
}

func TestLinesAreWhole(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	logger := slog.New(newLines(&out, nil))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				logger.Info("plain", "a", 1)
				logger.Info("not plain", "a", []int{1})
			}
		})
	}
	wg.Wait()
	n := 0
	for line := range bytes.Lines(out.Bytes()) {
		require.True(t, bytes.HasPrefix(line, []byte(`{"time":"`)) && bytes.HasSuffix(line, []byte("}\n")), "%s", line)
		n++
	}
	require.Equal(t, 800, n)
}

func BenchmarkLine(b *testing.B) {
	for name, h := range map[string]slog.Handler{"slog": slog.NewJSONHandler(io.Discard, nil), "lines": newLines(io.Discard, nil)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := slog.NewRecord(time.Now(), slog.LevelInfo, "http", 0)
				r.AddAttrs(slog.String(KeyRequestID, "2wn8kzq1ld7-1f"), slog.String("http_method", "GET"), slog.String("route", "/{org}/{app}/users/{username}"),
					slog.String(KeyApp, "bench#load"), slog.Int(KeyStatus, 200), slog.Float64(KeyDuration, 1.234), slog.Int64("bytes", 345), slog.String("ip", "127.0.0.1"))
				_ = h.Handle(b.Context(), r)
			}
		})
	}
}

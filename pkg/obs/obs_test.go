package obs_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/obs"
)

// sink is a writer that counts its writes.
type sink struct {
	mu     sync.Mutex
	text   bytes.Buffer
	writes int
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	return s.text.Write(p)
}

func (s *sink) lines() (int, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.text.String(), "\n"), s.writes
}

func TestBuffered(t *testing.T) {
	t.Parallel()
	out := &sink{}
	b := obs.NewBuffered(out)
	logger := slog.New(b.Handler(slog.NewJSONHandler(b, nil))).With("service", "x")
	for range 50 {
		logger.Info("call")
	}
	logger.Warn("look here")
	lines, writes := out.lines()
	require.Equal(t, 51, lines, "a warning brings everything before it along")
	require.Less(t, writes, 10, "lines are written together")
	logger.Info("soon")
	require.Eventually(t, func() bool { n, _ := out.lines(); return n == 52 }, 10*time.Second, time.Millisecond)
	logger.Info("last")
	b.Close()
	lines, _ = out.lines()
	require.Equal(t, 53, lines, "nothing is lost at the end")
}

func TestNewLogger(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		level, format, want string
	}{
		{"info", "json", `"msg":"shown"`}, {"warn", "json", ""}, {"info", "text", "msg=shown"}, {"nonsense", "json", `"msg":"shown"`},
	} {
		var out bytes.Buffer
		obs.NewLogger(&out, c.level, c.format).Info("shown")
		if c.want == "" {
			require.Empty(t, out.String())
			continue
		}
		require.Contains(t, out.String(), c.want)
	}
}

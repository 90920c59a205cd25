package harness

import (
	"bufio"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Metric sums up the series of a metric that a server shows its operators.
// Labels narrow the sum down: only series that hold all of them, such as
// `outcome="admitted"`, count.
func (s *Server) Metric(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Ops+"/metrics", nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	var sum float64
	lines := bufio.NewScanner(resp.Body)
next:
	for lines.Scan() {
		series, value, ok := strings.Cut(lines.Text(), " ")
		if base, _, _ := strings.Cut(series, "{"); !ok || base != name {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(series, l) {
				continue next
			}
		}
		v, err := strconv.ParseFloat(value, 64)
		require.NoError(t, err)
		sum += v
	}
	require.NoError(t, lines.Err())
	return sum
}

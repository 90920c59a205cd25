package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/bench/internal/check"
	"github.com/chappe-im/chappe/bench/internal/fake"
	"github.com/chappe-im/chappe/bench/internal/measure"
)

// selfVariable makes this test binary the program, for the servers that it
// starts of itself.
const selfVariable = "CHAPPE_BENCH_SELF"

func TestMain(m *testing.M) {
	if os.Getenv(selfVariable) != "" {
		if err := New().ExecuteContext(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func execute(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := New()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestBaselines(t *testing.T) {
	t.Setenv(selfVariable, "1")
	for _, kind := range []string{"echo", "publish"} {
		out, err := execute(t, "baseline", kind, "--count", "200", "--warmup", "0", "--connections", "4", "--output", "json")
		require.NoError(t, err, kind)
		var r measure.Result
		require.NoError(t, json.Unmarshal([]byte(out), &r))
		require.EqualValues(t, 200, r.Ops)
		require.Positive(t, r.ServerPeakMiB, "the server's process is known")
		require.Positive(t, r.Latency.P99)
	}
	out, err := execute(t, "baseline", "frames", "--receivers", "20", "--targets", "10", "--rounds", "5")
	require.NoError(t, err)
	require.Contains(t, out, "100 in")
	_, err = execute(t, "baseline", "frames", "--receivers", "5", "--targets", "10")
	require.Error(t, err)
}

func TestSendAndFanout(t *testing.T) {
	t.Parallel()
	lossless := fake.Start(nil)
	defer lossless.Close()
	args := func(s *fake.Server, more ...string) []string {
		return append(more, "--url", s.URL, "--app", "org/app", "--warmup", "0")
	}
	out, err := execute(t, args(lossless, "send", "--count", "50", "--connections", "2", "--recipients", "4")...)
	require.NoError(t, err)
	require.Contains(t, out, "all 50 accepted messages arrived once and in order")
	out, err = execute(t, "fanout", "--receivers", "6", "--targets", "3", "--rounds", "4", "--url", lossless.URL, "--app", "org/app", "--output", "json")
	require.NoError(t, err)
	require.Contains(t, out, `"lost": 0`)

	doubling := fake.Start(func(_ string, waiting []string, text string) []string { return append(waiting, text, text) })
	defer doubling.Close()
	out, err = execute(t, args(doubling, "send", "--count", "50", "--connections", "2", "--recipients", "4")...)
	require.ErrorContains(t, err, "came twice", "the exit status must tell")
	require.Contains(t, out, "FAILED")
}

func TestShowRefuses(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	require.Error(t, show(&b, "xml", &measure.Result{Ops: 1}))
	require.Error(t, show(&b, "text", &measure.Result{}), "nothing was measured")
	require.Error(t, show(&b, "json", &measure.Result{Ops: 1, Check: &check.Report{Lost: 1}}))
	require.NoError(t, show(&b, "json", &measure.Result{Ops: 1, Check: &check.Report{Accepted: 1, Arrived: 1}}))
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	require.Equal(t, "chappe-bench suite --rounds 3", commandLine([]string{"/a/b/chappe-bench", "suite", "--rounds", "3"}))
	require.Equal(t, "go run ./bench/chappe-bench suite", commandLine([]string{"/tmp/go-build1/exe/chappe-bench", "suite"}))
}

func TestUnknownServer(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"send", "--url", "http://127.0.0.1:1"},
		{"fanout", "--url", "http://127.0.0.1:1"},
		{"idle", "--url", "http://127.0.0.1:1"},
		{"suite", "--server", "/nonexistent/chappe"},
		{"send", "--app", "nonsense"},
	} {
		_, err := execute(t, args...)
		require.Error(t, err, "%v", args)
	}
}

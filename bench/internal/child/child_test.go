package child

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMain makes this test binary the program that is started: the first
// argument says what it plays.
func TestMain(m *testing.M) {
	if role := os.Getenv("CHILD_ROLE"); role != "" {
		os.Exit(play(role))
	}
	os.Exit(m.Run())
}

func play(role string) int {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	switch role {
	case "speaks":
		fmt.Println("127.0.0.1:7")
	case "fails":
		fmt.Fprintln(os.Stderr, "out of luck")
		return 3
	case "serves":
		args := map[string]string{}
		for i := 2; i+1 < len(os.Args); i += 2 {
			args[os.Args[i]] = os.Args[i+1]
		}
		mux := http.NewServeMux()
		calls := 0
		mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
			if calls++; calls < 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		go func() { _ = http.ListenAndServe(args["--ops"], mux) }()
		if err := os.WriteFile(filepath.Join(args["--data"], "was-here"), nil, 0o600); err != nil {
			return 4
		}
	}
	<-c
	return 0
}

// asRole is not parallel: it sets the environment of the children.
func asRole(t *testing.T, role string) string {
	t.Helper()
	t.Setenv("CHILD_ROLE", role)
	self, err := os.Executable()
	require.NoError(t, err)
	return self
}

func TestBaselineSaysWhereItServes(t *testing.T) {
	p, addr, err := baselineOf(t.Context(), t.TempDir(), "echo", asRole(t, "speaks"))
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:7", addr)
	require.Positive(t, p.PID())
	require.NoError(t, p.Stop())
	require.NoError(t, p.Stop(), "stopping twice")
}

func TestFailingChildren(t *testing.T) {
	self := asRole(t, "fails")
	_, _, err := baselineOf(t.Context(), t.TempDir(), "echo", self)
	require.ErrorContains(t, err, "out of luck")
	_, err = Chappe(t.Context(), t.TempDir(), t.TempDir(), self, nil)
	require.ErrorContains(t, err, "out of luck")
	_, err = Chappe(t.Context(), t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "missing"), nil)
	require.Error(t, err)
}

func TestChappeIsAwaited(t *testing.T) {
	data := t.TempDir()
	s, err := Chappe(t.Context(), t.TempDir(), data, asRole(t, "serves"), nil)
	require.NoError(t, err)
	require.Positive(t, s.Ready)
	require.NoError(t, s.Stop())
	require.FileExists(t, filepath.Join(data, "was-here"))
}

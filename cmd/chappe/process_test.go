package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asChappe tells the test binary to be the program itself.
const asChappe = "CHAPPE_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asChappe) != "" {
		_ = os.Unsetenv(asChappe)
		main()
	}
	os.Exit(m.Run())
}

// command makes a command line of the program. The environment is only what
// the test says.
func command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = []string{asChappe + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.Getenv("TMPDIR")}
	return cmd
}

// server is a running chappe serve.
type server struct {
	t    *testing.T
	cmd  *exec.Cmd
	data string
	log  string
	// http, grpc and ops are host:port.
	http, grpc, ops string
	ended           chan error
}

// serve starts a server on ports of the system's choice and waits until it is
// ready. Standard output and error go to one file, as a service manager does
// it.
func serve(t *testing.T, data string, args ...string) *server {
	t.Helper()
	s := &server{t: t, data: data, log: filepath.Join(t.TempDir(), "log"), ended: make(chan error, 1)}
	out, err := os.Create(s.log)
	require.NoError(t, err)
	defer func() { _ = out.Close() }()
	s.cmd = command(append([]string{"serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--data", data}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = out, out
	require.NoError(t, s.cmd.Start())
	go func() { s.ended <- s.cmd.Wait() }()
	t.Cleanup(s.stop)
	require.Eventually(t, func() bool {
		select {
		case err := <-s.ended:
			s.ended <- err
			require.FailNow(t, "the server ended", "%v: %s", err, s.logged())
		default:
		}
		for line := range strings.Lines(s.logged()) {
			var ready struct{ Msg, HTTP, GRPC, Ops string }
			if json.Unmarshal([]byte(line), &ready) == nil && ready.Msg == "ready" {
				s.http, s.grpc, s.ops = ready.HTTP, ready.GRPC, ready.Ops
				return true
			}
		}
		return false
	}, 60*time.Second, 10*time.Millisecond)
	return s
}

// logged returns what the server has written so far.
func (s *server) logged() string {
	raw, err := os.ReadFile(s.log)
	require.NoError(s.t, err)
	return string(raw)
}

// stop ends the server; a second call does nothing.
func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	require.NoError(s.t, s.cmd.Process.Signal(syscall.SIGTERM))
	s.cmd = nil
	select {
	case err := <-s.ended:
		require.NoError(s.t, err, s.logged())
	case <-time.After(60 * time.Second):
		require.FailNow(s.t, "the server did not stop")
	}
}

// secret reads a file of the data directory.
func (s *server) secret(name string) string {
	raw, err := os.ReadFile(filepath.Join(s.data, name))
	require.NoError(s.t, err)
	return strings.TrimSpace(string(raw))
}

// chappe runs one of the operators' commands against the server.
func (s *server) chappe(args ...string) string {
	out, err := s.try(args...)
	require.NoError(s.t, err, out)
	return out
}

func (s *server) try(args ...string) (string, error) {
	cmd := command(append(args, "--server", s.grpc, "--data", s.data)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// fails runs a server that has to end at its start and returns what it said.
func fails(t *testing.T, args ...string) string {
	t.Helper()
	cmd := command(append([]string{"serve", "--http", "127.0.0.1:0"}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	kill := time.AfterFunc(60*time.Second, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "it started: %s", out.String())
	require.Equal(t, 1, exit.ExitCode(), out.String())
	return out.String()
}

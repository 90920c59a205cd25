package harness

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/obs"
	"github.com/chappe-im/chappe/services/run"
)

const (
	// childEnv tells a test binary to be a server with its data in that
	// directory.
	childEnv = "CHAPPE_TEST_SERVE"
	// partEnv tells it to be the part of a server that this configuration says.
	partEnv = "CHAPPE_TEST_SERVE_PART"
)

// RunChild makes the process a server if this package started it, and does not
// return then. TestMain calls it first.
func RunChild() {
	serve := childTask()
	if serve == nil {
		return
	}
	go exitWithParent()
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// childTask returns what the environment tells a child to do; nil tells that
// this process is none.
func childTask() func() error {
	if data := os.Getenv(childEnv); data != "" {
		return func() error { return serveChild(config(data)) }
	}
	if part := os.Getenv(partEnv); part != "" {
		return func() error {
			var cfg run.Config
			if err := json.Unmarshal([]byte(part), &cfg); err != nil {
				return err
			}
			return serveChild(cfg)
		}
	}
	if flags := os.Getenv(flagsEnv); flags != "" {
		return func() error {
			var f Flags
			if err := json.Unmarshal([]byte(flags), &f); err != nil {
				return err
			}
			cfg, err := f.config()
			if err != nil {
				return err
			}
			return serveChild(cfg)
		}
	}
	if dir := os.Getenv(natsEnv); dir != "" {
		return func() error { return serveNATS(dir, os.Getenv(natsListenEnv), os.Getenv(natsTokenEnv)) }
	}
	return nil
}

// exitWithParent ends a child whose parent is gone: the pipe to it breaks then.
func exitWithParent() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(1)
}

func serveChild(cfg run.Config) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	s, err := run.New(cfg, embedded{}, obs.NewLogger(os.Stderr, "warn", "text"), io.Discard)
	if err != nil {
		return err
	}
	if err := s.Start(context.Background()); err != nil {
		return err
	}
	fmt.Println("ready", cmp.Or(s.HTTPAddr(), "-"), s.GRPCAddr(), s.OpsAddr()) //nolint:forbidigo // what the parent waits for
	<-signals
	return s.Stop(context.Background())
}

// Process is a server as a process of its own.
type Process struct {
	*Server
	cmd    *exec.Cmd
	exited chan error
}

// StartProcess runs a server as a process of its own and waits until it is
// ready. It is killed at the test's end if it still runs.
func StartProcess(t testing.TB, data string) *Process {
	t.Helper()
	return startProcess(t, childEnv+"="+data, func(t testing.TB, addrs []string) *Server {
		return connect(t, config(data), addrs[0], addrs[1], addrs[2])
	})
}

// StartProcessWith is StartProcess with a changed configuration.
func StartProcessWith(t testing.TB, data string, change func(*run.Config)) *Process {
	t.Helper()
	cfg := config(data)
	change(&cfg)
	raw, err := json.Marshal(cfg)
	require.NoError(t, err)
	return startProcess(t, partEnv+"="+string(raw), func(t testing.TB, addrs []string) *Server {
		return connect(t, cfg, addrs[0], addrs[1], addrs[2])
	})
}

func startProcess(t testing.TB, env string, reach func(t testing.TB, addrs []string) *Server) *Process {
	t.Helper()
	p, err := tryProcess(t, env, reach)
	require.NoError(t, err)
	return p
}

// startPatience bounds how long a process may take to get ready.
const startPatience = 60 * time.Second

// tryProcess starts a child and waits until it is ready; the error says why it
// did not get there.
func tryProcess(t testing.TB, env string, reach func(t testing.TB, addrs []string) *Server, more ...string) (*Process, error) {
	t.Helper()
	cmd := exec.Command(os.Args[0]) // the test binary itself
	cmd.Env = append(append(os.Environ(), env), more...)
	said := &tail{}
	cmd.Stderr = io.MultiWriter(os.Stderr, said)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	_, err = cmd.StdinPipe() // stays open as long as this process lives
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &Process{cmd: cmd, exited: make(chan error, 1)}
	ready := make(chan string, 1)
	go func() {
		sc := bufio.NewScanner(out)
		for sc.Scan() {
			if rest, ok := strings.CutPrefix(sc.Text(), "ready "); ok {
				ready <- rest
			}
		}
		p.exited <- cmd.Wait()
	}()
	t.Cleanup(func() {
		if p.cmd != nil {
			p.Kill(t)
		}
	})
	select {
	case line := <-ready:
		addrs := strings.Fields(line)
		require.Len(t, addrs, 3)
		p.Server = reach(t, addrs)
	case err := <-p.exited:
		p.cmd = nil
		return nil, fmt.Errorf("the server ended before it was ready: %w: %s", err, said)
	case <-time.After(startPatience):
		p.Kill(t)
		return nil, fmt.Errorf("the server did not get ready in %s: %s", startPatience, said)
	}
	return p, nil
}

// tail keeps the end of what a child says.
type tail struct {
	mu  sync.Mutex
	end []byte
}

// Write implements io.Writer.
func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end = append(w.end, p...)
	w.end = w.end[max(0, len(w.end)-4096):]
	return len(p), nil
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.end)
}

// Freeze stops the process in the middle of whatever it does (SIGSTOP); Thaw
// lets it go on.
func (p *Process) Freeze(t testing.TB) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
}

// Thaw lets a frozen process go on.
func (p *Process) Thaw(t testing.TB) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
}

// Kill ends the process at once, as a crash does, and waits until it is gone.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Kill())
	t.Logf("the server was killed: %v", <-p.exited)
	p.cmd = nil
}

// Pause stops the process where it is, as a suspended machine does, until
// Resume.
func (p *Process) Pause(t testing.TB) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
}

// Resume lets a paused process go on.
func (p *Process) Resume(t testing.TB) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
}

// Signal sends the process a signal.
func (p *Process) Signal(t testing.TB, s os.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(s))
}

// Terminate asks the process to stop and waits for it; it returns how it
// ended.
func (p *Process) Terminate(t testing.TB) error {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.cmd = nil
	select {
	case err := <-p.exited:
		return err
	case <-time.After(30 * time.Second):
		require.FailNow(t, "the server did not stop in 30 s")
		return nil
	}
}

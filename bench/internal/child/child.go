// Package child starts the servers that are measured, each in a process of its
// own, so that the kernel accounts for each separately.
package child

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a running server.
type Process struct {
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
	err  error
	once sync.Once
}

// stopLimit is how long a server may take to end before it is killed.
const stopLimit = 20 * time.Second

// start runs a program, with env beside this process's environment, whose standard error, and standard output if nobody
// reads that, go to a log file in dir.
func start(dir, name string, pipeOut bool, env []string, program string, args ...string) (*Process, io.Reader, error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.Stderr = log
	if len(env) > 0 {
		cmd.Env = append(os.Environ(), env...)
	}
	var out io.Reader
	if pipeOut {
		out, err = cmd.StdoutPipe()
	} else {
		cmd.Stdout = log
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		_ = log.Close()
		return nil, nil, fmt.Errorf("start %s: %w", name, err)
	}
	return &Process{cmd: cmd, log: log, done: make(chan struct{})}, out, nil
}

// wait runs until the process has ended.
func (p *Process) wait() {
	p.err = p.cmd.Wait()
	_ = p.log.Close()
	close(p.done)
}

// PID of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop asks the process to end and waits for it.
func (p *Process) Stop() error {
	p.once.Do(func() { _ = p.cmd.Process.Signal(syscall.SIGTERM) })
	select {
	case <-p.done:
		return p.err
	case <-time.After(stopLimit):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("did not end within %s of SIGTERM", stopLimit)
	}
}

// logTail gives the end of the log, for errors.
func (p *Process) logTail() string {
	raw, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	raw = bytes.TrimSpace(raw)
	return string(raw[max(0, len(raw)-2000):])
}

// Baseline starts one of this program's own baseline servers and returns with
// its address once it serves.
func Baseline(ctx context.Context, dir, kind string) (*Process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	return baselineOf(ctx, dir, kind, self, "baseline", kind, "--serve")
}

func baselineOf(ctx context.Context, dir, kind, program string, args ...string) (*Process, string, error) {
	p, out, err := start(dir, kind, true, nil, program, args...)
	if err != nil {
		return nil, "", err
	}
	line := make(chan string, 1)
	go func() {
		s, _ := bufio.NewReader(out).ReadString('\n')
		line <- strings.TrimSpace(s)
		_, _ = io.Copy(io.Discard, out)
		p.wait()
	}()
	select {
	case addr := <-line:
		if addr != "" {
			return p, addr, nil
		}
		err = errors.New("ended at once")
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(stopLimit):
		err = errors.New("did not say where it serves")
	}
	_ = p.Stop()
	return nil, "", fmt.Errorf("baseline %s: %w: %s", kind, err, p.logTail())
}

// Server is a running Chappe server.
type Server struct {
	*Process
	// HTTP and Ops are base URLs; GRPC is host:port.
	HTTP, GRPC, Ops string
	// SecretFile holds the secret of gRPC.
	SecretFile string
	// Ready is the time from the start of the process until it said that it is
	// ready.
	Ready time.Duration
}

// Chappe starts a server with its data under data and returns when it is
// ready; env holds "name=value" for its environment beside this process's own,
// more further flags.
func Chappe(ctx context.Context, dir, data, program string, env []string, more ...string) (*Server, error) {
	addrs, err := freeAddrs(3)
	if err != nil {
		return nil, err
	}
	s := &Server{HTTP: "http://" + addrs[0], GRPC: addrs[1], Ops: "http://" + addrs[2], SecretFile: filepath.Join(data, "grpc-secret")}
	began := time.Now()
	args := append([]string{"serve", "--http", addrs[0], "--grpc", addrs[1], "--ops", addrs[2], "--data", data}, more...)
	s.Process, _, err = start(dir, "chappe", false, env, program, args...)
	if err != nil {
		return nil, err
	}
	go s.wait()
	client := &http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	limit := time.NewTimer(60 * time.Second)
	defer limit.Stop()
	for {
		if ready(ctx, client, s.Ops+"/readyz") {
			s.Ready = time.Since(began)
			return s, nil
		}
		select {
		case <-s.done:
			return nil, fmt.Errorf("the server ended at once: %w: %s", s.err, s.logTail())
		case <-ctx.Done():
			err = ctx.Err()
		case <-limit.C:
			err = errors.New("the server did not get ready in 60 s")
		case <-time.After(5 * time.Millisecond):
			continue
		}
		_ = s.Stop()
		return nil, fmt.Errorf("%w: %s", err, s.logTail())
	}
}

func ready(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// freeAddrs finds loopback ports that nobody listens on at the moment.
func freeAddrs(n int) ([]string, error) {
	addrs := make([]string, n)
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		addrs[i] = l.Addr().String()
	}
	return addrs, nil
}

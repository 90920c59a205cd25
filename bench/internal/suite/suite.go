// Package suite measures a server and the plain baselines side by side, in
// alternation, and writes down how they compare.
package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/chappe-im/chappe/bench/internal/child"
	"github.com/chappe-im/chappe/bench/internal/measure"
	"github.com/chappe-im/chappe/bench/internal/proc"
	"github.com/chappe-im/chappe/bench/internal/target"
)

// Config of a suite.
type Config struct {
	// Server is the program to measure, with further flags of its own.
	Server     string
	ServerArgs []string
	// Rounds of the alternation.
	Rounds int
	// Duration of one measurement.
	Duration    time.Duration
	Connections int
	TextBytes   int
	// Receivers of the fan-out and targets of a call.
	Receivers, Targets int
	// LatencyCalls are single calls for each round of last-delivery latency.
	LatencyCalls int
	// Idle connections.
	Idle int
	// Hold is how long idle connections are kept before memory is read.
	Hold time.Duration
	// Subscribers who follow the presence that changes.
	Subscribers int
	// Changes of presence in each round.
	Changes int
	// Only runs some of the parts; empty runs all.
	Only []string
	// ProfileDir, if given, takes processor profiles of the server.
	ProfileDir string
	// Log tells what is going on.
	Log io.Writer
}

// Figures are all rounds of all measurements.
type Figures struct {
	Echo    []*measure.Result `json:"echo"`
	Publish []*measure.Result `json:"publish"`
	Send    []*measure.Result `json:"send"`
	Online  []*measure.Result `json:"send_online"`
	// AdmissionPercent is the part of the server's time for sends that goes
	// into asking the limiter.
	AdmissionPercent float64           `json:"admission_percent"`
	Frames           []*measure.Result `json:"frames"`
	Exchange         []*measure.Result `json:"frames_exchange"`
	Fanout           []*measure.Result `json:"fanout"`
	Single           []*measure.Result `json:"fanout_single"`
	Idle             *measure.Result   `json:"idle"`
	// ReadEcho took turns with the reads.
	ReadEcho   []*measure.Result `json:"read_echo"`
	User       []*measure.Result `json:"read_user"`
	Attributes []*measure.Result `json:"read_attributes"`
	Status     []*measure.Result `json:"read_status"`
	Token      []*measure.Result `json:"token"`
	Presence   []*measure.Result `json:"presence"`
	// FrameBytes are the lengths of the frames of one delivery.
	FrameBytes []int `json:"frame_bytes"`
	// FirstReadySeconds is the start on an empty directory, ReadySeconds those
	// on one that has been used.
	FirstReadySeconds float64   `json:"first_ready_seconds"`
	ReadySeconds      []float64 `json:"ready_seconds"`
	// IdleMiB is the memory of a server that has just started.
	IdleMiB float64 `json:"idle_mib"`
}

const (
	warmup = time.Second
	// pause between single calls, so that each meets a server at rest.
	pause = 50 * time.Millisecond
	// restarts on a warm disk.
	restarts = 3
	// recipients of the sends to one user.
	recipients = 640
)

type suite struct {
	cfg Config
	dir string
	fig *Figures
}

type part struct {
	name string
	run  func(context.Context) error
}

// Run runs everything, or the parts that were asked for.
func Run(ctx context.Context, cfg Config) (fig *Figures, err error) {
	dir, err := os.MkdirTemp("", "chappe-bench-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err == nil {
			err = os.RemoveAll(dir)
		} else {
			err = fmt.Errorf("%w (logs are left in the temporary directory %s)", err, filepath.Base(dir))
		}
	}()
	s := &suite{cfg: cfg, dir: dir, fig: &Figures{}}
	parts := []part{
		{"start", s.start},
		{"send", s.sends},
		{"reads", s.reads},
		{"token", s.token},
		{"fanout", s.fanout},
		{"presence", s.presence},
		{"idle", s.idle},
	}
	for _, name := range cfg.Only {
		if !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			return nil, fmt.Errorf("there is no part %q", name)
		}
	}
	for _, p := range parts {
		if len(cfg.Only) > 0 && !slices.Contains(cfg.Only, p.name) {
			continue
		}
		if err := p.run(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return s.fig, nil
}

func (s *suite) logf(format string, args ...any) {
	_, _ = fmt.Fprintf(s.cfg.Log, format+"\n", args...)
}

func (s *suite) show(r *measure.Result) {
	_ = r.Print(s.cfg.Log)
}

// chappe starts the measured server on a data directory of the suite.
func (s *suite) chappe(ctx context.Context, data string, env ...string) (*child.Server, error) {
	path := filepath.Join(s.dir, data)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	return child.Chappe(ctx, s.dir, path, s.cfg.Server, env, s.cfg.ServerArgs...)
}

// app makes the app that is used on a server.
func (s *suite) app(ctx context.Context, srv *child.Server) (*target.Target, target.Config, error) {
	cfg, err := target.CreateApp(ctx, srv.GRPC, srv.SecretFile, srv.HTTP, "bench", "load")
	if err != nil {
		return nil, cfg, err
	}
	t, err := target.Await(ctx, cfg)
	return t, cfg, err
}

// start measures how soon the server is ready and its memory without work.
func (s *suite) start(ctx context.Context) error {
	for i := range restarts + 1 {
		srv, err := s.chappe(ctx, "start")
		if err != nil {
			return err
		}
		if i == 0 {
			s.fig.FirstReadySeconds = srv.Ready.Seconds()
		} else {
			s.fig.ReadySeconds = append(s.fig.ReadySeconds, srv.Ready.Seconds())
		}
		if i == restarts {
			if _, err := proc.Settle(ctx, srv.PID(), 10*time.Second); err != nil {
				return errors.Join(err, srv.Stop())
			}
			mem, err := proc.ReadMemory(srv.PID())
			if err != nil {
				return errors.Join(err, srv.Stop())
			}
			s.fig.IdleMiB = float64(mem.Resident) / (1 << 20)
		}
		if err := srv.Stop(); err != nil {
			return err
		}
	}
	s.logf("start: ready in %.2f s (%.2f s on an empty directory), %.0f MiB at rest",
		s.fig.ReadySeconds[0], s.fig.FirstReadySeconds, s.fig.IdleMiB)
	return nil
}

// plain sets up the load of a plain server.
func (s *suite) plain(name, addr string, pid int) measure.HTTPConfig {
	return measure.HTTPConfig{
		Name: name, Addr: addr, PID: pid, Connections: s.cfg.Connections, Duration: s.cfg.Duration, Warmup: warmup, TextBytes: s.cfg.TextBytes,
	}
}

// sends compares sends with both echoes.
func (s *suite) sends(ctx context.Context) (err error) {
	srv, err := s.chappe(ctx, "load")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.Stop()) }()
	echo, echoAddr, err := child.Baseline(ctx, s.dir, "echo")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, echo.Stop()) }()
	publish, publishAddr, err := child.Baseline(ctx, s.dir, "publish")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, publish.Stop()) }()
	t, _, err := s.app(ctx, srv)
	if err != nil {
		return err
	}
	defer t.Close()
	cfg := measure.SendConfig{
		Target: t, PID: srv.PID(), Connections: s.cfg.Connections, Duration: s.cfg.Duration, Warmup: warmup,
		Recipients: recipients, TextBytes: s.cfg.TextBytes,
	}
	offline, err := measure.NewSend(ctx, cfg)
	if err != nil {
		return err
	}
	defer offline.Close()
	for range s.cfg.Rounds {
		r, err := measure.HTTP(ctx, s.plain("echo", echoAddr, echo.PID()))
		if err != nil {
			return err
		}
		s.show(r)
		s.fig.Echo = append(s.fig.Echo, r)
		if r, err = measure.HTTP(ctx, s.plain("echo with publish", publishAddr, publish.PID())); err != nil {
			return err
		}
		s.show(r)
		s.fig.Publish = append(s.fig.Publish, r)
		if r, err = offline.Run(ctx); err != nil {
			return err
		}
		r.Name = "send to offline users"
		s.show(r)
		s.fig.Send = append(s.fig.Send, r)
	}
	raw, err := s.record(ctx, srv, func() error { _, err := offline.Run(ctx); return err })
	if err != nil {
		return err
	}
	if s.fig.AdmissionPercent, err = shareOf(raw, admission); err != nil {
		return err
	}
	if s.cfg.ProfileDir != "" {
		if err := s.keep("send.cpu.pprof", raw); err != nil {
			return err
		}
	}
	cfg.Online = true
	online, err := measure.NewSend(ctx, cfg)
	if err != nil {
		return err
	}
	defer online.Close()
	for range s.cfg.Rounds {
		r, err := online.Run(ctx)
		if err != nil {
			return err
		}
		r.Name = "send to connected users"
		s.show(r)
		s.fig.Online = append(s.fig.Online, r)
	}
	if err := s.profile(ctx, srv, "send-online", func() error { _, err := online.Run(ctx); return err }); err != nil {
		return err
	}
	return s.heap(ctx, srv, "send-online")
}

// fanout compares deliveries with the bare loop.
func (s *suite) fanout(ctx context.Context) (err error) {
	srv, err := s.chappe(ctx, "fanout")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.Stop()) }()
	bare, addr, err := child.Baseline(ctx, s.dir, "frames")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.Stop()) }()
	t, _, err := s.app(ctx, srv)
	if err != nil {
		return err
	}
	defer t.Close()
	f, err := measure.NewFanout(ctx, measure.FanoutConfig{
		Target: t, PID: srv.PID(), Receivers: s.cfg.Receivers, Targets: s.cfg.Targets, TextBytes: s.cfg.TextBytes,
	})
	if err != nil {
		return err
	}
	defer f.Close()
	loop, err := measure.NewFrames(ctx, measure.FramesConfig{
		Addr: addr, PID: bare.PID(), Connections: s.cfg.Receivers, Targets: s.cfg.Targets,
	})
	if err != nil {
		return err
	}
	defer loop.Close()

	all := measure.Rounds{Name: "fan-out, calls to all at once", Calls: s.cfg.Receivers / s.cfg.Targets, Duration: s.cfg.Duration}
	one := measure.Rounds{Name: "fan-out, one call at a time", Calls: 1, Count: s.cfg.LatencyCalls, Pause: pause}
	if _, err := f.Run(ctx, measure.Rounds{Name: "warm-up", Calls: all.Calls, Duration: warmup}); err != nil {
		return err
	}
	frames, err := f.Frames(ctx)
	if err != nil {
		return err
	}
	for _, frame := range frames {
		s.fig.FrameBytes = append(s.fig.FrameBytes, len(frame))
	}
	bareRounds := func(name string) measure.Rounds {
		return measure.Rounds{Name: name, Calls: all.Calls, Duration: s.cfg.Duration}
	}
	for range s.cfg.Rounds {
		r, err := loop.Run(ctx, bareRounds("bare loop"), frames, false)
		if err != nil {
			return err
		}
		s.show(r)
		s.fig.Frames = append(s.fig.Frames, r)
		if r, err = f.Run(ctx, all); err != nil {
			return err
		}
		s.show(r)
		s.fig.Fanout = append(s.fig.Fanout, r)
		if r, err = loop.Run(ctx, bareRounds("bare loop with answers"), frames, true); err != nil {
			return err
		}
		s.show(r)
		s.fig.Exchange = append(s.fig.Exchange, r)
		if r, err = f.Run(ctx, one); err != nil {
			return err
		}
		s.show(r)
		s.fig.Single = append(s.fig.Single, r)
	}
	return s.profile(ctx, srv, "fanout", func() error { _, err := f.Run(ctx, all); return err })
}

// idle measures connections on a server that has done nothing else: users and
// tokens come from the process before.
func (s *suite) idle(ctx context.Context) (err error) {
	srv, err := s.chappe(ctx, "idle")
	if err != nil {
		return err
	}
	t, cfg, err := s.app(ctx, srv)
	if err != nil {
		return errors.Join(err, srv.Stop())
	}
	users, tokens, err := measure.PrepareIdle(ctx, t, s.cfg.Idle)
	t.Close()
	if err = errors.Join(err, srv.Stop()); err != nil {
		return err
	}

	if srv, err = s.chappe(ctx, "idle"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.Stop()) }()
	cfg.URL = srv.HTTP
	if t, err = target.Await(ctx, cfg); err != nil {
		return err
	}
	defer t.Close()
	r, err := measure.Idle(ctx, measure.IdleConfig{
		Target: t, PID: srv.PID(), Users: users, Tokens: tokens, Hold: s.cfg.Hold, Ops: srv.Ops,
	})
	if err != nil {
		return err
	}
	s.show(r)
	s.fig.Idle = r
	return s.heap(ctx, srv, "idle")
}

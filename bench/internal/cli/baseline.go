package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/chappe-im/chappe/bench/internal/baseline"
	"github.com/chappe-im/chappe/bench/internal/child"
	"github.com/chappe-im/chappe/bench/internal/measure"
)

func baselineCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "baseline",
		Short: "Measure the plain servers that Chappe is compared with",
	}
	cmd.AddCommand(
		httpBaseline("echo", "net/http JSON echo"),
		httpBaseline("publish", "net/http JSON echo with one JetStream publish, acknowledged before the answer"),
		framesBaseline(),
	)
	return cmd
}

// serveFlags make a command the server instead of the measurement.
type serveFlags struct {
	serve bool
	addr  string
}

func (s *serveFlags) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.serve, "serve", false, "only serve, print the address, and end on SIGTERM")
	cmd.Flags().StringVar(&s.addr, "addr", "127.0.0.1:0", "address to serve at")
}

// stopLimit bounds the end of a baseline server.
const stopLimit = 10 * time.Second

func (s *serveFlags) run(cmd *cobra.Command, kind string) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	var srv *baseline.Server
	var err error
	switch kind {
	case "echo":
		srv, err = baseline.Echo(s.addr)
	case "publish":
		dir, tempErr := os.MkdirTemp("", "chappe-bench-publish-")
		if tempErr != nil {
			return tempErr
		}
		defer func() { _ = os.RemoveAll(dir) }()
		srv, err = baseline.Publish(ctx, s.addr, dir)
	case "frames":
		srv, err = baseline.Frames(s.addr)
	}
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), srv.Addr); err != nil {
		return err
	}
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	return srv.Stop(end)
}

// started runs f against a baseline server in a process of its own.
func started(ctx context.Context, kind string, f func(addr string, pid int) error) (err error) {
	dir, err := os.MkdirTemp("", "chappe-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, addr, err := child.Baseline(ctx, dir, kind)
	if err != nil {
		return err
	}
	return errors.Join(f(addr, p.PID()), p.Stop())
}

func httpBaseline(kind, short string) *cobra.Command {
	var s serveFlags
	var output string
	cfg := measure.HTTPConfig{Name: kind}
	cmd := &cobra.Command{
		Use:   kind,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.serve {
				return s.run(cmd, kind)
			}
			return started(cmd.Context(), kind, func(addr string, pid int) error {
				cfg.Addr, cfg.PID = addr, pid
				r, err := measure.HTTP(cmd.Context(), cfg)
				if err != nil {
					return err
				}
				return show(cmd.OutOrStdout(), output, r)
			})
		},
	}
	s.flags(cmd)
	outputFlag(cmd, &output)
	f := cmd.Flags()
	f.IntVar(&cfg.Connections, "connections", 32, "keep-alive connections")
	f.DurationVar(&cfg.Duration, "duration", 5*time.Second, "how long to call")
	f.Int64Var(&cfg.Count, "count", 0, "how many calls at most; 0 for no bound")
	f.DurationVar(&cfg.Warmup, "warmup", time.Second, "load before the measurement")
	f.IntVar(&cfg.TextBytes, "text-bytes", 100, "length of a text")
	return cmd
}

func framesBaseline() *cobra.Command {
	var s serveFlags
	var output string
	var cfg measure.FramesConfig
	var sizes []int
	rounds := measure.Rounds{Name: "frames"}
	cmd := &cobra.Command{
		Use:   "frames",
		Short: "a bare loop that writes frames to WebSocket connections",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.serve {
				return s.run(cmd, "frames")
			}
			frames := make([][]byte, len(sizes))
			for i, n := range sizes {
				if n < 0 {
					return fmt.Errorf("a frame of %d bytes", n)
				}
				frames[i] = bytes.Repeat([]byte{'x'}, n)
			}
			return started(cmd.Context(), "frames", func(addr string, pid int) error {
				cfg.Addr, cfg.PID = addr, pid
				f, err := measure.NewFrames(cmd.Context(), cfg)
				if err != nil {
					return err
				}
				defer f.Close()
				r, err := f.Run(cmd.Context(), rounds, frames, false)
				if err != nil {
					return err
				}
				return show(cmd.OutOrStdout(), output, r)
			})
		},
	}
	s.flags(cmd)
	outputFlag(cmd, &output)
	f := cmd.Flags()
	f.IntVar(&cfg.Connections, "receivers", 1000, "connections")
	f.IntVar(&cfg.Targets, "targets", 500, "connections that one call writes to")
	f.IntSliceVar(&sizes, "frames", []int{40, 300, 60}, "lengths of the frames written to a connection for one delivery")
	f.IntVar(&rounds.Calls, "calls", 2, "calls at once")
	f.DurationVar(&rounds.Duration, "duration", 5*time.Second, "how long to repeat")
	f.IntVar(&rounds.Count, "rounds", 0, "how often to repeat at most; 0 for no bound")
	f.DurationVar(&rounds.Pause, "pause", 0, "pause between rounds")
	return cmd
}

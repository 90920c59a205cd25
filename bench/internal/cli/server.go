package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/chappe-im/chappe/bench/internal/measure"
	"github.com/chappe-im/chappe/bench/internal/target"
)

func sendCommand() *cobra.Command {
	var c common
	var cfg measure.SendConfig
	cmd := &cobra.Command{
		Use:   "send",
		Short: "REST sends to one user each",
		Args:  cobra.NoArgs,
		RunE: c.measured(func(ctx context.Context, t *target.Target) (*measure.Result, error) {
			cfg.Target, cfg.PID = t, c.pid
			s, err := measure.NewSend(ctx, cfg)
			if err != nil {
				return nil, err
			}
			defer s.Close()
			return s.Run(ctx)
		}),
	}
	c.flags(cmd)
	f := cmd.Flags()
	f.IntVar(&cfg.Connections, "connections", 32, "keep-alive connections")
	f.DurationVar(&cfg.Duration, "duration", 5*time.Second, "how long to send")
	f.Int64Var(&cfg.Count, "count", 0, "how many messages at most; 0 for no bound")
	f.DurationVar(&cfg.Warmup, "warmup", time.Second, "load before the measurement")
	f.IntVar(&cfg.Recipients, "recipients", 640, "users that are sent to")
	f.BoolVar(&cfg.Online, "online", false, "recipients are connected; otherwise they log in afterwards and fetch")
	f.IntVar(&cfg.TextBytes, "text-bytes", 100, "length of a text")
	return cmd
}

func fanoutCommand() *cobra.Command {
	var c common
	var cfg measure.FanoutConfig
	rounds := measure.Rounds{Name: "fan-out"}
	cmd := &cobra.Command{
		Use:   "fanout",
		Short: "Sends to many connected users at once",
		Args:  cobra.NoArgs,
		RunE: c.measured(func(ctx context.Context, t *target.Target) (*measure.Result, error) {
			cfg.Target, cfg.PID = t, c.pid
			f, err := measure.NewFanout(ctx, cfg)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			return f.Run(ctx, rounds)
		}),
	}
	c.flags(cmd)
	f := cmd.Flags()
	f.IntVar(&cfg.Receivers, "receivers", 1000, "connected users")
	f.IntVar(&cfg.Targets, "targets", 500, "users that one call sends to")
	f.IntVar(&cfg.TextBytes, "text-bytes", 100, "length of a text")
	f.IntVar(&rounds.Calls, "calls", 2, "calls at once, each to users of its own; the next ones follow when all has arrived")
	f.DurationVar(&rounds.Duration, "duration", 5*time.Second, "how long to repeat")
	f.IntVar(&rounds.Count, "rounds", 0, "how often to repeat at most; 0 for no bound")
	f.DurationVar(&rounds.Pause, "pause", 0, "pause between rounds")
	return cmd
}

func idleCommand() *cobra.Command {
	var c common
	var cfg measure.IdleConfig
	var n int
	cmd := &cobra.Command{
		Use:   "idle",
		Short: "Memory of idle connections",
		Args:  cobra.NoArgs,
		RunE: c.measured(func(ctx context.Context, t *target.Target) (*measure.Result, error) {
			cfg.Target, cfg.PID = t, c.pid
			var err error
			if cfg.Users, cfg.Tokens, err = measure.PrepareIdle(ctx, t, n); err != nil {
				return nil, err
			}
			return measure.Idle(ctx, cfg)
		}),
	}
	c.flags(cmd)
	f := cmd.Flags()
	f.IntVar(&n, "connections", 5000, "idle connections")
	f.DurationVar(&cfg.Hold, "hold", 10*time.Second, "how long they are kept before memory is read")
	f.StringVar(&cfg.Ops, "ops", "", "base URL of the operations port, to read memory after a garbage collection too")
	return cmd
}

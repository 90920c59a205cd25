// Package cli is the command line of chappe-bench.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/chappe-im/chappe/bench/internal/measure"
	"github.com/chappe-im/chappe/bench/internal/target"
)

// New makes the command.
func New() *cobra.Command {
	root := &cobra.Command{
		Use:   "chappe-bench",
		Short: "Measure a Chappe server",
		Long: `chappe-bench loads a Chappe server over its REST and WebSocket surfaces and prints
throughput, latency, the server's processor time per operation and its memory. Everything that is
sent is numbered; the exit status is 1 if something was lost, came twice or out of order.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(sendCommand(), fanoutCommand(), idleCommand(), baselineCommand(), suiteCommand())
	return root
}

// common flags of the commands that use a running server.
type common struct {
	target target.Config
	pid    int
	output string
}

func (c *common) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.target.URL, "url", "http://127.0.0.1:8080", "base URL of REST")
	f.StringVar(&c.target.WS, "ws", "", "address of the websocket endpoint; empty means /ws of the base URL")
	f.StringVar(&c.target.App, "app", "demo/chat", "app to use, org/app; its tier should not throttle")
	f.StringVar(&c.target.ClientID, "client-id", "", "client id of the app")
	f.StringVar(&c.target.ClientSecret, "client-secret", "", "client secret of the app; better in the environment as CHAPPE_CLIENT_SECRET, which nobody else can see")
	f.IntVar(&c.pid, "pid", 0, "process of the server, if it runs on this machine, for its processor time and memory")
	outputFlag(cmd, &c.output)
}

// open addresses the app.
func (c *common) open(ctx context.Context) (*target.Target, error) {
	if c.target.ClientSecret == "" {
		c.target.ClientSecret = os.Getenv("CHAPPE_CLIENT_SECRET")
	}
	return target.New(ctx, c.target)
}

// measured returns the body of a command that measures a server once and shows
// what came of it.
func (c *common) measured(run func(context.Context, *target.Target) (*measure.Result, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		t, err := c.open(cmd.Context())
		if err != nil {
			return err
		}
		defer t.Close()
		r, err := run(cmd.Context(), t)
		if err != nil {
			return err
		}
		return show(cmd.OutOrStdout(), c.output, r)
	}
}

func outputFlag(cmd *cobra.Command, p *string) {
	cmd.Flags().StringVar(p, "output", "text", "text or json")
}

// show writes a result and fails if its check did.
func show(w io.Writer, output string, r *measure.Result) error {
	switch output {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			return err
		}
	case "text":
		if err := r.Print(w); err != nil {
			return err
		}
	default:
		return fmt.Errorf("output is text or json, not %q", output)
	}
	if r.Check != nil {
		if err := r.Check.Err(); err != nil {
			return fmt.Errorf("check: %w", err)
		}
	}
	if r.Ops == 0 {
		return errors.New("nothing was measured")
	}
	return nil
}

package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/chappe-im/chappe/bench/internal/suite"
)

func suiteCommand() *cobra.Command {
	var cfg suite.Config
	var out, output string
	cmd := &cobra.Command{
		Use:   "suite",
		Short: "Start a server and all baselines, compare them, and write the report",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Log = cmd.ErrOrStderr()
			fig, err := suite.Run(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			env := suite.Here(commandLine(os.Args))
			var md bytes.Buffer
			if err := fig.WriteMarkdown(&md, cfg, env); err != nil {
				return err
			}
			if out != "" {
				if err := os.WriteFile(out, md.Bytes(), 0o644); err != nil {
					return err
				}
			}
			if output == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				err = enc.Encode(map[string]any{"environment": env, "figures": fig, "verdicts": fig.Verdicts()})
			} else {
				_, err = cmd.OutOrStdout().Write(md.Bytes())
			}
			return errors.Join(append(fig.Faults(), err)...)
		},
	}
	outputFlag(cmd, &output)
	f := cmd.Flags()
	f.StringVar(&cfg.Server, "server", "bin/chappe", "program of the server")
	f.StringArrayVar(&cfg.ServerArgs, "server-arg", nil, "further flag of the server; may be repeated")
	f.StringVar(&out, "out", "", "file for the report")
	f.IntVar(&cfg.Rounds, "rounds", 3, "how often the measurements take turns")
	f.DurationVar(&cfg.Duration, "duration", 4*time.Second, "length of one measurement")
	f.IntVar(&cfg.Connections, "connections", 32, "keep-alive connections of the sends")
	f.IntVar(&cfg.TextBytes, "text-bytes", 100, "length of a text")
	f.IntVar(&cfg.Receivers, "receivers", 1000, "connected users of the fan-out")
	f.IntVar(&cfg.Targets, "targets", 500, "users that one call sends to")
	f.IntVar(&cfg.LatencyCalls, "latency-calls", 40, "single calls for each round of last-delivery latency")
	f.IntVar(&cfg.Idle, "idle", 5000, "idle connections")
	f.IntVar(&cfg.Subscribers, "subscribers", 1000, "connected users who follow the presence that changes")
	f.IntVar(&cfg.Changes, "changes", 40, "changes of presence in each round")
	f.DurationVar(&cfg.Hold, "hold", 10*time.Second, "how long idle connections are kept before memory is read")
	f.StringSliceVar(&cfg.Only, "only", nil, "only some parts: start, send, reads, token, fanout, presence, idle")
	f.StringVar(&cfg.ProfileDir, "profile", "", "directory for processor and heap profiles of the server")
	return cmd
}

// commandLine gives what was typed; a program that `go run` has built lies in a
// directory that says nothing.
func commandLine(args []string) string {
	program := filepath.Base(args[0])
	if strings.Contains(args[0], "go-build") {
		program = "go run ./bench/" + program
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s", program, strings.Join(args[1:], " ")))
}

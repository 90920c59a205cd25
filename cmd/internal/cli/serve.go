package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/chappe-im/chappe/pkg/obs"
	"github.com/chappe-im/chappe/pkg/private"
	"github.com/chappe-im/chappe/services/run"
)

func serveCommand(embedded run.Embedded) *cobra.Command {
	var cfg run.Config
	var file string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server, or some of its services",
		Long: "Run the server. Every flag can also be given as an environment variable\n" +
			"(CHAPPE_ and the flag's name in capitals, as CHAPPE_HTTP) or as a key of a\n" +
			"YAML file; a flag outranks the environment, which outranks the file.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				file = os.Getenv(run.EnvName("config"))
			}
			if err := run.Fill(cmd.Flags(), file, os.Getenv); err != nil {
				return err
			}
			return runServer(cmd.Context(), cfg, embedded)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "YAML file with further settings")
	cfg.Flags(cmd.Flags())
	return cmd
}

// errForced says that a second signal came before the drain was over.
var errForced = errors.New("stopped by a second signal before everything was drained")

func runServer(ctx context.Context, cfg run.Config, embedded run.Embedded) error {
	if ctx == nil {
		ctx = context.Background()
	}
	private.Umask()
	log := obs.NewBuffered(os.Stderr)
	defer log.Close()
	logger := slog.New(log.Handler(obs.NewLogger(log, cfg.LogLevel, cfg.LogFormat).Handler()))
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)

	server, err := run.New(cfg, embedded, logger, os.Stdout)
	if err != nil {
		return err
	}
	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	started := make(chan error, 1)
	go func() { started <- server.Start(starting) }()
	select {
	case err := <-started:
		if err != nil {
			return err
		}
	case s := <-signals:
		cancel()
		return errors.Join(fmt.Errorf("stopped by %s while starting", s), <-started)
	}

	s := <-signals
	logger.Info("stopping", "signal", s.String())
	stopped := make(chan error, 1)
	go func() { stopped <- server.Stop(context.WithoutCancel(ctx)) }()
	select {
	case err := <-stopped:
		if err != nil {
			return err
		}
		logger.Info("stopped")
		return nil
	case <-signals:
		return errForced
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			version := "(unknown)"
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version + " " + info.GoVersion
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "chappe", version)
			return err
		},
	}
}

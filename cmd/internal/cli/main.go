// Package cli is the command line: the server and what operators do with it.
package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/chappe-im/chappe/services/run"
)

// Main runs a command line and returns the exit code: 0 for success, 1 for a
// failure. embedded are the servers the binary carries; nil for none.
func Main(embedded run.Embedded, args []string) int {
	root := &cobra.Command{
		Use:           "chappe",
		Short:         "A self-hosted instant-messaging core",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(serveCommand(embedded), versionCommand())
	root.AddCommand(Commands()...)
	root.SetArgs(args)
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "chappe:", err)
		return 1
	}
	return 0
}

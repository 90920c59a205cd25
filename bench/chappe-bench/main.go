// Command chappe-bench measures a Chappe server.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/chappe-im/chappe/bench/internal/cli"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := cli.New().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "chappe-bench:", err)
		return 1
	}
	return 0
}

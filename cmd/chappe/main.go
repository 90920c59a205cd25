// Command chappe is the all-in-one binary: the server with embedded etcd and
// NATS, and the operators' commands.
package main

import (
	"os"

	"github.com/chappe-im/chappe/cmd/internal/cli"
)

func main() {
	os.Exit(cli.Main(embedded{}, os.Args[1:]))
}

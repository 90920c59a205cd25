// Command chappe-node is the server without the embedded etcd and NATS: what
// runs in a cluster.
package main

import (
	"os"

	"github.com/chappe-im/chappe/cmd/internal/cli"
)

func main() {
	os.Exit(cli.Main(nil, os.Args[1:]))
}

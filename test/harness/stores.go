package harness

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/embed"
	"github.com/chappe-im/chappe/pkg/obs"
	"github.com/chappe-im/chappe/pkg/secrets"
)

// natsEnv tells a test binary to be a NATS server: directory and address.
const (
	natsEnv       = "CHAPPE_TEST_NATS"
	natsListenEnv = "CHAPPE_TEST_NATS_LISTEN"
	natsTokenEnv  = "CHAPPE_TEST_NATS_TOKEN"
)

// serveNATS is the NATS server of a child.
func serveNATS(dir, listen, token string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	n, err := embed.StartNATS(embed.NATSConfig{Dir: dir, Listen: listen, Token: token, Logger: obs.NewLogger(os.Stderr, "warn", "text")})
	if err != nil {
		return err
	}
	fmt.Println("ready", n.URL(), "-", "-") //nolint:forbidigo // what the parent waits for
	<-signals
	n.Stop()
	return nil
}

// NATS is a NATS server with JetStream as a process of its own, which can be
// killed, stopped for a while and started again at the same address.
type NATS struct {
	*Process
	Dir  string
	Addr string
	// Token is what connections show.
	Token string
}

// StartNATS starts one with its files in a directory of the test's own.
func StartNATS(t testing.TB) *NATS {
	t.Helper()
	n := &NATS{Dir: t.TempDir(), Addr: FreeAddr(t), Token: secrets.New()}
	n.Start(t)
	return n
}

// Start starts the server again, after a kill.
func (n *NATS) Start(t testing.TB) {
	t.Helper()
	p, err := tryProcess(t, natsEnv+"="+n.Dir, func(testing.TB, []string) *Server { return nil }, natsListenEnv+"="+n.Addr, natsTokenEnv+"="+n.Token)
	require.NoError(t, err)
	n.Process = p
}

// Files is the directory of the server's files.
func (n *NATS) Files() string { return filepath.Join(n.Dir, "nats") }

// FreeAddr returns an address of this host that nobody listens on.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // closed at once
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

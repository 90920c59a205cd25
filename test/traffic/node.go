package traffic

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/test/harness"
)

// Node is a server that does everything, as a process of its own, under load.
type Node struct {
	*harness.Process
	App  *harness.App
	Load *Load
	// Accepted are the reasons for which the node refused to start until it was
	// told to accept a loss.
	Accepted []string

	data  string
	flags harness.Flags
}

// StartNode starts a node with its files below data, makes an app without limits
// and begins traffic.
func StartNode(t testing.TB, data string, more harness.Flags, cfg Config) *Node {
	t.Helper()
	n := &Node{data: data, flags: harness.SingleNode(data).With(more)}
	n.Process = harness.StartFlags(t, n.flags)
	n.App = n.NewApp(t, "enterprise", harness.NoLimits)
	n.Load = Start(t, cfg, n.App)
	return n
}

// SQL is the SQLite file of a service.
func (n *Node) SQL(service string) string { return filepath.Join(n.data, "sql", service+".db") }

// LogFiles is the directory of the log's files.
func (n *Node) LogFiles() string { return filepath.Join(n.data, "nats") }

// Crash kills the node. What was shown from some time before since on may come
// again: confirmations could not be stored then.
func (n *Node) Crash(t testing.TB, since time.Time) {
	t.Helper()
	n.Kill(t)
	n.Load.Disrupted(since, time.Now())
}

// Restart starts the node again and sends the traffic to it. Should it refuse,
// it is told to accept the loss, as an operator does who has read why.
func (n *Node) Restart(t testing.TB) {
	t.Helper()
	p, err := harness.TryFlags(t, n.flags)
	if err != nil {
		accept := harness.Flags{}
		for _, name := range []string{"accept-log-loss", "accept-installation"} {
			if harness.HasFlag(name) {
				accept[name] = "true"
			}
		}
		require.NotEmpty(t, accept, "%v", err)
		n.Accepted = append(n.Accepted, err.Error())
		p, err = harness.TryFlags(t, n.flags.With(accept))
		require.NoError(t, err)
	}
	n.Process = p
	n.App = n.App.On(p.Server)
	n.Load.Use(n.App)
	n.Load.Over()
}

// DamageLog kills the node when the archive holds all that was acknowledged,
// harms the log's files and starts it again: by this nothing is lost, and nothing
// that is acknowledged afterwards may be.
func (n *Node) DamageLog(t testing.TB, harm func()) {
	t.Helper()
	n.Load.Settled(t, n.App)
	n.Crash(t, time.Now())
	harm()
	n.Load.Pause(false)
	n.Restart(t)
}

// Snapshot copies a directory of the frozen node, and returns what puts the copy
// in its place.
func (n *Node) Snapshot(t testing.TB, dir string) (putBack func()) {
	t.Helper()
	n.Freeze(t)
	defer n.Thaw(t)
	return Snapshot(t, dir)
}

// Snapshot copies a directory in which nobody writes, and returns what puts the
// copy in its place.
func Snapshot(t testing.TB, dir string) (putBack func()) {
	t.Helper()
	kept := t.TempDir()
	harness.CopyTree(t, dir, kept)
	return func() {
		require.NoError(t, os.RemoveAll(dir))
		harness.CopyTree(t, kept, dir)
	}
}

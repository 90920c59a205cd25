package e2e

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/test/harness"
	"github.com/chappe-im/chappe/test/traffic"
)

// few is a load with few devices, for faults that are not about logins.
func few(seed uint64) traffic.Config { return traffic.Config{Seed: seed, Recipients: 2} }

// patience bounds how long sends may take to be acknowledged again. It is no
// measure of speed.
const patience = 30 * time.Second

// TestLogFilesOlderOrGone kills a node whose archive holds all that was
// acknowledged, puts older files of the log in place, or none, and wants what
// is acknowledged afterwards to be kept, numbered on and shown.
func TestLogFilesOlderOrGone(t *testing.T) {
	t.Run("older files", func(t *testing.T) {
		n := traffic.StartNode(t, t.TempDir(), nil, few(1))
		n.Load.Await(100, patience)
		putBack := n.Snapshot(t, n.LogFiles())
		n.Load.Await(150, patience)
		n.DamageLog(t, putBack)
		n.Load.Await(150, patience)
		kept(t, n.Load.Finish(t, n.App))
	})
	t.Run("no files", func(t *testing.T) {
		n := traffic.StartNode(t, t.TempDir(), nil, few(2))
		n.Load.Await(150, patience)
		n.DamageLog(t, func() { require.NoError(t, os.RemoveAll(n.LogFiles())) })
		n.Load.Await(150, patience)
		kept(t, n.Load.Finish(t, n.App))
	})
}

// TestNATSComesBackOlder lets an outside NATS server die and come back with
// older files while the services run on.
func TestNATSComesBackOlder(t *testing.T) {
	c := harness.StartCluster(t, 1, 1)
	apps := c.NewApp(t, "enterprise", harness.NoLimits)
	l := traffic.Start(t, few(1), apps...)
	l.Await(100, patience)
	c.NATS.Freeze(t)
	putBack := traffic.Snapshot(t, c.NATS.Files())
	c.NATS.Thaw(t)
	l.Await(150, patience)
	l.Settled(t, c.Archive(apps[0]))
	c.NATS.Kill(t)
	putBack()
	l.Pause(false)
	c.NATS.Start(t)
	l.Over()
	l.Await(150, patience)
	kept(t, l.Finish(t, c.Archive(apps[0])))
}

// TestFullDiskUnderLoad fills the disk of a node: sends are refused, the ready state says
// why, and once there is room work goes on without a restart.
func TestFullDiskUnderLoad(t *testing.T) {
	disk := harness.NewDisk(t, 320) // etcd takes 128 MiB at its start
	n := traffic.StartNode(t, disk.Dir, harness.SmallDisk(), few(1))
	n.Load.Await(100, patience)
	disk.Fill(t)
	require.Eventually(t, func() bool {
		status, _ := n.Ready(t.Context())
		return status == 503
	}, 10*time.Second, 50*time.Millisecond, "a full disk does not show in the ready state")
	disk.Free(t)
	n.Load.Over()
	n.Load.Await(100, 10*time.Second)
	require.Eventually(t, func() bool {
		status, _ := n.Ready(t.Context())
		return status == 200
	}, 10*time.Second, 50*time.Millisecond, "the ready state does not come back")
	out := n.Load.Finish(t, n.App)
	kept(t, out)
	require.Less(t, out.SlowestCall, int64(5000), "a send hung")
}

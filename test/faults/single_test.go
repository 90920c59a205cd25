//go:build faults

package faults

import (
	"bytes"
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/test/harness"
	"github.com/chappe-im/chappe/test/traffic"
)

// diskMiB holds a fresh node with room to spare: etcd takes 128 MiB at its
// start.
const diskMiB = 320

// singleScenarios are faults of one node with everything in it.
var singleScenarios = []scenario{
	{name: "none", lasts: time.Second, what: "no fault: devices log in and out", single: func(t *testing.T, s *single) { traffic.Wait(t, 10*time.Second) }},
	{name: "restart", what: "node stopped and started, three times", single: func(t *testing.T, s *single) {
		for range 3 {
			s.restart(t)
			traffic.Wait(t, 2*time.Second)
		}
	}},
	{name: "kill", what: "kill -9 of the node, five times, a second of work between", single: func(t *testing.T, s *single) {
		for range 5 {
			s.kill(t)
			s.start(t)
			traffic.Wait(t, time.Second)
		}
	}},
	{name: "freeze", lasts: 6 * time.Second, what: "node frozen (SIGSTOP) for 6 s", single: func(t *testing.T, s *single) {
		s.Freeze(t)
		traffic.Wait(t, 6*time.Second)
		s.Thaw(t)
		s.Load.Over()
	}},
	{name: "sqlite-locked", lasts: 3 * time.Second, what: "SQLite's write lock held for 3 s at a time, six times", gap: goesOnWithin, single: func(t *testing.T, s *single) {
		for range 6 {
			s.lock(t, 3*time.Second)
			traffic.Wait(t, 300*time.Millisecond)
		}
		s.Load.Over()
	}},
	{name: "sqlite-locked-kill", what: "kill -9 while SQLite's write lock is held for 3 s", single: func(t *testing.T, s *single) {
		began := time.Now()
		release := harness.LockSQLite(t, s.SQL("messaging"))
		traffic.Wait(t, 3*time.Second)
		s.Crash(t, began) // nothing that was confirmed could be kept
		release()
		s.start(t)
	}},
	{
		name: "disk-full", what: "disk full for 8 s", disk: diskMiB, unready: true, answer: 3 * time.Second, goesOn: 10 * time.Second,
		single: func(t *testing.T, s *single) {
			s.disk.Fill(t)
			traffic.Wait(t, 8*time.Second)
			s.disk.Free(t)
			s.Load.Over()
			traffic.Wait(t, 10*time.Second)
		},
	},
	{name: "disk-full-kill", what: "disk full, kill -9, room again, start", disk: diskMiB, single: func(t *testing.T, s *single) {
		began := time.Now()
		s.disk.Fill(t)
		traffic.Wait(t, 3*time.Second)
		s.Crash(t, began)
		s.disk.Free(t)
		s.start(t)
	}},
	{name: "log-older", what: "kill -9, the log's files of 3 s earlier put back", single: func(t *testing.T, s *single) {
		putBack := s.Snapshot(t, s.LogFiles())
		traffic.Wait(t, 3*time.Second)
		s.damageLog(t, putBack)
	}},
	{name: "log-lost", what: "kill -9 with 2 s not archived, the log's files from before put back: they held them alone", gone: true, single: func(t *testing.T, s *single) {
		s.Load.Settled(t, s.App)
		putBack := s.Snapshot(t, s.LogFiles())
		began := time.Now()
		release := harness.LockSQLite(t, s.SQL("messaging"))
		s.Load.Pause(false)
		traffic.Wait(t, 2*time.Second)
		s.Crash(t, began)
		putBack()
		release()
		s.start(t)
		traffic.Wait(t, 3*time.Second)
	}},
	{name: "log-cut", what: "kill -9, the log's newest files cut to half", single: func(t *testing.T, s *single) {
		s.damageLog(t, func() {
			s.eachBlock(t, func(b []byte) []byte { return b[:len(b)/2] })
		})
	}},
	{name: "log-zeroed", what: "kill -9, the second half of the log's newest files zeroed", single: func(t *testing.T, s *single) {
		s.damageLog(t, func() {
			s.eachBlock(t, func(b []byte) []byte { return append(b[:len(b)/2], bytes.Repeat([]byte{0}, len(b)-len(b)/2)...) })
		})
	}},
	{name: "log-flipped", what: "kill -9, one bit flipped in the middle of the log's newest files", single: func(t *testing.T, s *single) {
		s.damageLog(t, func() {
			s.eachBlock(t, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		})
	}},
	{name: "log-deleted", what: "kill -9, the log's files deleted", single: func(t *testing.T, s *single) {
		s.damageLog(t, func() { require.NoError(t, os.RemoveAll(s.LogFiles())) })
	}},
	{name: "archive-older", what: "kill -9, the archive of 3 s earlier put back", single: func(t *testing.T, s *single) {
		copied := time.Now()
		putBack := s.Snapshot(t, filepath.Dir(s.SQL("messaging")))
		traffic.Wait(t, 3*time.Second)
		s.Crash(t, copied) // its devices have confirmed what they had then
		putBack()
		s.start(t)
	}},
}

// lock holds the write lock of the archive for a while.
func (s *single) lock(t *testing.T, d time.Duration) {
	release := harness.LockSQLite(t, s.SQL("messaging"))
	traffic.Wait(t, d)
	release()
}

// eachBlock changes the newest file of messages of each partition's log.
func (s *single) eachBlock(t *testing.T, change func([]byte) []byte) {
	newest := map[string]string{} // by stream
	require.NoError(t, filepath.WalkDir(s.LogFiles(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".blk" {
			return err
		}
		stream := filepath.Base(filepath.Dir(filepath.Dir(path)))
		if strings.HasPrefix(stream, "MSG_") && slices.MaxFunc([]string{newest[stream], path}, byLength) == path {
			newest[stream] = path
		}
		return nil
	}))
	require.NotEmpty(t, newest, "no files of the log below %s", s.LogFiles())
	for _, path := range newest {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		if len(b) == 0 {
			continue
		}
		require.NoError(t, os.WriteFile(path, change(b), 0o600))
	}
}

// byLength orders paths of numbered files: a longer number is a later file.
func byLength(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

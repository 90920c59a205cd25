package messaging_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/embed"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/testkit"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

// logRig is a rig whose NATS keeps its files where the test can reach them.
type logRig struct {
	*rig
	dir    string
	listen string
}

func newLogRig(t *testing.T, outside bool) *logRig {
	t.Helper()
	return newBoundLogRig(t, outside, 0)
}

// newBoundLogRig is newLogRig with a bound of the log in bytes.
func newBoundLogRig(t *testing.T, outside bool, bytes int64) *logRig {
	t.Helper()
	l := &logRig{rig: newIdleRig(t, 0, testkit.SQLite(t, "messaging", nil)), dir: t.TempDir()}
	l.logBytes = bytes
	if outside {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		l.listen = lis.Addr().String()
		require.NoError(t, lis.Close())
		l.natsURL = "nats://" + l.listen
	}
	l.startNATS()
	t.Cleanup(func() { l.nats.Stop() })
	l.start()
	t.Cleanup(l.stop)
	return l
}

// natsToken lets connections in at a NATS that listens.
const natsToken = "a token of the tests"

func (l *logRig) startNATS() {
	cfg := embed.NATSConfig{Dir: l.dir, Listen: l.listen, Logger: testkit.Logger(l.t)}
	if l.listen != "" {
		cfg.Token = natsToken
	}
	s, err := embed.StartNATS(cfg)
	require.NoError(l.t, err)
	l.nats = s
}

// files is where NATS keeps the log.
func (l *logRig) files() string { return filepath.Join(l.dir, "nats") }

// copyFiles copies NATS's files as they are at the moment.
func (l *logRig) copyFiles() string {
	to := filepath.Join(l.t.TempDir(), "nats")
	require.NoError(l.t, os.CopyFS(to, os.DirFS(l.files())))
	return to
}

// putBack replaces NATS's files with a copy.
func (l *logRig) putBack(from string) {
	require.NoError(l.t, os.RemoveAll(l.files()))
	require.NoError(l.t, os.CopyFS(l.files(), os.DirFS(from)))
}

// fill sends n messages of lena to omar and returns their IDs.
func (l *logRig) fill(n int) []string {
	ids := make([]string, 0, n)
	for i := range n {
		resp, err := l.send.SendToUsers(l.t.Context(), txt("lena", fmt.Sprint(i), "omar"))
		require.NoError(l.t, err)
		ids = append(ids, resp.GetResults()[0].GetMessageId())
	}
	return ids
}

// list gives the IDs of lena's and omar's conversation in their order, which is
// numbered without a hole.
func (l *logRig) list() (ids []string) {
	l.t.Helper()
	for after := int64(0); ; {
		resp, err := l.sync.PullConversation(l.t.Context(), &messagingv1.PullConversationRequest{
			Org: "acme", App: "shop", User: "omar", Resource: "web", Conversation: "lena~omar", AfterSeq: after, Limit: 200,
		})
		require.NoError(l.t, err)
		if len(resp.GetEntries()) == 0 {
			return ids
		}
		for i, e := range resp.GetEntries() {
			require.Equal(l.t, after+int64(i)+1, e.GetSeq())
			ids = append(ids, strconv.FormatInt(e.GetId(), 10))
		}
		after = resp.GetThroughSeq()
	}
}

// kept waits until the conversation holds all these messages, once each and in
// their order, and returns all that it holds.
func (l *logRig) kept(ids ...string) []string {
	l.t.Helper()
	var got []string
	require.Eventually(l.t, func() bool {
		got = l.list()
		return !slices.ContainsFunc(ids, func(id string) bool { return !slices.Contains(got, id) })
	}, 20*time.Second, 20*time.Millisecond, "%d messages", len(ids))
	place := -1
	for _, id := range ids {
		at := slices.Index(got, id)
		require.Greater(l.t, at, place, "message %s", id)
		place = at
	}
	sorted := slices.Sorted(slices.Values(got))
	require.Len(l.t, slices.Compact(sorted), len(got), "each once")
	return got
}

func (l *logRig) metric(name string) (sum float64) {
	all, err := l.metrics.Gather()
	require.NoError(l.t, err)
	for _, f := range all {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// blocks gives the files in which the partition of lena and omar keeps its
// records, largest first.
func (l *logRig) blocks() []string {
	p := bus.Partition("acme#shop", "lena~omar", 4)
	var out []string
	require.NoError(l.t, filepath.WalkDir(l.files(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".blk") && strings.Contains(path, string(filepath.Separator)+bus.LogStream(p)+string(filepath.Separator)) {
			out = append(out, path)
		}
		return err
	}))
	require.NotEmpty(l.t, out)
	return out
}

// edit changes the bytes of the log's blocks.
func (l *logRig) edit(change func(data []byte) []byte) {
	for _, path := range l.blocks() {
		data, err := os.ReadFile(path)
		require.NoError(l.t, err)
		require.NoError(l.t, os.WriteFile(path, change(data), 0o600))
	}
}

// forgetIndex removes what NATS writes when it is stopped: after a power cut it
// is not there.
func (l *logRig) forgetIndex() {
	require.NoError(l.t, filepath.WalkDir(l.files(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "index.db" {
			return os.Remove(path)
		}
		return err
	}))
}

// TestLogBehindTheArchive puts the log back to an older state, or damages it,
// while the archive stays what it is: all that is acknowledged afterwards is
// kept.
func TestLogBehindTheArchive(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault func(l *logRig, older string)
		// epoch says that a new epoch begins for sure.
		epoch bool
	}{
		"older copy": {func(l *logRig, older string) { l.putBack(older) }, true},
		"older copy without its index": {func(l *logRig, older string) {
			l.putBack(older)
			l.forgetIndex()
		}, true},
		"deleted": {func(l *logRig, _ string) { require.NoError(l.t, os.RemoveAll(l.files())) }, true},
		"cut": {func(l *logRig, _ string) {
			l.edit(func(d []byte) []byte { return d[:len(d)*2/3] })
		}, false},
		"cut, no index": {func(l *logRig, _ string) {
			l.edit(func(d []byte) []byte { return d[:len(d)*2/3] })
			l.forgetIndex()
		}, true},
		"blocks deleted": {func(l *logRig, _ string) {
			for _, b := range l.blocks() {
				require.NoError(l.t, os.Remove(b))
			}
		}, false},
		"zeroed": {func(l *logRig, _ string) {
			l.edit(func(d []byte) []byte {
				clear(d[len(d)/2:])
				return d
			})
		}, false},
		"zeroed, no index": {func(l *logRig, _ string) {
			l.edit(func(d []byte) []byte {
				clear(d[len(d)/2:])
				return d
			})
			l.forgetIndex()
		}, true},
		"one bit": {func(l *logRig, _ string) {
			l.edit(func(d []byte) []byte {
				d[bytes.LastIndex(d[:len(d)/2], []byte(`acme#shop`))] ^= 1
				return d
			})
		}, false},
		"one bit, no index": {func(l *logRig, _ string) {
			l.edit(func(d []byte) []byte {
				d[bytes.LastIndex(d[:len(d)/2], []byte(`acme#shop`))] ^= 1
				return d
			})
			l.forgetIndex()
		}, false},
		"one bit of a record's length": {func(l *logRig, _ string) {
			l.edit(func(d []byte) []byte {
				d[bytes.LastIndex(d[:len(d)/2], []byte("msg."))-22] ^= 1
				return d
			})
		}, false},
		"one bit at the end": {func(l *logRig, _ string) {
			l.edit(func(d []byte) []byte {
				d[len(d)-12] ^= 4
				return d
			})
			l.forgetIndex()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLogRig(t, false)
			first := l.fill(60)
			l.kept(first...)
			older := l.copyFiles()
			second := l.fill(100)
			l.kept(slices.Concat(first, second)...)
			l.stop()
			l.nats.Stop()

			c.fault(l, older)
			l.startNATS()
			l.start()
			third := l.fill(100)
			require.Len(t, l.kept(slices.Concat(first, second, third)...), 260)
			if c.epoch {
				require.EqualValues(t, 1, l.metric("chappe_messaging_log_epoch"))
			}
			// It stays so, over a restart too.
			epoch := l.metric("chappe_messaging_log_epoch")
			l.stop()
			l.start()
			fourth := l.fill(5)
			require.Len(t, l.kept(slices.Concat(first, second, third, fourth)...), 265)
			require.Equal(t, epoch, l.metric("chappe_messaging_log_epoch"))
		})
	}
}

// TestOutsideNATSComesBackWithOlderFiles has a NATS server go away under load
// and come back with files that are older than what it acknowledged: what is
// acknowledged from then on is kept, and what is lost is counted.
func TestOutsideNATSComesBackWithOlderFiles(t *testing.T) {
	t.Parallel()
	l := newLogRig(t, true)
	missing := 0
	for round := range 3 {
		before := l.fill(100)
		older := l.copyFiles()
		// The archive is slow, so that it cannot make good for all of the log.
		release := l.holdArchive()
		lost := l.fill(300)
		l.nats.Stop()
		release()
		_, err := l.send.SendToUsers(t.Context(), txt("lena", "away", "omar"))
		require.Error(t, err)
		l.putBack(older)
		l.startNATS()
		after := l.persist(100)
		got := l.kept(slices.Concat(before, after)...)
		for _, id := range lost {
			if !slices.Contains(got, id) {
				missing++
			}
		}
		require.GreaterOrEqual(t, l.metric("chappe_messaging_log_epoch"), float64(round+1))
		require.EqualValues(t, missing, l.metric("chappe_messaging_log_lost_total"))
	}
}

// TestLossIsCounted has messages acknowledged that no worker reads before they
// are lost with the log.
func TestLossIsCounted(t *testing.T) {
	t.Parallel()
	l := newLogRig(t, true)
	before := l.fill(20)
	l.kept(before...)
	l.stop()
	lock := "/messaging/locks/" + strconv.Itoa(bus.Partition("acme#shop", "lena~omar", 4))
	put := func(w etcdx.Write) {
		_, _, err := l.etcd.Commit(t.Context(), nil, []etcdx.Write{w})
		require.NoError(t, err)
	}
	put(etcdx.Write{Key: lock, Value: []byte("somebody else")})
	l.second = true
	l.start()
	before = append(before, l.fill(10)...)
	older := l.copyFiles()
	l.fill(30)
	l.nats.Stop()
	l.putBack(older)
	l.startNATS()
	require.Eventually(t, func() bool {
		why := strings.Join(l.service.LogHealth().Refusing, " ")
		return strings.Contains(why, "the log ends at 30, and 60 was acknowledged")
	}, 20*time.Second, 10*time.Millisecond)
	_, err := l.send.SendToUsers(t.Context(), txt("lena", "too early", "omar"))
	require.True(t, errs.Is(err, errs.ReasonUnavailable), "%v", err)
	put(etcdx.Write{Key: lock, Delete: true})
	after := l.persist(20)
	require.Len(t, l.kept(slices.Concat(before, after)...), 50)
	require.EqualValues(t, 30, l.metric("chappe_messaging_log_lost_total"))
	require.EqualValues(t, 30, l.service.LogHealth().Lost)
	l.stop()
	l.start()
	require.EqualValues(t, 30, l.service.LogHealth().Lost, "it is not forgotten")
}

// holdArchive keeps the archive from being written until release.
func (l *logRig) holdArchive() (release func()) {
	held, free, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- l.db.Write(context.Background(), func(*sql.Tx) error {
			close(held)
			<-free
			return nil
		})
	}()
	<-held
	return func() {
		close(free)
		require.NoError(l.t, <-ended)
	}
}

// subscribe follows the app's messages from a cursor and returns what comes: n
// messages' IDs and the cursor after the last.
func (l *logRig) subscribe(cursor string, n int) (ids []string, last string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	s, err := l.send.Subscribe(ctx, &messagingv1.SubscribeRequest{Org: "acme", App: "shop", Cursor: cursor})
	require.NoError(l.t, err)
	for last = cursor; len(ids) < n; {
		m, err := s.Recv()
		require.NoError(l.t, err)
		if last = m.GetCursor(); m.GetMessage() != nil {
			ids = append(ids, m.GetMessage().GetId())
		}
	}
	return ids, last
}

// TestSubscribersGoOnInANewEpoch has subscribers whose cursor is from before
// the log began anew.
func TestSubscribersGoOnInANewEpoch(t *testing.T) {
	t.Parallel()
	l := newLogRig(t, true)
	s, err := l.send.Subscribe(t.Context(), &messagingv1.SubscribeRequest{Org: "acme", App: "shop"})
	require.NoError(t, err)
	begin, err := s.Recv()
	require.NoError(t, err)
	first := l.fill(60)
	got, early := l.subscribe(begin.GetCursor(), 50)
	require.Equal(t, first[:50], got)
	l.kept(first...)
	older := l.copyFiles()
	second := l.fill(40)
	l.kept(slices.Concat(first, second)...)
	got, late := l.subscribe(early, 50)
	require.Equal(t, slices.Concat(first[50:], second), got)

	l.nats.Stop()
	l.putBack(older)
	l.startNATS()
	require.Eventually(t, func() bool {
		_, err = s.Recv()
		return err != nil
	}, 20*time.Second, time.Millisecond, "a running subscription is told")
	require.True(t, errs.Is(err, errs.ReasonUnavailable), "%v", err)
	require.Eventually(t, func() bool { return len(l.service.LogHealth().Refusing) == 0 }, 20*time.Second, 5*time.Millisecond)
	third := l.fill(20)
	got, _ = l.subscribe(late, 20)
	require.Equal(t, third, got, "who had seen all sees what is new")
	got, _ = l.subscribe(early, 30)
	require.Equal(t, slices.Concat(first[50:], third), got, "who had not sees what the log still holds")
}

// TestStreamDeletedUnderARunningService has an operator delete the log's
// stream: nothing tells the service but the log itself.
func TestStreamDeletedUnderARunningService(t *testing.T) {
	t.Parallel()
	l := newLogRig(t, false)
	before := l.fill(50)
	l.kept(before...)
	conn := testkit.Connect(t, l.nats)
	stream := bus.LogStream(bus.Partition("acme#shop", "lena~omar", 4))
	require.NoError(t, conn.JetStream().DeleteStream(t.Context(), stream))
	after := l.persist(30)
	l.kept(slices.Concat(before, after)...)
	require.EqualValues(t, 1, l.metric("chappe_messaging_log_epoch"))
}

// persist is fill by somebody who tries again what is refused.
func (l *logRig) persist(n int) (ids []string) {
	for len(ids) < n {
		require.Eventually(l.t, func() bool {
			resp, err := l.send.SendToUsers(l.t.Context(), txt("lena", fmt.Sprint("persist", len(ids)), "omar"))
			if err != nil {
				require.True(l.t, errs.Is(err, errs.ReasonUnavailable), "%v", err)
				return false
			}
			ids = append(ids, resp.GetResults()[0].GetMessageId())
			return true
		}, 20*time.Second, 5*time.Millisecond)
	}
	return ids
}

// TestTwoProcessesAndALogThatGoesBack has two messaging processes, one of which
// works on the partition, while NATS comes back with older files.
func TestTwoProcessesAndALogThatGoesBack(t *testing.T) {
	t.Parallel()
	l := newLogRig(t, true)
	other := &logRig{rig: l.beside(), dir: l.dir}
	other.start()
	t.Cleanup(other.stop)
	var all []string
	for range 3 {
		all = append(all, l.persist(20)...)
		all = append(all, other.persist(20)...)
		l.kept(all...)
		older := l.copyFiles()
		all = append(all, other.persist(40)...)
		all = append(all, l.persist(40)...)
		l.kept(all...)
		l.nats.Stop()
		l.putBack(older)
		l.startNATS()
		var mu sync.Mutex
		var after sync.WaitGroup
		for _, r := range []*logRig{l, other} {
			after.Go(func() {
				ids := r.persist(50)
				mu.Lock()
				defer mu.Unlock()
				all = append(all, ids...)
			})
		}
		after.Wait()
		// IDs of two processes are not in the order of their calls.
		var got []string
		require.Eventually(t, func() bool {
			got = l.list()
			return !slices.ContainsFunc(all, func(id string) bool { return !slices.Contains(got, id) })
		}, 20*time.Second, 20*time.Millisecond, "all that was acknowledged")
		slices.Sort(got)
		require.Equal(t, slices.Compact(slices.Clone(got)), got, "each once")
		all = nil
	}
}

// TestUpgradeAdoptsWhatHasNoEpochs starts on the data of a version that knew
// none.
func TestUpgradeAdoptsWhatHasNoEpochs(t *testing.T) {
	t.Parallel()
	for name, behind := range map[string]bool{"whole": false, "with an older log": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLogRig(t, false)
			first := l.fill(30)
			l.kept(first...)
			older := l.copyFiles()
			second := l.fill(30)
			l.kept(slices.Concat(first, second)...)
			l.stop()
			require.NoError(t, l.db.Write(t.Context(), func(tx *sql.Tx) error {
				_, err := tx.ExecContext(t.Context(), `UPDATE log_positions SET created = 0, fingerprint = 0, epoch = 0`)
				return err
			}))
			if behind {
				l.nats.Stop()
				l.putBack(older)
				l.startNATS()
			}
			l.start()
			third := l.fill(30)
			require.Len(t, l.kept(slices.Concat(first, second, third)...), 90)
			require.Equal(t, behind, l.metric("chappe_messaging_log_epoch") > 0)
		})
	}
}

// TestLogKeepsItsBound writes several times what the log may hold: what is
// archived makes room. While nothing can be archived nothing is dropped; sends
// are refused instead.
func TestLogKeepsItsBound(t *testing.T) {
	t.Parallel()
	const bound = 128 << 10 // of a partition
	l := newBoundLogRig(t, false, 4*bound)
	conn := testkit.Connect(t, l.nats)
	stream := bus.LogStream(bus.Partition("acme#shop", "lena~omar", 4))
	all := l.persist(1500)
	log, err := conn.StreamState(t.Context(), stream)
	require.NoError(t, err)
	require.LessOrEqual(t, log.Bytes, uint64(bound))
	require.Greater(t, log.First, uint64(500), "the oldest made room")
	l.kept(all...)

	release := l.holdArchive()
	refused := 0
	for refused < 20 {
		resp, err := l.send.SendToUsers(t.Context(), txt("lena", "into a full log", "omar"))
		if err != nil {
			require.True(t, errs.Is(err, errs.ReasonUnavailable), "%v", err)
			refused++
			continue
		}
		all = append(all, resp.GetResults()[0].GetMessageId())
	}
	require.Less(t, len(all), 3000)
	release()
	all = append(all, l.persist(100)...)
	l.kept(all...)
	require.Zero(t, l.metric("chappe_messaging_log_lost_total"))
	require.Zero(t, l.metric("chappe_messaging_log_epoch"))
}

// TestPushesGoOnWithoutTheArchive holds the archive's database while messages
// are sent in a conversation that is known: they are pushed, and archived when
// it is free again.
func TestPushesGoOnWithoutTheArchive(t *testing.T) {
	t.Parallel()
	l := newLogRig(t, false)
	l.conn = testkit.Connect(t, l.nats)
	all := l.fill(10)
	l.kept(all...)
	pushed := l.rig.listen("acme#shop", "omar")
	release := l.holdArchive()
	all = append(all, l.fill(500)...)
	for i := range 500 {
		require.Equal(t, int64(10+i+1), next(t, pushed).GetSeq())
	}
	require.Len(t, l.list(), 10)
	release()
	require.Len(t, l.kept(all...), 510)
}

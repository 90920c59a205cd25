//go:build faults

package faults

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chappe-im/chappe/test/harness"
	"github.com/chappe-im/chappe/test/traffic"
)

// watcher writes down what servers say at /readyz, as often as it changes.
type watcher struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex
	servers []*harness.Server
	seen    []string
	unready bool
}

const watchEvery = 100 * time.Millisecond

func watch(t *testing.T, servers ...*harness.Server) *watcher {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{stop: cancel, servers: servers}
	w.look(ctx)
	w.done.Go(func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				w.look(ctx)
			}
		}
	})
	t.Cleanup(w.end)
	return w
}

// use watches other servers from now on.
func (w *watcher) use(servers ...*harness.Server) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.servers = servers
}

// look asks all servers and keeps the worst answer.
func (w *watcher) look(ctx context.Context) {
	w.mu.Lock()
	servers := w.servers
	w.mu.Unlock()
	said := "200"
	for _, s := range servers {
		status, why := s.Ready(ctx)
		switch {
		case status == 0:
			said = "no answer"
		case why != "":
			said = fmt.Sprintf("%d (%s)", status, why)
		case status != http.StatusOK:
			said = strconv.Itoa(status)
		}
	}
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unready = w.unready || strings.HasPrefix(said, "503")
	if len(w.seen) == 0 || w.seen[len(w.seen)-1] != said {
		w.seen = append(w.seen, said)
	}
}

func (w *watcher) end() {
	w.stop()
	w.done.Wait()
}

// summary is what was seen, shortened.
func (w *watcher) summary() (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	if len(seen) > 7 {
		seen = append(append(append([]string{}, seen[:4]...), "…"), seen[len(seen)-2:]...)
	}
	return strings.Join(seen, " → "), w.unready
}

// single is one node that does everything, with its load.
type single struct {
	*traffic.Node
	disk  *harness.Disk
	watch *watcher
	notes []string
}

func runSingle(t *testing.T, sc scenario) Result {
	s := &single{}
	data, flags := t.TempDir(), harness.Flags{}
	if sc.disk > 0 {
		s.disk = harness.NewDisk(t, sc.disk)
		data, flags = s.disk.Dir, harness.SmallDisk()
	}
	s.Node = traffic.StartNode(t, data, flags, traffic.Config{Seed: *seed})
	s.Load.Await(50, 20*time.Second)
	traffic.Wait(t, *period)
	s.watch = watch(t, s.Server)
	sc.single(t, s)
	traffic.Wait(t, *period)
	s.watch.end()
	for _, why := range s.Accepted {
		t.Logf("started with the loss accepted, because: %s", why)
		s.notes = append(s.notes, "refused to start until the loss was accepted")
	}
	return result(t, s.Load, s.App, s.watch, s.notes)
}

func result(t *testing.T, l *traffic.Load, archive *harness.App, w *watcher, notes []string) Result {
	r := Result{Outcome: l.Finish(t, archive), Counted: int(archive.Server.Metric(t, "chappe_messaging_log_lost_total"))}
	if r.Counted > 0 {
		notes = append(notes, fmt.Sprintf("%d entries counted as lost with the log", r.Counted))
	}
	r.Ready, r.Unready = w.summary()
	r.Note = strings.Join(notes, "; ")
	return r
}

// kill ends the node as a crash does.
func (s *single) kill(t *testing.T) { s.Crash(t, time.Now()) }

// start starts the node again.
func (s *single) start(t *testing.T) {
	s.Restart(t)
	s.watch.use(s.Server)
}

// damageLog harms the log's files while the node is dead.
func (s *single) damageLog(t *testing.T, harm func()) {
	s.DamageLog(t, harm)
	s.watch.use(s.Server)
	traffic.Wait(t, 3*time.Second)
}

// cluster is processes on outside stores, with their load.
type cluster struct {
	*harness.Cluster
	apps  []*harness.App
	load  *traffic.Load
	watch *watcher
	notes []string
}

func runCluster(t *testing.T, sc scenario) Result {
	c := &cluster{Cluster: harness.StartCluster(t, max(1, sc.gateways), max(1, sc.messaging))}
	c.apps = c.NewApp(t, "enterprise", harness.NoLimits)
	c.load = traffic.Start(t, traffic.Config{Seed: *seed}, c.apps...)
	c.load.Await(50, 20*time.Second)
	traffic.Wait(t, *period)
	c.watch = watch(t, c.servers()...)
	sc.cluster(t, c)
	traffic.Wait(t, *period)
	c.watch.end()
	return result(t, c.load, c.Archive(c.apps[0]), c.watch, c.notes)
}

// servers are those whose ready state counts: gateways and messaging.
func (c *cluster) servers() []*harness.Server {
	var out []*harness.Server
	for _, p := range append(append([]*harness.Process{}, c.Gateways...), c.Messaging...) {
		out = append(out, p.Server)
	}
	return out
}

// killFirst kills the first of some processes, for good.
func (c *cluster) killFirst(t *testing.T, of *[]*harness.Process) {
	at := time.Now()
	(*of)[0].Kill(t)
	c.load.Disrupted(at, time.Now())
	*of = (*of)[1:]
	c.reach()
}

// reach leads watch and load to the processes that are there now.
func (c *cluster) reach() {
	c.watch.use(c.servers()...)
	c.load.Use(c.Apps(c.apps[0])...)
}

// loseMessaging kills the only messaging process and returns when.
func (c *cluster) loseMessaging(t *testing.T) time.Time {
	at := time.Now()
	c.Messaging[0].Kill(t)
	c.MessagingLink.Cut()
	c.Messaging = nil
	c.reach()
	return at
}

// regainMessaging starts a messaging process at the same address. What was
// confirmed since could not be stored.
func (c *cluster) regainMessaging(t *testing.T, since time.Time) {
	c.StartMessaging(t)
	c.load.Disrupted(since, time.Now())
	c.MessagingLink.Pass()
	c.reach()
}

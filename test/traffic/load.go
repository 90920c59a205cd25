package traffic

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/test/harness"
)

// Config says how much traffic there is.
type Config struct {
	// Seed decides on every pause and every choice of a gateway.
	Seed uint64
	// Recipients are users who are written to; each has a device that stays
	// connected and RoamingDevices that come and go. Defaults: 3 and 1. For each
	// roaming device there is a herald who writes rarely: right before the device
	// dials and shortly after it is logged in.
	Recipients, RoamingDevices int
	// RESTWriters and ClientWriters are users who write to each recipient, by
	// REST and as connected devices. Defaults: 1 each.
	RESTWriters, ClientWriters int
	// Pause is the mean pause between two sends of a REST writer; client writers
	// make five times that, within what a user may send. Default: 20 ms.
	Pause time.Duration
	// Stay and Away are the longest times that a roaming device is connected and
	// not. Defaults: 1 s and 500 ms.
	Stay, Away time.Duration
}

func (c Config) withDefaults() Config {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	wait := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.Recipients, 3)
	set(&c.RoamingDevices, 1)
	set(&c.RESTWriters, 1)
	set(&c.ClientWriters, 1)
	wait(&c.Pause, 20*time.Millisecond)
	wait(&c.Stay, time.Second)
	wait(&c.Away, 500*time.Millisecond)
	return c
}

const (
	// sendPatience is how long a writer waits for an answer.
	sendPatience = 20 * time.Second
	// retryPause is how long writers and receivers wait before they try again
	// what failed.
	retryPause = 50 * time.Millisecond
)

// Load is traffic that is under way.
type Load struct {
	cfg      Config
	t        testing.TB
	gateways atomic.Pointer[[]*harness.App]
	tokens   map[string]string
	app      *harness.App

	writing   atomic.Bool // false while writers pause
	logins    atomic.Int64
	acked     atomic.Int64
	refused   atomic.Int64
	shown     atomic.Int64
	slowest   atomic.Int64       // nanoseconds
	stop      context.CancelFunc // ends writers
	stopped   context.Context    //nolint:containedctx // ends with the writers, for those who write beside them
	sending   sync.RWMutex       // held for reading while somebody sends
	settle    chan struct{}      // closed when receivers are to stay
	quit      context.CancelFunc // ends receivers
	writers   sync.WaitGroup
	receivers sync.WaitGroup

	mu      sync.Mutex
	sent    []Sent
	devices []*device
	kills   []Span
	overs   []time.Time
	// texts by which conversations are asked for in the archive.
	conversations map[string]struct{}
	refusals      map[string]int
}

// Start begins traffic through gateways: the same app on each of them. The
// app's rules must let it pass. It ends with the test at the latest.
func Start(t testing.TB, cfg Config, gateways ...*harness.App) *Load {
	t.Helper()
	l := &Load{
		cfg: cfg.withDefaults(), t: t, tokens: map[string]string{}, app: gateways[0], settle: make(chan struct{}),
		conversations: map[string]struct{}{}, refusals: map[string]int{},
	}
	l.gateways.Store(&gateways)
	l.writing.Store(true)
	for r := range l.cfg.Recipients {
		user := recipient(r)
		l.tokens[user] = gateways[0].UserToken(t, user)
		for w := range l.cfg.RESTWriters + l.cfg.ClientWriters {
			from := fmt.Sprintf("from%d-%d", r, w)
			l.tokens[from] = gateways[0].UserToken(t, from)
		}
	}
	writing, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	reading, quit := context.WithCancel(context.WithoutCancel(t.Context()))
	l.stopped, l.stop, l.quit = writing, stop, quit
	t.Cleanup(func() {
		stop()
		quit()
		l.writers.Wait()
		l.receivers.Wait()
	})
	// The devices are known before anything is written, for one that logs in for
	// the first time starts where the user's others are.
	var first sync.WaitGroup
	for r := range l.cfg.Recipients {
		for n := range 1 + l.cfg.RoamingDevices {
			d := &device{load: l, user: recipient(r), resource: fmt.Sprintf("device_%d", n), random: l.random(uint64(r), uint64(n))}
			if n > 0 {
				from := fmt.Sprintf("herald%d-%d", r, n)
				l.tokens[from] = gateways[0].UserToken(t, from)
				d.herald = &writer{load: l, from: from, to: d.user, random: d.random}
				l.conversations[d.herald.conversation()] = struct{}{}
			}
			l.devices = append(l.devices, d)
			first.Add(1)
			l.receivers.Go(func() { d.run(reading, first.Done) })
		}
	}
	first.Wait()
	for r := range l.cfg.Recipients {
		for w := range l.cfg.RESTWriters + l.cfg.ClientWriters {
			x := &writer{load: l, from: fmt.Sprintf("from%d-%d", r, w), to: recipient(r), random: l.random(uint64(r), uint64(100+w))}
			l.conversations[x.conversation()] = struct{}{}
			if w < l.cfg.RESTWriters {
				l.writers.Go(func() { x.runREST(writing) })
			} else {
				l.writers.Go(func() { x.runClient(writing) })
			}
		}
	}
	return l
}

func recipient(n int) string { return fmt.Sprintf("reader%d", n) }

// random is a source of its own for each writer and device, so that a seed
// means the same however they take turns.
func (l *Load) random(a, b uint64) *rand.Rand {
	return rand.New(rand.NewPCG(l.cfg.Seed, a<<32|b)) // pauses, not secrets
}

// Use sends the traffic through other gateways from now on.
func (l *Load) Use(gateways ...*harness.App) { l.gateways.Store(&gateways) }

func (l *Load) gateway(r *rand.Rand) *harness.App {
	all := *l.gateways.Load()
	return all[r.IntN(len(all))]
}

// Disrupted notes that everybody was disrupted: what was shown from shortly
// before until to may come again. A kill is a moment; with the archive out of
// reach before it, from is when that began.
func (l *Load) Disrupted(from, to time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kills = append(l.kills, kill(from, to))
}

// Over notes that a fault has just ended: from here on it is counted how long
// it takes until work goes on. Of several faults the slowest counts.
func (l *Load) Over() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.overs = append(l.overs, time.Now())
}

// Pause lets writers stand still, or go on. When it returns, none is sending.
func (l *Load) Pause(still bool) {
	l.writing.Store(!still)
	if still {
		l.awaitSent()
	}
}

// awaitSent waits for those who are sending.
func (l *Load) awaitSent() {
	l.sending.Lock()
	l.sending.Unlock() //nolint:staticcheck // nothing is to be done under it
}

// send runs one attempt of a send; it reports false, without one, when writers
// stand still or have been stopped.
func (l *Load) send(attempt func()) bool {
	l.sending.RLock()
	defer l.sending.RUnlock()
	if l.stopped.Err() != nil || !l.writing.Load() {
		return false
	}
	attempt()
	return true
}

// Acked returns how many sends were acknowledged so far.
func (l *Load) Acked() int64 { return l.acked.Load() }

// Logins returns how often devices have logged in.
func (l *Load) Logins() int64 { return l.logins.Load() }

// Await waits until n further sends are acknowledged; it fails the test after
// patience.
func (l *Load) Await(n int64, patience time.Duration) {
	l.t.Helper()
	until := l.acked.Load() + n
	require.Eventually(l.t, func() bool { return l.acked.Load() >= until }, patience, 10*time.Millisecond, "sends are not acknowledged: %v", l.Refusals())
}

// Refusals returns how often which refusal was met.
func (l *Load) Refusals() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]int, len(l.refusals))
	for k, v := range l.refusals {
		out[k] = v
	}
	return out
}

func (l *Load) ack(s Sent) {
	s.Acked = time.Now()
	l.mu.Lock()
	l.sent = append(l.sent, s)
	l.mu.Unlock()
	l.acked.Add(1)
	l.took(s.Begun)
}

// refuse notes a send that was refused or not answered.
func (l *Load) refuse(begun time.Time, why string) {
	l.took(begun)
	l.count(why)
}

func (l *Load) count(why string) {
	l.refused.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.refusals[why]; known || len(l.refusals) < 50 {
		l.refusals[why]++
	}
}

// took keeps how long the slowest answer took.
func (l *Load) took(begun time.Time) {
	d := int64(time.Since(begun))
	for {
		old := l.slowest.Load()
		if d <= old || l.slowest.CompareAndSwap(old, d) {
			return
		}
	}
}

// Wait lets a fault last, or the load go on, for some time.
func Wait(t testing.TB, d time.Duration) {
	t.Helper()
	require.True(t, pause(t.Context(), d), "the test ended")
}

// pause waits for a moment, or until ctx ends; it reports whether to go on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

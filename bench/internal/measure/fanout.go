package measure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chappe-im/chappe/bench/internal/check"
	"github.com/chappe-im/chappe/bench/internal/rawhttp"
	"github.com/chappe-im/chappe/bench/internal/receiver"
	"github.com/chappe-im/chappe/bench/internal/stats"
	"github.com/chappe-im/chappe/bench/internal/target"
)

// MaxTargets is how many users one call may name.
const MaxTargets = 600

// FanoutConfig sets up sends to many connected users at once.
type FanoutConfig struct {
	Target *target.Target
	PID    int
	// Receivers that are connected.
	Receivers int
	// Targets of one call, at most MaxTargets.
	Targets   int
	TextBytes int
	// ArrivalLimit is how long to wait for the deliveries of a call; 0 means a
	// minute.
	ArrivalLimit time.Duration
}

// Rounds says how calls are repeated.
type Rounds struct {
	Name string
	// Calls under way at once; each goes to receivers of its own.
	Calls int
	// Duration and Count (of rounds) end it, whichever is first.
	Duration time.Duration
	Count    int
	// Pause after each round.
	Pause time.Duration
}

// Fanout holds connected receivers.
type Fanout struct {
	cfg       FanoutConfig
	sender    string
	users     []string
	receivers []*receiver.Receiver
	chunks    []*chunk
	state     atomic.Pointer[fanoutRun]
}

// chunk is the receivers of one call.
type chunk struct {
	first, end int
	req        rawhttp.Request
	conn       *rawhttp.Conn
	seq        int
	text, body []byte
	call       atomic.Pointer[call]
}

// fanoutRun is what belongs to one run.
type fanoutRun struct {
	id      string
	tracker *check.Tracker
}

// call is a send under way.
type call struct {
	seq       int
	remaining atomic.Int32
	last      time.Time
	done      chan struct{}
}

// NewFanout registers the users and connects them. Close must be called.
func NewFanout(ctx context.Context, cfg FanoutConfig) (*Fanout, error) {
	if cfg.Targets < 1 || cfg.Targets > MaxTargets || cfg.Receivers < cfg.Targets {
		return nil, fmt.Errorf("a call has 1 to %d targets, and there must be as many receivers", MaxTargets)
	}
	if cfg.ArrivalLimit <= 0 {
		cfg.ArrivalLimit = arrivalLimit
	}
	f := &Fanout{cfg: cfg}
	prefix := "b" + runID() + "-"
	f.users = names(prefix+"r", cfg.Receivers)
	f.sender = prefix + "s"
	if _, err := cfg.Target.CreateUsers(ctx, []string{f.sender}); err != nil {
		return nil, err
	}
	tokens, err := cfg.Target.CreateUsers(ctx, f.users)
	if err != nil {
		return nil, err
	}
	for first := 0; first+cfg.Targets <= cfg.Receivers; first += cfg.Targets {
		f.chunks = append(f.chunks, &chunk{
			first: first, end: first + cfg.Targets,
			req: cfg.Target.SendRequest(), conn: rawhttp.New(cfg.Target.Host(), callTimeout),
		})
	}
	f.receivers, err = connect(ctx, cfg.Target, f.users, tokens, func(i int, c *receiver.Config) {
		c.OnText = func(_, text []byte) { f.arrived(i, string(text)) }
		c.Capture = i == 0
	})
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Close ends all connections.
func (f *Fanout) Close() {
	for _, c := range f.chunks {
		c.conn.Close()
	}
	closeAll(f.receivers)
}

func (f *Fanout) arrived(i int, text string) {
	run := f.state.Load()
	if run == nil {
		return
	}
	n := i / f.cfg.Targets
	tag, ok := check.Parse(text)
	if !ok || tag.Run != run.id || tag.Conversation != n {
		run.tracker.Arrived(i, text)
		return
	}
	if !run.tracker.ArrivedSeq(i, tag.Seq) {
		return
	}
	c := f.chunks[n].call.Load()
	if c != nil && c.seq == tag.Seq && c.remaining.Add(-1) == 0 {
		c.last = time.Now()
		close(c.done)
	}
}

// send makes one call and waits for the last of its deliveries.
func (f *Fanout) send(ctx context.Context, run *fanoutRun, n int) (answer, last time.Duration, err error) {
	c := f.chunks[n]
	c.seq++
	seq := c.seq
	c.text = pad(check.Tag{Run: run.id, Conversation: n, Seq: seq}.AppendTo(c.text[:0]), f.cfg.TextBytes)
	c.body = target.AppendTextBody(c.body[:0], f.sender, f.users[c.first:c.end], c.text)
	now := &call{seq: seq, done: make(chan struct{})}
	now.remaining.Store(int32(c.end - c.first))
	for i := c.first; i < c.end; i++ {
		run.tracker.Tried(i, seq)
	}
	c.call.Store(now)
	start := time.Now()
	res, err := c.conn.Do(c.req, c.body)
	answer = time.Since(start)
	if err == nil && res.Status != http.StatusOK {
		err = fmt.Errorf("send was answered %d: %.300s", res.Status, res.Body)
	}
	if err != nil {
		return 0, 0, err
	}
	for i := c.first; i < c.end; i++ {
		run.tracker.Accepted(i, seq)
	}
	timeout := time.NewTimer(f.cfg.ArrivalLimit)
	defer timeout.Stop()
	select {
	case <-now.done:
		return answer, now.last.Sub(start), nil
	case <-timeout.C:
		return answer, 0, errMissing
	case <-ctx.Done():
		return answer, 0, ctx.Err()
	}
}

var errMissing = errors.New("deliveries did not arrive in time")

// Run measures once. An operation is a delivery.
func (f *Fanout) Run(ctx context.Context, rounds Rounds) (*Result, error) {
	if rounds.Calls < 1 || rounds.Calls > len(f.chunks) {
		return nil, fmt.Errorf("%d receivers are enough for %d calls at once, not %d", f.cfg.Receivers, len(f.chunks), rounds.Calls)
	}
	id := runID()
	run := &fanoutRun{id: id, tracker: check.NewTracker(id, len(f.users))}
	for _, c := range f.chunks {
		c.seq = 0
		if err := c.conn.Connect(); err != nil {
			return nil, err
		}
	}
	f.state.Store(run)
	// One call to everyone outside of the measurement, so that connections,
	// caches and conversations exist.
	for n := range f.chunks {
		if _, _, err := f.send(ctx, run, n); err != nil {
			return f.faulty(run, err)
		}
	}
	m, err := startMeter(ctx, f.cfg.PID)
	if err != nil {
		return nil, err
	}
	frames, bytes := f.received()
	var answers, lasts stats.Histogram
	r := &Result{Name: rounds.Name, Unit: "delivery"}
	start := time.Now()
	var idle time.Duration
	next := 0
	for i := 0; (rounds.Count == 0 || i < rounds.Count) && (rounds.Duration == 0 || time.Since(start) < rounds.Duration); i++ {
		var wg sync.WaitGroup
		took := make([][2]time.Duration, rounds.Calls)
		errs := make([]error, rounds.Calls)
		for j := range rounds.Calls {
			n := (next + j) % len(f.chunks)
			wg.Go(func() { took[j][0], took[j][1], errs[j] = f.send(ctx, run, n) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return f.faulty(run, err)
		}
		for _, t := range took {
			answers.Record(t[0])
			lasts.Record(t[1])
		}
		next += rounds.Calls
		r.Ops += int64(rounds.Calls * f.cfg.Targets)
		if rounds.Pause > 0 {
			time.Sleep(rounds.Pause)
			idle += rounds.Pause
		}
	}
	r.Seconds = (time.Since(start) - idle).Seconds()
	r.PerSecond = float64(r.Ops) / r.Seconds
	r.Latency, r.LastDelivery = latencyOf(&answers), latencyOf(&lasts)
	if err := m.answer(); err != nil {
		return nil, err
	}
	if err := m.stop(ctx, r); err != nil {
		return nil, err
	}
	endFrames, endBytes := f.received()
	r.Extra = map[string]float64{
		"frames_per_delivery": float64(endFrames-frames) / float64(r.Ops),
		"bytes_per_delivery":  float64(endBytes-bytes) / float64(r.Ops),
	}
	report := run.tracker.Report()
	r.Check = &report
	return r, nil
}

// faulty tells what had arrived when a run failed.
func (f *Fanout) faulty(run *fanoutRun, err error) (*Result, error) {
	report := run.tracker.Report()
	return nil, errors.Join(err, report.Err())
}

func (f *Fanout) received() (frames, bytes int64) {
	for _, r := range f.receivers {
		n, b := r.Received()
		frames += n
		bytes += b
	}
	return frames, bytes
}

// Frames captures what one connection is sent for one delivery.
func (f *Fanout) Frames(ctx context.Context) ([][]byte, error) {
	run := f.state.Load()
	if run == nil {
		return nil, errors.New("frames can be captured after a run")
	}
	if err := f.quiet(ctx); err != nil {
		return nil, err
	}
	f.receivers[0].TakeFrames()
	if _, _, err := f.send(ctx, run, 0); err != nil {
		return nil, err
	}
	// The last frames of an exchange come after the message itself.
	if err := f.quiet(ctx); err != nil {
		return nil, err
	}
	return f.receivers[0].TakeFrames(), nil
}

// quiet waits until the first receiver has got nothing for a while.
func (f *Fanout) quiet(ctx context.Context) error {
	for before := int64(-1); ; {
		n, _ := f.receivers[0].Received()
		if n == before {
			return nil
		}
		before = n
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

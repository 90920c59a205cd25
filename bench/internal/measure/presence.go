package measure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/chappe-im/chappe/bench/internal/rawhttp"
	"github.com/chappe-im/chappe/bench/internal/receiver"
	"github.com/chappe-im/chappe/bench/internal/stats"
	"github.com/chappe-im/chappe/bench/internal/target"
)

// PresenceConfig sets up changes of one user's presence that many follow.
type PresenceConfig struct {
	Target *target.Target
	PID    int
	// Subscribers who are connected and follow the user.
	Subscribers int
	// ArrivalLimit is how long to wait for the notices of a change; 0 means a
	// minute.
	ArrivalLimit time.Duration
}

// Presence holds connected subscribers.
type Presence struct {
	cfg       PresenceConfig
	conn      *rawhttp.Conn
	requests  [2]rawhttp.Request
	receivers []*receiver.Receiver
	change    atomic.Pointer[change]
	changes   int
	// twice counts notices that told again what had been told.
	twice atomic.Int64
}

// change is a change of presence under way. Every subscriber must be told of
// it once.
type change struct {
	mark      []byte
	began     time.Time
	took      []atomic.Int64 // by subscriber, in nanoseconds
	remaining atomic.Int64
	done      chan struct{}
	// before is the mark of the change before this one, whose second notices
	// may come late.
	before []byte
}

// NewPresence registers the users, connects the subscribers and subscribes
// them. Close must be called.
func NewPresence(ctx context.Context, cfg PresenceConfig) (*Presence, error) {
	if cfg.Subscribers < 1 {
		return nil, errors.New("there must be a subscriber")
	}
	if cfg.ArrivalLimit <= 0 {
		cfg.ArrivalLimit = arrivalLimit
	}
	prefix := "b" + runID() + "-"
	user := prefix + "s"
	if _, err := cfg.Target.CreateUsers(ctx, []string{user}); err != nil {
		return nil, err
	}
	users := names(prefix+"f", cfg.Subscribers)
	tokens, err := cfg.Target.CreateUsers(ctx, users)
	if err != nil {
		return nil, err
	}
	p := &Presence{cfg: cfg, conn: rawhttp.New(cfg.Target.Host(), callTimeout)}
	for i := range p.requests {
		p.requests[i] = cfg.Target.Request(http.MethodPost, "users", user, "presence", "web", fmt.Sprint(100+i))
	}
	p.receivers, err = connect(ctx, cfg.Target, users, tokens, func(i int, c *receiver.Config) {
		c.OnNotice = func(payload []byte) { p.told(i, payload) }
	})
	if err == nil {
		err = cfg.Target.Subscribe(ctx, users, user)
	}
	if err == nil {
		// The first change is outside of every measurement.
		_, _, err = p.once(ctx)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Close ends all connections.
func (p *Presence) Close() {
	p.conn.Close()
	closeAll(p.receivers)
}

func (p *Presence) told(i int, payload []byte) {
	now := time.Now()
	c := p.change.Load()
	switch {
	case c == nil:
		return
	case !bytes.Contains(payload, c.mark):
		if bytes.Contains(payload, c.before) {
			p.twice.Add(1)
		}
		return
	case !c.took[i].CompareAndSwap(0, max(1, int64(now.Sub(c.began)))):
		p.twice.Add(1)
		return
	}
	if c.remaining.Add(-1) == 0 {
		close(c.done)
	}
}

// once makes one change and waits until all have been told.
func (p *Presence) once(ctx context.Context) (c *change, answer time.Duration, err error) {
	p.changes++
	mark := fmt.Sprintf("change-%d-", p.changes)
	c = &change{mark: []byte(mark), before: fmt.Appendf(nil, "change-%d-", p.changes-1), took: make([]atomic.Int64, len(p.receivers)), done: make(chan struct{})}
	c.remaining.Store(int64(len(p.receivers)))
	body := fmt.Appendf(nil, `{"ext":%q}`, mark)
	c.began = time.Now()
	p.change.Store(c)
	res, err := p.conn.Do(p.requests[p.changes%2], body)
	answer = time.Since(c.began)
	if err == nil && res.Status != http.StatusOK {
		err = fmt.Errorf("a change of presence was answered %d: %.300s", res.Status, res.Body)
	}
	if err != nil {
		return nil, 0, err
	}
	timeout := time.NewTimer(p.cfg.ArrivalLimit)
	defer timeout.Stop()
	select {
	case <-c.done:
		return c, answer, nil
	case <-timeout.C:
		return nil, 0, fmt.Errorf("%d of %d subscribers were not told of a change in time", c.remaining.Load(), len(p.receivers))
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
}

// Run measures once. An operation is a notice. Latency is that of the notices,
// from the first byte of the call that makes the change.
func (p *Presence) Run(ctx context.Context, rounds Rounds) (*Result, error) {
	m, err := startMeter(ctx, p.cfg.PID)
	if err != nil {
		return nil, err
	}
	var notices, lasts, answers stats.Histogram
	r := &Result{Name: rounds.Name, Unit: "notice"}
	twice := p.twice.Load()
	start := time.Now()
	var idle time.Duration
	for i := 0; (rounds.Count == 0 || i < rounds.Count) && (rounds.Duration == 0 || time.Since(start) < rounds.Duration); i++ {
		c, answer, err := p.once(ctx)
		if err != nil {
			return nil, err
		}
		answers.Record(answer)
		var last int64
		for j := range c.took {
			took := c.took[j].Load()
			notices.Record(time.Duration(took))
			last = max(last, took)
		}
		lasts.Record(time.Duration(last))
		r.Ops += int64(len(c.took))
		if rounds.Pause > 0 {
			time.Sleep(rounds.Pause)
			idle += rounds.Pause
		}
	}
	r.Seconds = (time.Since(start) - idle).Seconds()
	r.PerSecond = float64(r.Ops) / r.Seconds
	r.Latency, r.LastDelivery = latencyOf(&notices), latencyOf(&lasts)
	if err := m.answer(); err != nil {
		return nil, err
	}
	r.Extra = map[string]float64{"answer_p50_ms": ms(answers.Quantile(.5)), "notices_twice": float64(p.twice.Load() - twice)}
	return r, m.stop(ctx, r)
}

package measure

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/chappe-im/chappe/bench/internal/load"
	"github.com/chappe-im/chappe/bench/internal/rawhttp"
)

// loop says how a call is repeated.
type loop struct {
	name        string
	pid         int
	connections int
	duration    time.Duration
	count       int64
	warmup      time.Duration
}

// run measures a call that is repeated by several connections at once.
func (l loop) run(ctx context.Context, op load.Op) (*Result, error) {
	if l.warmup > 0 {
		if _, err := load.Run(ctx, load.Config{Workers: l.connections, Duration: l.warmup, Count: l.count}, op); err != nil {
			return nil, fmt.Errorf("warm-up: %w", err)
		}
	}
	m, err := startMeter(ctx, l.pid)
	if err != nil {
		return nil, err
	}
	done, err := load.Run(ctx, load.Config{Workers: l.connections, Duration: l.duration, Count: l.count}, op)
	if err != nil {
		return nil, err
	}
	if err := m.answer(); err != nil {
		return nil, err
	}
	r := &Result{Name: l.name, Unit: "call"}
	r.fill(done)
	return r, m.stop(ctx, r)
}

// dial opens connections to a server; hangUp closes them.
func dial(addr string, n int) (conns []*rawhttp.Conn, hangUp func(), err error) {
	hangUp = func() {
		for _, c := range conns {
			c.Close()
		}
	}
	for range n {
		c := rawhttp.New(addr, callTimeout)
		conns = append(conns, c)
		if err := c.Connect(); err != nil {
			hangUp()
			return nil, nil, err
		}
	}
	return conns, hangUp, nil
}

// answered counts a call that was answered with 200 as done.
func answered(what string, res rawhttp.Response, err error) (load.Outcome, error) {
	switch {
	case err != nil:
		return load.Failed, err
	case res.Limited():
		time.Sleep(min(max(res.RetryAfter, 10*time.Millisecond), time.Second))
		return load.Throttled, nil
	case res.Status != http.StatusOK:
		return load.Failed, fmt.Errorf("%s was answered %d: %.300s", what, res.Status, res.Body)
	}
	return load.Done, nil
}

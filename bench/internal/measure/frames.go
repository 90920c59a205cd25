package measure

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chappe-im/chappe/bench/internal/baseline"
	"github.com/chappe-im/chappe/bench/internal/rawhttp"
	"github.com/chappe-im/chappe/bench/internal/receiver"
	"github.com/chappe-im/chappe/bench/internal/stats"
)

// FramesConfig sets up the bare loop.
type FramesConfig struct {
	// Addr of the frames server.
	Addr string
	PID  int
	// Connections and how many of them one call writes to.
	Connections int
	Targets     int
}

// Frames holds connections to the frames server.
type Frames struct {
	cfg       FramesConfig
	receivers []*receiver.Receiver
	chunks    []*frameChunk
}

type frameChunk struct {
	first, end int
	conn       *rawhttp.Conn
	call       atomic.Pointer[call]
}

// NewFrames connects. Close must be called.
func NewFrames(ctx context.Context, cfg FramesConfig) (*Frames, error) {
	if cfg.Targets < 1 || cfg.Connections < cfg.Targets {
		return nil, errors.New("there must be as many connections as targets")
	}
	f := &Frames{cfg: cfg}
	for first := 0; first+cfg.Targets <= cfg.Connections; first += cfg.Targets {
		f.chunks = append(f.chunks, &frameChunk{first: first, end: first + cfg.Targets, conn: rawhttp.New(cfg.Addr, callTimeout)})
	}
	for i := range cfg.Connections {
		r, err := receiver.Attach(ctx, receiver.Config{
			URL: fmt.Sprintf("ws://%s/ws?n=%d", cfg.Addr, i), OnFrame: func() { f.arrived(i) },
		})
		if err != nil {
			f.Close()
			return nil, err
		}
		f.receivers = append(f.receivers, r)
	}
	if err := f.connected(ctx); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// connected waits until the server knows all connections: it takes note of
// one shortly after it has answered the upgrade.
func (f *Frames) connected(ctx context.Context) error {
	c := rawhttp.New(f.cfg.Addr, callTimeout)
	defer c.Close()
	req := rawhttp.NewRequest(http.MethodGet, &url.URL{Host: f.cfg.Addr, Path: "/count"}, nil)
	for ctx.Err() == nil {
		res, err := c.Do(req, nil)
		if err != nil {
			return err
		}
		if string(res.Body) == strconv.Itoa(f.cfg.Connections) {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return ctx.Err()
}

// Close ends all connections.
func (f *Frames) Close() {
	for _, c := range f.chunks {
		c.conn.Close()
	}
	closeAll(f.receivers)
}

func (f *Frames) arrived(i int) {
	n := i / f.cfg.Targets
	if n >= len(f.chunks) {
		return
	}
	if c := f.chunks[n].call.Load(); c != nil && c.remaining.Add(-1) == 0 {
		c.last = time.Now()
		close(c.done)
	}
}

// Run makes the bare loop write the frames to every connection of a round,
// with or without the client's answers in between, and waits for the last.
func (f *Frames) Run(ctx context.Context, rounds Rounds, frames [][]byte, exchange bool) (*Result, error) {
	if rounds.Calls < 1 || rounds.Calls > len(f.chunks) || len(frames) == 0 {
		return nil, errors.New("too few connections for the calls, or no frames")
	}
	for _, r := range f.receivers {
		r.SetMute(!exchange)
	}
	req := rawhttp.NewRequest(http.MethodPost, &url.URL{Host: f.cfg.Addr, Path: "/round"}, nil)
	bodies := make([][]byte, len(f.chunks))
	for n, c := range f.chunks {
		body, err := json.Marshal(baseline.Round{First: c.first, End: c.end, Frames: frames, Exchange: exchange})
		if err != nil {
			return nil, err
		}
		bodies[n] = body
	}
	send := func(n int) (time.Duration, error) {
		c := f.chunks[n]
		now := &call{done: make(chan struct{})}
		now.remaining.Store(int32((c.end - c.first) * len(frames)))
		c.call.Store(now)
		start := time.Now()
		res, err := c.conn.Do(req, bodies[n])
		if err == nil && !bytes.Equal(res.Body, []byte("ok")) {
			err = fmt.Errorf("frames server: %s", res.Body)
		}
		if err != nil {
			return 0, err
		}
		timeout := time.NewTimer(arrivalLimit)
		defer timeout.Stop()
		select {
		case <-now.done:
			return now.last.Sub(start), nil
		case <-timeout.C:
			return 0, fmt.Errorf("bare loop: %w", errMissing)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	for n := range f.chunks {
		if _, err := send(n); err != nil {
			return nil, err
		}
	}
	m, err := startMeter(ctx, f.cfg.PID)
	if err != nil {
		return nil, err
	}
	var lasts stats.Histogram
	r := &Result{Name: rounds.Name, Unit: "delivery"}
	start := time.Now()
	var idle time.Duration
	next := 0
	for i := 0; (rounds.Count == 0 || i < rounds.Count) && (rounds.Duration == 0 || time.Since(start) < rounds.Duration); i++ {
		var wg sync.WaitGroup
		took := make([]time.Duration, rounds.Calls)
		errs := make([]error, rounds.Calls)
		for j := range rounds.Calls {
			n := (next + j) % len(f.chunks)
			wg.Go(func() { took[j], errs[j] = send(n) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		for _, t := range took {
			lasts.Record(t)
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
	r.LastDelivery = latencyOf(&lasts)
	if err := m.answer(); err != nil {
		return nil, err
	}
	return r, m.stop(ctx, r)
}

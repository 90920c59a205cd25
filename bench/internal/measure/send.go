package measure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chappe-im/chappe/bench/internal/check"
	"github.com/chappe-im/chappe/bench/internal/load"
	"github.com/chappe-im/chappe/bench/internal/rawhttp"
	"github.com/chappe-im/chappe/bench/internal/receiver"
	"github.com/chappe-im/chappe/bench/internal/target"
)

const (
	callTimeout = 30 * time.Second
	// perRecipient bounds the messages to one offline user in one run: the
	// server keeps the newest 500 for each.
	perRecipient = 400
	// loginWorkers bounds logins under way.
	loginWorkers = 16
	// arrivalLimit bounds the wait for messages after the last answer.
	arrivalLimit = time.Minute
)

// SendConfig sets up sends to one user each.
type SendConfig struct {
	Target *target.Target
	// PID of the server; 0 if not known.
	PID         int
	Connections int
	// Duration and Count end a run, whichever is first.
	Duration time.Duration
	Count    int64
	Warmup   time.Duration
	// Recipients over all connections; each is written to by one of them.
	Recipients int
	// Online connects the recipients before; otherwise they log in afterwards
	// and fetch what has come.
	Online bool
	// TextBytes is the length of a text.
	TextBytes int
	// ArrivalLimit is how long to wait for a message after the last answer
	// before it counts as lost; 0 means a minute.
	ArrivalLimit time.Duration
}

// Send measures REST sends to one user each. It can be run again and again
// with the same users.
type Send struct {
	cfg      SendConfig
	req      rawhttp.Request
	users    []string
	tokens   []string
	online   []*receiver.Receiver
	tracker  *check.Tracker
	run      string
	workers  []*sendWorker
	trackers sync.RWMutex
}

type sendWorker struct {
	conn  *rawhttp.Conn
	from  string
	first int   // its first recipient
	seqs  []int // last number used for each of its recipients
	text  []byte
	body  []byte
}

// NewSend registers the users. Close must be called.
func NewSend(ctx context.Context, cfg SendConfig) (*Send, error) {
	if cfg.Connections < 1 || cfg.Recipients < cfg.Connections {
		return nil, errors.New("there must be a connection, and a recipient for each")
	}
	if cfg.ArrivalLimit <= 0 {
		cfg.ArrivalLimit = arrivalLimit
	}
	per := cfg.Recipients / cfg.Connections
	cfg.Recipients = per * cfg.Connections
	s := &Send{cfg: cfg, req: cfg.Target.SendRequest()}
	prefix := "b" + runID() + "-"
	s.users = names(prefix+"r", cfg.Recipients)
	senders := names(prefix+"s", cfg.Connections)
	if _, err := cfg.Target.CreateUsers(ctx, senders); err != nil {
		return nil, err
	}
	var err error
	if s.tokens, err = cfg.Target.CreateUsers(ctx, s.users); err != nil {
		return nil, err
	}
	for w := range cfg.Connections {
		s.workers = append(s.workers, &sendWorker{
			conn: rawhttp.New(cfg.Target.Host(), callTimeout), from: senders[w], first: w * per, seqs: make([]int, per),
		})
	}
	if cfg.Online {
		s.online = make([]*receiver.Receiver, len(s.users))
		if err := s.connect(ctx, func(i int, r *receiver.Receiver) error { s.online[i] = r; return nil }); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// connect logs every recipient in and hands the connection over.
func (s *Send) connect(ctx context.Context, use func(i int, r *receiver.Receiver) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(loginWorkers)
	for i, user := range s.users {
		g.Go(func() error {
			r, err := receiver.Login(ctx, receiver.Config{
				URL: s.cfg.Target.WS(), AppKey: s.cfg.Target.AppKey(), User: user, Token: s.tokens[i],
				OnText: func(_, text []byte) { s.arrived(i, string(text)) },
			})
			if err != nil {
				return err
			}
			return use(i, r)
		})
	}
	return g.Wait()
}

func (s *Send) arrived(i int, text string) {
	s.trackers.RLock()
	t := s.tracker
	s.trackers.RUnlock()
	if t != nil {
		t.Arrived(i, text)
	}
}

// Close ends all connections.
func (s *Send) Close() {
	for _, w := range s.workers {
		w.conn.Close()
	}
	for _, r := range s.online {
		if r != nil {
			r.Close()
		}
	}
}

// Run measures once.
func (s *Send) Run(ctx context.Context) (*Result, error) {
	s.trackers.Lock()
	s.run = runID()
	s.tracker = check.NewTracker(s.run, len(s.users))
	s.trackers.Unlock()
	for _, w := range s.workers {
		clear(w.seqs)
		if err := w.conn.Connect(); err != nil {
			return nil, err
		}
	}
	count := s.cfg.Count
	if most := int64(len(s.users) * perRecipient / 2); !s.cfg.Online && (count == 0 || count > most) {
		count = most
	}
	if s.cfg.Warmup > 0 {
		if _, err := load.Run(ctx, load.Config{Workers: len(s.workers), Duration: s.cfg.Warmup, Count: count}, s.op); err != nil {
			return nil, fmt.Errorf("warm-up: %w", err)
		}
	}
	m, err := startMeter(ctx, s.cfg.PID)
	if err != nil {
		return nil, err
	}
	l, err := load.Run(ctx, load.Config{Workers: len(s.workers), Duration: s.cfg.Duration, Count: count}, s.op)
	if err != nil {
		return nil, err
	}
	if err := m.answer(); err != nil {
		return nil, err
	}
	r := &Result{Name: "send", Unit: "send"}
	r.fill(l)
	if s.cfg.Online {
		s.await(ctx)
	}
	if err := m.stop(ctx, r); err != nil {
		return nil, err
	}
	if !s.cfg.Online {
		if err := s.fetch(ctx); err != nil {
			return nil, err
		}
	}
	report := s.tracker.Report()
	r.Check = &report
	return r, nil
}

// op sends one message to the worker's next recipient.
func (s *Send) op(_ context.Context, worker, n int) (load.Outcome, error) {
	w := s.workers[worker]
	i := n % len(w.seqs)
	conv, seq := w.first+i, w.seqs[i]+1
	w.text = check.Tag{Run: s.run, Conversation: conv, Seq: seq}.AppendTo(w.text[:0])
	w.text = pad(w.text, s.cfg.TextBytes)
	w.body = target.AppendTextBody(w.body[:0], w.from, s.users[conv:conv+1], w.text)
	s.tracker.Tried(conv, seq)
	res, err := w.conn.Do(s.req, w.body)
	switch {
	case err != nil:
		w.seqs[i] = seq
		return load.Failed, err
	case res.Status == http.StatusOK:
		w.seqs[i] = seq
		s.tracker.Accepted(conv, seq)
		return load.Done, nil
	case res.Limited():
		s.tracker.Refused(conv, seq)
		time.Sleep(min(max(res.RetryAfter, 10*time.Millisecond), time.Second))
		return load.Throttled, nil
	case res.Status < http.StatusInternalServerError:
		s.tracker.Refused(conv, seq)
	default: // it may have been taken
		w.seqs[i] = seq
	}
	return load.Failed, fmt.Errorf("send was answered %d: %.300s", res.Status, res.Body)
}

// await waits until everything has arrived, or for the configured limit.
func (s *Send) await(ctx context.Context) {
	deadline := time.Now().Add(s.cfg.ArrivalLimit)
	for s.tracker.Pending() > 0 && time.Now().Before(deadline) && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
}

// fetch logs every recipient in and takes what has come.
func (s *Send) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	return s.connect(ctx, func(i int, r *receiver.Receiver) error {
		defer r.Close()
		select {
		case <-r.Synced():
		case <-r.Done():
			return fmt.Errorf("fetching for %s: %w", s.users[i], r.Err())
		case <-ctx.Done():
			return ctx.Err()
		}
		// What the archive had not taken yet comes by notice.
		deadline := time.Now().Add(s.cfg.ArrivalLimit)
		for s.tracker.PendingOf(i) > 0 && time.Now().Before(deadline) && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	})
}

// HTTPConfig sets up the same load against a plain server.
type HTTPConfig struct {
	Name string
	// Addr is host:port of the server.
	Addr        string
	PID         int
	Connections int
	Duration    time.Duration
	Count       int64
	Warmup      time.Duration
	TextBytes   int
}

// HTTP measures a plain server with the bodies that Send sends.
func HTTP(ctx context.Context, cfg HTTPConfig) (*Result, error) {
	conns, hangUp, err := dial(cfg.Addr, cfg.Connections)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	type buffers struct{ text, body []byte }
	workers := make([]buffers, cfg.Connections)
	req := rawhttp.NewRequest(http.MethodPost, &url.URL{Host: cfg.Addr, Path: "/bench/load/messages/users"}, map[string]string{
		"Content-Type": "application/json",
		// As long as a token, so that as many bytes are read.
		"Authorization": "Bearer " + string(pad(nil, 160)),
	})
	run := runID()
	to := []string{"b" + run + "-r100"}
	l := loop{name: cfg.Name, pid: cfg.PID, connections: cfg.Connections, duration: cfg.Duration, count: cfg.Count, warmup: cfg.Warmup}
	return l.run(ctx, func(_ context.Context, i, n int) (load.Outcome, error) {
		w := &workers[i]
		w.text = pad(check.Tag{Run: run, Conversation: i, Seq: n + 1}.AppendTo(w.text[:0]), cfg.TextBytes)
		w.body = target.AppendTextBody(w.body[:0], "b"+run+"-s10", to, w.text)
		res, err := conns[i].Do(req, w.body)
		return answered(cfg.Name, res, err)
	})
}

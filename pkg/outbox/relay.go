package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	"github.com/chappe-im/chappe/pkg/store"
)

const (
	// batchSize bounds what one round reads and publishes.
	batchSize = 256
	// publishTimeout bounds the wait for a round's acknowledgements.
	publishTimeout = 5 * time.Second
	// minBackoff and maxBackoff bound the wait after a failed round.
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
	// defaultPoll is how often the relay looks for what another instance left
	// behind.
	defaultPoll = 2 * time.Second
)

// Publisher is the way to NATS.
type Publisher interface {
	PublishAsync(subject string, data []byte, msgID string) (natsx.PubAckFuture, error)
	Publish(subject string, data []byte) error
	Flush(ctx context.Context) error
}

// Config sets up a relay.
type Config struct {
	// Service names the relay's metrics.
	Service    string
	DB         *store.DB
	Publisher  Publisher
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Poll is how often to look without being told to; 0 means 2 s.
	Poll time.Duration
}

// Relay publishes the rows of an outbox in order. Of several relays on one
// PostgreSQL schema one works at a time.
type Relay struct {
	cfg       Config
	kick      chan struct{}
	flush     chan chan error
	published prometheus.Counter
	failed    prometheus.Counter

	mu      sync.Mutex
	cancel  context.CancelFunc
	stopped chan struct{}
}

// ErrStopped tells a flush that the relay is not running.
var ErrStopped = errors.New("outbox: relay is not running")

// NewRelay makes a relay that does nothing until Start.
func NewRelay(cfg Config) (*Relay, error) {
	if cfg.Poll <= 0 {
		cfg.Poll = defaultPoll
	}
	r := &Relay{
		cfg:   cfg,
		kick:  make(chan struct{}, 1),
		flush: make(chan chan error),
		published: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_" + cfg.Service + "_outbox_published_total", Help: "Messages published from the outbox.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_" + cfg.Service + "_outbox_failures_total", Help: "Rounds of the outbox relay that failed and were put off.",
		}),
	}
	return r, obs.Register(cfg.Registerer, "the outbox", r.published, r.failed)
}

// Start lets the relay publish, beginning with what an earlier run left.
func (r *Relay) Start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.stopped = cancel, make(chan struct{})
	go func(stopped chan struct{}) {
		defer close(stopped)
		r.run(ctx)
	}(r.stopped)
}

// Stop ends the relay after a last round, or when ctx ends, and waits for it.
// Rows that remain are published by the next run.
func (r *Relay) Stop(ctx context.Context) error {
	_ = r.Flush(ctx)
	r.mu.Lock()
	cancel, stopped := r.cancel, r.stopped
	r.cancel = nil
	r.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	<-stopped
	return nil
}

// Kick tells the relay that a transaction with messages has committed.
func (r *Relay) Kick() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// Flush returns when all that was committed before the call is published, or
// with the reason why it is not yet. It will be, later: callers may go on.
func (r *Relay) Flush(ctx context.Context) error {
	r.mu.Lock()
	stopped, running := r.stopped, r.cancel != nil
	r.mu.Unlock()
	if !running {
		return ErrStopped
	}
	answer := make(chan error, 1)
	select {
	case r.flush <- answer:
	case <-stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Relay) run(ctx context.Context) {
	backoff := time.Duration(0)
	timer := time.NewTimer(0) // the first round at once
	defer timer.Stop()
	for {
		var waiting []chan error
		kick := r.kick
		if backoff > 0 {
			kick = nil // a failing round is not repeated by new work, only by time or a flush
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-kick:
		case w := <-r.flush:
			waiting = append(waiting, w)
		}
		waiting = r.moreFlushes(waiting)
		err := r.drain(ctx)
		for _, w := range waiting {
			w <- err
		}
		wait := r.cfg.Poll
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			r.failed.Inc()
			if backoff == 0 {
				r.cfg.Logger.Warn("outbox is not published, will be later", obs.KeyService, r.cfg.Service, obs.KeyError, err.Error())
			}
			backoff = min(max(2*backoff, minBackoff), maxBackoff)
			wait = backoff
		} else {
			backoff = 0
		}
		timer.Reset(wait)
	}
}

// moreFlushes takes in the flushes that one round can serve with the first.
func (r *Relay) moreFlushes(waiting []chan error) []chan error {
	for len(waiting) < 1024 {
		select {
		case w := <-r.flush:
			waiting = append(waiting, w)
		default:
			return waiting
		}
	}
	return waiting
}

// drain publishes until the outbox is empty.
func (r *Relay) drain(ctx context.Context) error {
	for {
		n, err := r.round(ctx)
		if err != nil {
			return err
		}
		if n < batchSize {
			return nil
		}
	}
}

// round publishes one batch and tells how many rows it had.
func (r *Relay) round(ctx context.Context) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*publishTimeout)
	defer cancel()
	var some int
	if found, err := store.Row(ctx, r.cfg.DB.Read(), `SELECT 1 FROM outbox LIMIT 1`, nil, &some); err != nil || !found {
		return 0, err
	}
	if r.cfg.DB.Dialect() == store.SQLite {
		// One process owns the file, and one relay its outbox: no lock is needed,
		// and writers must not wait while NATS answers.
		rows, err := load(ctx, r.cfg.DB.Read())
		if err != nil {
			return 0, err
		}
		done, perr := r.publish(ctx, rows)
		err = r.cfg.DB.Write(ctx, func(tx *sql.Tx) error { return remove(ctx, tx, rows[:done]) })
		return len(rows), errors.Join(perr, err)
	}
	var perr error
	err = r.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		// The relays of other instances wait here, so that order holds between
		// them too. 7077 sets this lock apart from other uses of the database.
		if _, err := store.Exec(ctx, tx, `SELECT pg_advisory_xact_lock(7077, hashtext(current_schema()))`); err != nil {
			return err
		}
		rows, err := load(ctx, tx)
		if err != nil {
			return err
		}
		var done int
		n = len(rows)
		done, perr = r.publish(ctx, rows)
		return remove(ctx, tx, rows[:done])
	})
	return n, errors.Join(perr, err)
}

type row struct {
	id int64
	Message
}

func load(ctx context.Context, q store.Querier) (rows []row, err error) {
	err = store.Each(ctx, q, `SELECT id, subject, data, msg_id, live FROM outbox ORDER BY id LIMIT $1`, []any{batchSize},
		func(s store.Scanner) error {
			var x row
			if err := s.Scan(&x.id, &x.Subject, &x.Data, &x.ID, &x.Live); err != nil {
				return err
			}
			rows = append(rows, x)
			return nil
		})
	return rows, err
}

// publish sends rows in order and tells how many of the first ones arrived.
// Only these may be removed: what follows a failed one goes out again after
// it, and the streams recognize what they have.
func (r *Relay) publish(ctx context.Context, rows []row) (done int, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	acks := make([]natsx.PubAckFuture, 0, len(rows))
	live := false
	for _, x := range rows {
		var ack natsx.PubAckFuture
		if x.Live {
			live = true
			err = r.cfg.Publisher.Publish(x.Subject, x.Data)
		} else {
			ack, err = r.cfg.Publisher.PublishAsync(x.Subject, x.Data, x.ID)
		}
		if err != nil {
			break
		}
		acks = append(acks, ack)
	}
	if live {
		if ferr := r.cfg.Publisher.Flush(ctx); ferr != nil {
			return 0, ferr
		}
	}
	for i, ack := range acks {
		if ack == nil {
			continue
		}
		if aerr := natsx.Await(ctx, ack); aerr != nil {
			acks, err = acks[:i], fmt.Errorf("%s: %w", rows[i].Subject, aerr)
			break
		}
	}
	r.published.Add(float64(len(acks)))
	return len(acks), err
}

func remove(ctx context.Context, tx *sql.Tx, rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	ids := make([]any, len(rows))
	for i, x := range rows {
		ids[i] = x.id
	}
	_, err := store.Exec(ctx, tx, `DELETE FROM outbox WHERE id IN (`+store.In(1, len(ids))+`)`, ids...)
	return err
}

// Pending returns how many messages wait.
func (r *Relay) Pending(ctx context.Context) (n int64, err error) {
	_, err = store.Row(ctx, r.cfg.DB.Read(), `SELECT COUNT(*) FROM outbox`, nil, &n)
	return n, err
}

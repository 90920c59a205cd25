package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/outbox"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// bench is a database with an outbox, a NATS server with a stream, and what
// that stream has taken.
type bench struct {
	db   *store.DB
	conn *natsx.Conn
}

func each(t *testing.T, f func(t *testing.T, b *bench)) {
	testkit.EachDatabase(t, "outbox", nil, func(t *testing.T, db *store.DB) {
		require.NoError(t, db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), outbox.Schema(db.Dialect()))
			return err
		}))
		b := &bench{db: db, conn: testkit.NATS(t)}
		require.NoError(t, b.conn.EnsureStream(t.Context(), natsx.StreamSpec{
			Name: "S", Subjects: []string{"s.>"}, DuplicateWindow: 2 * time.Minute,
		}))
		f(t, b)
	})
}

func (b *bench) relay(t *testing.T, p outbox.Publisher) *outbox.Relay {
	if p == nil {
		p = b.conn
	}
	t.Helper()
	r, err := outbox.NewRelay(outbox.Config{
		Service: "test", DB: b.db, Publisher: p, Logger: testkit.Logger(t),
		Registerer: prometheus.NewRegistry(), Poll: 20 * time.Millisecond,
	})
	require.NoError(t, err)
	return r
}

func (b *bench) started(t *testing.T, p outbox.Publisher) *outbox.Relay {
	r := b.relay(t, p)
	r.Start()
	t.Cleanup(func() { stop(t, r) })
	return r
}

func stop(t *testing.T, r *outbox.Relay) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(t, r.Stop(ctx))
}

func (b *bench) add(t *testing.T, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		require.NoError(t, b.db.Write(t.Context(), func(tx *sql.Tx) error {
			return outbox.Add(t.Context(), tx, outbox.Message{Subject: "s.x", Data: []byte(fmt.Sprint(i))})
		}))
	}
}

// stored gives the stream's messages.
func (b *bench) stored(t *testing.T) []string {
	t.Helper()
	s, err := b.conn.JetStream().Stream(t.Context(), "S")
	require.NoError(t, err)
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	var out []string
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && info.State.Msgs > 0; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		require.NoError(t, err)
		out = append(out, string(m.Data))
	}
	return out
}

func numbers(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(i)
	}
	return out
}

func TestMessagesAreStoredOnceInOrder(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		r := b.started(t, nil)
		b.add(t, 0, 20)
		require.NoError(t, r.Flush(t.Context()))
		require.Equal(t, numbers(20), b.stored(t))
		n, err := r.Pending(t.Context())
		require.NoError(t, err)
		require.Zero(t, n)
		b.add(t, 20, 25)
		r.Kick()
		require.Eventually(t, func() bool { return len(b.stored(t)) == 25 }, 10*time.Second, 5*time.Millisecond)
		require.Equal(t, numbers(25), b.stored(t))
	})
}

func TestMoreThanARoundAndMessagesLeftByACrash(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		require.NoError(t, b.db.Write(t.Context(), func(tx *sql.Tx) error {
			for i := range 700 {
				if err := outbox.Add(t.Context(), tx, outbox.Message{Subject: "s.x", Data: []byte(fmt.Sprint(i))}); err != nil {
					return err
				}
			}
			return nil
		}))
		r := b.started(t, nil) // nobody kicks it: the rows are from an earlier life
		require.NoError(t, r.Flush(t.Context()))
		require.Equal(t, numbers(700), b.stored(t))
	})
}

func TestRolledBackMessagesAreNotPublished(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		r := b.started(t, nil)
		require.Error(t, b.db.Write(t.Context(), func(tx *sql.Tx) error {
			require.NoError(t, outbox.Add(t.Context(), tx, outbox.Message{Subject: "s.x", Data: []byte("no")}))
			return errors.New("changed my mind")
		}))
		require.NoError(t, r.Flush(t.Context()))
		require.Empty(t, b.stored(t))
	})
}

func TestLiveMessagesReachListenersOnly(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		got := make(chan *natsx.Msg, 4)
		sub, err := b.conn.SubscribeChan("dn.x", got)
		require.NoError(t, err)
		defer func() { _ = sub.Unsubscribe() }()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		require.NoError(t, b.conn.Flush(ctx))
		r := b.started(t, nil)
		require.NoError(t, b.db.Write(t.Context(), func(tx *sql.Tx) error {
			return outbox.Add(t.Context(), tx,
				outbox.Message{Subject: "dn.x", Data: []byte("heard"), Live: true},
				outbox.Message{Subject: "dn.nobody", Live: true})
		}))
		require.NoError(t, r.Flush(t.Context()))
		require.Equal(t, "heard", string((<-got).Data))
	})
}

// flaky fails a publish now and then, before or after it took place.
type flaky struct {
	*natsx.Conn
	calls atomic.Int64
	lose  func(call int64) (before, after bool)
}

func (f *flaky) PublishAsync(subject string, data []byte, id string) (natsx.PubAckFuture, error) {
	before, after := f.lose(f.calls.Add(1))
	if before {
		return nil, errors.New("lost on the way")
	}
	ack, err := f.Conn.PublishAsync(subject, data, id)
	if after {
		return nil, errors.New("answer lost")
	}
	return ack, err
}

func TestFailuresDelayAndRepeatButNeitherLoseNorDouble(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.add(t, 0, 60)
		p := &flaky{Conn: b.conn, lose: func(n int64) (bool, bool) { return n%17 == 0, n%13 == 0 }}
		r := b.relay(t, p)
		r.Start()
		t.Cleanup(func() { stop(t, r) })
		require.Eventually(t, func() bool {
			_ = r.Flush(t.Context())
			n, err := r.Pending(t.Context())
			return err == nil && n == 0
		}, 20*time.Second, time.Millisecond)
		require.Equal(t, numbers(60), b.stored(t))
	})
}

func TestFlushTellsOfFailure(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		r := b.relay(t, &flaky{Conn: b.conn, lose: func(int64) (bool, bool) { return true, false }})
		require.ErrorIs(t, r.Flush(t.Context()), outbox.ErrStopped)
		r.Start()
		b.add(t, 0, 1)
		require.Error(t, r.Flush(t.Context()))
		stop(t, r)
		stop(t, r)
		require.ErrorIs(t, r.Flush(t.Context()), outbox.ErrStopped)
		require.Empty(t, b.stored(t))
		again := b.started(t, nil)
		require.NoError(t, again.Flush(t.Context()))
		require.Equal(t, numbers(1), b.stored(t))
	})
}

func TestTwoRelaysAndManyWriters(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		relays := []*outbox.Relay{b.started(t, nil), b.started(t, nil)}
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 10 {
					err := b.db.Write(t.Context(), func(tx *sql.Tx) error {
						return outbox.Add(t.Context(), tx, outbox.Message{Subject: "s.x", Data: fmt.Appendf(nil, "%d/%d", w, i)})
					})
					if err != nil {
						t.Error(err)
					}
					relays[i%2].Kick()
				}
			})
		}
		wg.Wait()
		require.NoError(t, relays[0].Flush(t.Context()))
		got := b.stored(t)
		require.Len(t, got, 80)
		next := map[string]int{}
		for _, s := range got {
			var w, i int
			_, err := fmt.Sscanf(s, "%d/%d", &w, &i)
			require.NoError(t, err)
			require.Equal(t, next[fmt.Sprint(w)], i, "writer %d", w)
			next[fmt.Sprint(w)]++
		}
	})
}

func TestTooLargeMessagesAreRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		require.Error(t, b.db.Write(t.Context(), func(tx *sql.Tx) error {
			return outbox.Add(t.Context(), tx, outbox.Message{Subject: "s.x", Data: make([]byte, outbox.MaxDataBytes+1)})
		}))
	})
}

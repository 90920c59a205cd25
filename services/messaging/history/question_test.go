package history

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whoever asks is answered by a question that was put after that, and those who
// come while one is under way share the next.
func TestQuestionsAreShared(t *testing.T) {
	t.Parallel()
	var asked atomic.Uint64
	begun, go1 := make(chan struct{}, 100), make(chan struct{})
	q := question{ask: func(context.Context) (uint64, error) {
		n := asked.Add(1)
		begun <- struct{}{}
		<-go1
		return n, nil
	}}
	first := make(chan uint64, 1)
	go func() {
		v, _ := q.get(t.Context())
		first <- v
	}()
	<-begun // the first question is under way
	const more = 50
	var values [more]uint64
	var all sync.WaitGroup
	for i := range values {
		all.Go(func() { values[i], _ = q.get(t.Context()) })
	}
	require.Eventually(t, func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.next != nil
	}, 5*time.Second, time.Millisecond)
	close(go1)
	all.Wait()
	require.EqualValues(t, 1, <-first)
	for _, v := range values {
		require.Greater(t, v, uint64(1), "not by the question that was under way before")
	}
	require.Less(t, asked.Load(), uint64(more), "most share one")

	q.stop()
	_, err := q.get(t.Context())
	require.Error(t, err)
}

// A question that hangs is given up when its owner stops, and an asker does not
// wait longer than it wants to.
func TestQuestionsEnd(t *testing.T) {
	t.Parallel()
	q := question{ask: func(ctx context.Context) (uint64, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := q.get(gone)
	require.Error(t, err)
	failed := make(chan error, 1)
	go func() {
		_, err := q.get(t.Context())
		failed <- err
	}()
	require.Eventually(t, func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.next != nil
	}, 5*time.Second, time.Millisecond)
	q.stop()
	require.ErrorIs(t, <-failed, context.Canceled)
}

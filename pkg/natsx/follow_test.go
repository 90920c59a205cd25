package natsx_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/testkit"
)

// TestFollowTakesUpWhatADeadProcessWasAt has a message taken by somebody who
// never says anything of it: the ones after it wait, and come in order.
func TestFollowTakesUpWhatADeadProcessWasAt(t *testing.T) {
	t.Parallel()
	conn := testkit.NATS(t)
	require.NoError(t, conn.EnsureStream(t.Context(), natsx.StreamSpec{Name: "EV", Subjects: []string{"ev.>"}}))
	for _, text := range []string{"1", "2", "3"} {
		require.NoError(t, conn.PublishStored(t.Context(), "ev.a", []byte(text), ""))
	}
	c, err := conn.FollowConsumer(t.Context(), "EV", "mine", "ev.*")
	require.NoError(t, err)
	m, err := natsx.NextWork(c, 10*time.Second)
	require.NoError(t, err)
	require.Equal(t, "1", string(m.Data()))

	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second) // others would wait 30 s
	defer cancel()
	var got []string
	failed := false
	err = natsx.Follow(ctx, c, func(_ context.Context, m natsx.StreamMsg) error {
		if string(m.Data()) == "2" && !failed {
			failed = true
			return errors.New("not now")
		}
		got = append(got, string(m.Data()))
		if len(got) == 3 {
			cancel()
		}
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []string{"1", "2", "3"}, got)
}

// TestFollowHoldsWhatTakesLong has a message whose handling takes longer than
// the stream waits for word of it: it does not come again.
func TestFollowHoldsWhatTakesLong(t *testing.T) {
	t.Parallel()
	conn := testkit.NATS(t)
	require.NoError(t, conn.EnsureStream(t.Context(), natsx.StreamSpec{Name: "EV", Subjects: []string{"ev.>"}}))
	require.NoError(t, conn.PublishStored(t.Context(), "ev.a", []byte("slow"), ""))
	require.NoError(t, conn.PublishStored(t.Context(), "ev.a", []byte("last"), ""))
	c, err := conn.FollowConsumer(t.Context(), "EV", "mine", "ev.*")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	err = natsx.Follow(ctx, c, func(_ context.Context, m natsx.StreamMsg) error {
		got = append(got, string(m.Data()))
		if string(m.Data()) == "last" {
			cancel()
			return nil
		}
		<-time.After(5 * time.Second) // the work
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []string{"slow", "last"}, got)
}

// TestFollowStreamWaitsForItsStream begins before the stream is there, and goes
// on after its consumer was deleted.
func TestFollowStreamWaitsForItsStream(t *testing.T) {
	t.Parallel()
	conn := testkit.NATS(t)
	ctx, cancel := context.WithCancel(t.Context())
	got, ended := make(chan string, 8), make(chan struct{})
	go func() {
		defer close(ended)
		conn.FollowStream(ctx, "EV", "mine", "ev.*", func(_ context.Context, m natsx.StreamMsg) error {
			got <- string(m.Data())
			return nil
		})
	}()
	require.NoError(t, conn.EnsureStream(t.Context(), natsx.StreamSpec{Name: "EV", Subjects: []string{"ev.>"}}))
	require.NoError(t, conn.PublishStored(t.Context(), "ev.a", []byte("1"), ""))
	require.Equal(t, "1", <-got)
	require.NoError(t, conn.DeleteConsumer(t.Context(), "EV", "mine"))
	require.NoError(t, conn.PublishStored(t.Context(), "ev.a", []byte("2"), ""))
	require.Eventually(t, func() bool { // the consumer begins anew
		select {
		case m := <-got:
			return m == "2"
		default:
			return false
		}
	}, 30*time.Second, 5*time.Millisecond)
	cancel()
	<-ended
}

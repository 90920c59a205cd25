package load

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRunCount(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	r, err := Run(t.Context(), Config{Workers: 4, Count: 1000}, func(_ context.Context, worker, n int) (Outcome, error) {
		switch calls.Add(1) % 10 {
		case 0:
			return Throttled, nil
		case 5:
			if n%2 == 0 && worker >= 0 {
				return Failed, errors.New("no luck")
			}
		}
		return Done, nil
	})
	if err != nil {
		require.ErrorIs(t, err, ErrTooManyErrors)
	}
	require.Equal(t, calls.Load(), r.Done+r.Throttled+r.Failed)
	require.EqualValues(t, r.Done, r.Latency.Count())
	require.LessOrEqual(t, calls.Load(), int64(1000))
	require.Positive(t, r.Rate())
}

func TestRunStopsOnErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	r, err := Run(t.Context(), Config{Workers: 2, Duration: time.Hour, MaxErrors: 5}, func(context.Context, int, int) (Outcome, error) {
		return Failed, broken
	})
	require.ErrorIs(t, err, ErrTooManyErrors)
	require.ErrorIs(t, err, broken)
	require.Less(t, r.Failed, int64(8))
}

func TestRunStopsWithContextAndDuration(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var n atomic.Int64
	_, err := Run(ctx, Config{Workers: 2, Duration: time.Hour}, func(context.Context, int, int) (Outcome, error) {
		if n.Add(1) == 10 {
			cancel()
		}
		return Done, nil
	})
	require.ErrorIs(t, err, context.Canceled)

	r, err := Run(t.Context(), Config{Workers: 2, Duration: time.Millisecond}, func(context.Context, int, int) (Outcome, error) {
		return Done, nil
	})
	require.NoError(t, err)
	require.Positive(t, r.Done)

	_, err = Run(t.Context(), Config{Workers: 1}, nil)
	require.Error(t, err, "a run without an end")
}

package session

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPace(t *testing.T) {
	t.Parallel()
	var p pace
	now := time.Now().UnixMicro()
	for range frameBurst {
		wait, ok := p.take(now)
		require.True(t, ok)
		require.Zero(t, wait)
	}
	wait, ok := p.take(now)
	require.True(t, ok)
	require.Equal(t, time.Second/framesPerSecond, wait, "what is too much waits")

	// A device that keeps to the rate is never held up, nor is it closed.
	p = pace{}
	for range 3 * framesPerSecond {
		now += int64(time.Second/time.Microsecond) / framesPerSecond
		wait, ok = p.take(now)
		require.True(t, ok)
		require.Zero(t, wait)
	}

	// One that always has the next frame ready is held up, and closed in the end.
	began := now
	for {
		wait, ok = p.take(now)
		if !ok {
			break
		}
		now += wait.Microseconds()
		require.Less(t, now-began, 2*frameGrace.Microseconds())
	}
	require.GreaterOrEqual(t, now-began, frameGrace.Microseconds())
}

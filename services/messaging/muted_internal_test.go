package messaging

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMutesEndToTheMillisecond(t *testing.T) {
	t.Parallel()
	until := time.UnixMilli(1700000000000)
	muted := recipient{mutedChat: until.UnixMilli()}
	require.True(t, muted.mutedAt(until.Add(-time.Millisecond)))
	require.False(t, muted.mutedAt(until))
	require.False(t, muted.mutedAt(until.Add(time.Millisecond)))
	require.True(t, recipient{mutedChat: -1}.mutedAt(until.AddDate(100, 0, 0)), "for ever")
	require.False(t, recipient{}.mutedAt(until), "never")
}

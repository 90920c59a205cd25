package partition

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/services/messaging/history"
)

// TestGateJudgesAcknowledgements opens a gate at offset 10 of epoch 2 and has
// publishes acknowledged.
func TestGateJudgesAcknowledgements(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		between   func(g *gates, times *uint64)
		offset    uint64
		duplicate bool
		refused   bool
		open      bool
	}{
		"an offset behind":                         {offset: 11, open: true},
		"far behind":                               {offset: 99, open: true},
		"an offset given out before":               {offset: 10, refused: true},
		"a repetition of an old one":               {offset: 3, duplicate: true, open: true},
		"others were acknowledged meanwhile":       {between: func(g *gates, _ *uint64) { g.archived(0, 2, 12) }, offset: 11, open: true},
		"the archive is further, of another epoch": {between: func(g *gates, _ *uint64) { g.archived(0, 1, 50) }, offset: 11, open: true},
		"the connection was made anew":             {between: func(_ *gates, times *uint64) { *times++ }, offset: 11, refused: true},
		"the gate was shut":                        {between: func(g *gates, _ *uint64) { g.closeFor(0, "test") }, offset: 11, refused: true},
		"a new epoch began": {between: func(g *gates, _ *uint64) {
			g.closeFor(0, "test")
			g.openFor(0, g.seen(0), history.Position{Epoch: 3, Offset: 5}, 7)
		}, offset: 11, refused: true, open: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			times := uint64(4)
			g := newGates(1, func() uint64 { return times })
			_, err := g.enter(0)
			require.Error(t, err, "nothing has been compared")
			require.True(t, g.openFor(0, g.seen(0), history.Position{Epoch: 2, Offset: 8}, 10))
			pass, err := g.enter(0)
			require.NoError(t, err)
			if c.between != nil {
				c.between(g, &times)
			}
			err = g.acknowledge(0, pass, c.offset, c.duplicate)
			require.Equal(t, c.refused, err != nil, "%v", err)
			_, err = g.enter(0)
			require.Equal(t, c.open, err == nil, "%v", err)
		})
	}
}

// TestGateStaysShutWhenSomethingChangedMeanwhile opens gates on what was seen
// before they were shut again.
func TestGateStaysShutWhenSomethingChangedMeanwhile(t *testing.T) {
	t.Parallel()
	times := uint64(1)
	g := newGates(1, func() uint64 { return times })
	at := history.Position{Epoch: 1}
	began := g.seen(0)
	times++
	require.False(t, g.openFor(0, began, at, 0), "the connection was made anew")
	require.True(t, g.openFor(0, g.seen(0), at, 0))
	began = g.seen(0)
	pass, err := g.enter(0)
	require.NoError(t, err)
	require.NoError(t, g.acknowledge(0, pass, 1, false))
	pass, err = g.enter(0)
	require.NoError(t, err)
	require.Error(t, g.acknowledge(0, pass, 1, false))
	require.False(t, g.openFor(0, began, at, 5), "the log has gone back since")
	require.NotEmpty(t, g.health().Refusing)
	seen := g.seen(0)
	require.False(t, seen.suspected.IsZero())
	require.EqualValues(t, 0, seen.rolledBack)
	require.True(t, g.openFor(0, seen, at, 5))
	require.True(t, g.seen(0).suspected.IsZero())
}

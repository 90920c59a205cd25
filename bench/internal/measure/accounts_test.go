package measure

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/bench/internal/load"
)

func TestReads(t *testing.T) {
	t.Parallel()
	_, tg := fakeTarget(t, nil)
	reads, err := NewReads(t.Context(), ReadsConfig{Target: tg, PID: quiet(t), Connections: 3, Count: 90, Users: 7})
	require.NoError(t, err)
	for _, kind := range []string{ReadUser, ReadAttributes, ReadStatus} {
		r, err := reads.Run(t.Context(), kind)
		require.NoError(t, err)
		require.EqualValues(t, 90, r.Ops)
		require.NotNil(t, r.Latency)
	}
	_, err = reads.Run(t.Context(), "nothing")
	require.Error(t, err)

	// Users whom the server does not know are no reads.
	_, other := fakeTarget(t, nil)
	reads.cfg.Target, reads.cfg.Count = other, 0
	reads.cfg.Duration = time.Minute
	_, err = reads.Run(t.Context(), ReadUser)
	require.ErrorIs(t, err, load.ErrTooManyErrors)
}

func TestToken(t *testing.T) {
	t.Parallel()
	_, tg := fakeTarget(t, nil)
	r, err := Token(t.Context(), TokenConfig{Target: tg, PID: quiet(t), Connections: 2, Count: 40, Users: 3})
	require.NoError(t, err)
	require.EqualValues(t, 40, r.Ops)
}

func TestPresence(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		notices int
		twice   float64
		fails   bool
	}{
		"all are told once": {notices: 1},
		"one is told twice": {notices: 2, twice: 3},
		"one is not told":   {fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changes := 0
			_, tg := fakeTarget(t, func(_ string, _ []string, text string) []string {
				if changes++; changes == 1 {
					return []string{text} // the one that shows that all are there
				}
				out := make([]string, tt.notices)
				for i := range out {
					out[i] = text
				}
				return out
			})
			p, err := NewPresence(t.Context(), PresenceConfig{Target: tg, PID: quiet(t), Subscribers: 5, ArrivalLimit: limitFor(map[bool]string{true: "loses one"}[tt.fails])})
			require.NoError(t, err)
			defer p.Close()
			r, err := p.Run(t.Context(), Rounds{Name: "presence", Count: 4})
			if tt.fails {
				require.ErrorContains(t, err, "1 of 5 subscribers were not told")
				return
			}
			require.NoError(t, err)
			require.EqualValues(t, 20, r.Ops)
			require.NotNil(t, r.Latency)
			// The second notice of the last change may come after the measurement.
			require.GreaterOrEqual(t, r.Extra["notices_twice"], tt.twice)
		})
	}
}

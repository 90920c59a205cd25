package check

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func text(conv, seq int) string {
	return string(Tag{Run: "r", Conversation: conv, Seq: seq}.AppendTo(nil)) + "padding"
}

func TestTag(t *testing.T) {
	t.Parallel()
	want := Tag{Run: "a7", Conversation: 12, Seq: 345}
	got, ok := Parse(string(want.AppendTo(nil)) + "xyz")
	require.True(t, ok)
	require.Equal(t, want, got)
	for _, bad := range []string{"", "hello", "cb1 ", "cb1 r 1 2", "cb1 r x 2 ", "cb1 r 1 0 ", "cb1 r -1 1 ", "cb2 r 1 1 "} {
		_, ok := Parse(bad)
		require.False(t, ok, "%q", bad)
	}
}

// step is one event of a conversation: a plus sends and is acknowledged, a
// minus sends with no clear answer, a star is refused, a number arrives.
func play(tr *Tracker, conv int, steps ...any) {
	seq := 0
	for _, s := range steps {
		switch v := s.(type) {
		case int:
			tr.Arrived(conv, text(conv, v))
		case string:
			for _, c := range v {
				seq++
				tr.Tried(conv, seq)
				switch c {
				case '+':
					tr.Accepted(conv, seq)
				case '*':
					tr.Refused(conv, seq)
					seq--
				}
			}
		}
	}
}

func TestTracker(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		steps []any
		want  Report
		ok    bool
	}{
		"all once and in order": {
			steps: []any{"+++", 1, 2, 3},
			want:  Report{Accepted: 3, Arrived: 3}, ok: true,
		},
		"arrival may overtake the acknowledgement": {
			steps: []any{"-", 1},
			want:  Report{Arrived: 1, Uncertain: 1}, ok: true,
		},
		"lost": {
			steps: []any{"+++", 1, 3},
			want:  Report{Accepted: 3, Arrived: 2, Lost: 1},
		},
		"all lost": {
			steps: []any{"++"},
			want:  Report{Accepted: 2, Lost: 2},
		},
		"duplicated": {
			steps: []any{"++", 1, 2, 2},
			want:  Report{Accepted: 2, Arrived: 2, Duplicated: 1},
		},
		"late duplicate is not a reordering": {
			steps: []any{"++", 1, 2, 1},
			want:  Report{Accepted: 2, Arrived: 2, Duplicated: 1},
		},
		"reordered": {
			steps: []any{"+++", 1, 3, 2},
			want:  Report{Accepted: 3, Arrived: 3, Reordered: 1},
		},
		"uncertain may stay away": {
			steps: []any{"+-+", 1, 3},
			want:  Report{Accepted: 2, Arrived: 2, Uncertain: 1}, ok: true,
		},
		"uncertain twice is a duplicate": {
			steps: []any{"-", 1, 1},
			want:  Report{Arrived: 1, Uncertain: 1, Duplicated: 1},
		},
		"refused number is used again": {
			steps: []any{"+*+", 1, 2},
			want:  Report{Accepted: 2, Arrived: 2}, ok: true,
		},
		"refused and yet there": {
			steps: []any{"+*", 1, 2},
			want:  Report{Accepted: 1, Arrived: 1, Foreign: 1},
		},
		"never sent": {
			steps: []any{"+", 1, 9},
			want:  Report{Accepted: 1, Arrived: 1, Foreign: 1},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := NewTracker("r", 2)
			play(tr, 1, tt.steps...)
			got := tr.Report()
			require.Equal(t, tt.want.Lost, tr.Pending())
			require.Equal(t, tt.want.Lost, tr.PendingOf(1))
			if !tt.ok {
				require.NotEmpty(t, got.Examples)
				require.Error(t, got.Err())
			} else {
				require.NoError(t, got.Err())
			}
			got.Examples = nil
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.ok, got.OK())
		})
	}
}

func TestForeignTexts(t *testing.T) {
	t.Parallel()
	tr := NewTracker("r", 2)
	tr.Accepted(0, 1)
	require.False(t, tr.Arrived(0, "hello"), "not of the tool")
	require.False(t, tr.Arrived(0, string(Tag{Run: "q", Conversation: 0, Seq: 1}.AppendTo(nil))), "of another run")
	require.False(t, tr.Arrived(0, text(1, 1)), "of another conversation")
	require.True(t, tr.Arrived(0, text(0, 1)))
	r := tr.Report()
	require.EqualValues(t, 3, r.Foreign)
	require.Error(t, r.Err())
}

func TestTrackerConcurrently(t *testing.T) {
	t.Parallel()
	const convs, each = 8, 2000
	tr := NewTracker("r", convs)
	var wg sync.WaitGroup
	for conv := range convs {
		arrivals := make(chan int, 16)
		wg.Go(func() {
			defer close(arrivals)
			for seq := 1; seq <= each; seq++ {
				tr.Tried(conv, seq)
				arrivals <- seq
				tr.Accepted(conv, seq)
			}
		})
		wg.Go(func() {
			for seq := range arrivals {
				tr.ArrivedSeq(conv, seq)
			}
		})
	}
	wg.Wait()
	r := tr.Report()
	require.NoError(t, r.Err())
	require.EqualValues(t, convs*each, r.Accepted)
	require.EqualValues(t, convs*each, r.Arrived)
}

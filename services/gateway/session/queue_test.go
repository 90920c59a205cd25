package session

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

var testLimits = queueLimits{tailEntries: 4, tailBytes: 1 << 10, pageEntries: 3, pageBytes: 1 << 10}

func seqs(entries []entry) []int64 {
	out := make([]int64, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.seq)
	}
	return out
}

var shown = []byte("meta")

func TestQueueOffer(t *testing.T) {
	t.Parallel()
	type offer struct {
		seq  int64
		meta []byte
	}
	for name, c := range map[string]struct {
		confirmed             int64
		offers                []offer
		wantConfirmed         int64
		wantTailFrom          int64
		wantLast              int64
		wantTail              []int64
		wantPending, inArcive bool
	}{
		"next in line":             {0, []offer{{1, shown}, {2, shown}}, 0, 0, 2, []int64{1, 2}, true, false},
		"own entries are passed":   {0, []offer{{1, nil}, {2, nil}}, 2, 2, 2, nil, false, false},
		"own entry between":        {0, []offer{{1, shown}, {2, nil}, {3, shown}}, 0, 0, 3, []int64{1, 3}, true, false},
		"own entry first":          {0, []offer{{1, nil}, {2, shown}}, 1, 1, 2, []int64{2}, true, false},
		"gap":                      {3, []offer{{5, shown}}, 3, 4, 5, []int64{5}, true, true},
		"gap after a tail":         {3, []offer{{4, shown}, {6, shown}}, 3, 5, 6, []int64{6}, true, true},
		"gap before an own entry":  {3, []offer{{5, nil}}, 3, 4, 5, nil, true, true},
		"repeated":                 {3, []offer{{4, shown}, {4, shown}, {2, shown}}, 3, 3, 4, []int64{4}, true, false},
		"late one behind a gap":    {3, []offer{{6, shown}, {5, shown}}, 3, 5, 6, []int64{6}, true, true},
		"more than the tail holds": {0, []offer{{1, shown}, {2, shown}, {3, shown}, {4, shown}, {5, shown}, {6, shown}}, 0, 5, 6, []int64{6}, true, true},
		"too large for the tail":   {0, []offer{{1, shown}, {2, make([]byte, 2000)}, {3, shown}}, 0, 2, 3, []int64{3}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := &queue{confirmed: c.confirmed, tailFrom: c.confirmed, last: c.confirmed}
			for _, o := range c.offers {
				q.offer(o.seq, o.meta, testLimits)
			}
			require.Equal(t, c.wantConfirmed, q.confirmed)
			require.Equal(t, c.wantTailFrom, q.tailFrom)
			require.Equal(t, c.wantLast, q.last)
			require.ElementsMatch(t, c.wantTail, seqs(q.tail))
			require.Equal(t, c.wantPending, q.pending())
			require.Equal(t, c.inArcive, q.inArchive())
		})
	}
}

func TestQueuePagesAndConfirms(t *testing.T) {
	t.Parallel()
	q := &queue{}
	for seq := int64(1); seq <= 4; seq++ {
		q.offer(seq, shown, testLimits)
	}
	entries, through := q.tailPage(testLimits)
	require.Equal(t, []int64{1, 2, 3}, seqs(entries))
	require.EqualValues(t, 3, through)
	q.sent(page{token: 10, through: through, pulled: true}, 5)
	require.Equal(t, pulling, q.phase)

	known, _ := q.confirm(11)
	require.False(t, known)
	known, _ = q.confirm(0)
	require.False(t, known)
	require.EqualValues(t, 0, q.confirmed)

	known, pulled := q.confirm(10)
	require.True(t, known)
	require.True(t, pulled)
	require.EqualValues(t, 3, q.confirmed)
	require.Equal(t, []int64{4}, seqs(q.tail))

	// Confirming again, or an older page, moves nothing back.
	q.sent(page{token: 12, through: 4}, 6)
	require.Equal(t, pushed, q.phase)
	known, pulled = q.confirm(12)
	require.True(t, known)
	require.False(t, pulled)
	q.confirm(10)
	require.EqualValues(t, 4, q.confirmed)
	require.False(t, q.pending())
	require.Empty(t, q.tail)
	require.Zero(t, q.tailBytes)

	// Only the last few tokens are known.
	for i := range uint64(rememberedPages) {
		q.sent(page{token: 20 + i, through: 4}, 7)
	}
	known, _ = q.confirm(10)
	require.False(t, known)
}

func TestQueueBytesBoundPages(t *testing.T) {
	t.Parallel()
	lim := queueLimits{tailEntries: 10, tailBytes: 10_000, pageEntries: 10, pageBytes: 1000}
	q := &queue{}
	q.offer(1, make([]byte, 3000), lim)
	q.offer(2, make([]byte, 600), lim)
	q.offer(3, make([]byte, 600), lim)
	for _, want := range []int64{1, 2, 3} {
		entries, through := q.tailPage(lim)
		require.Equal(t, []int64{want}, seqs(entries), "at least one, however large")
		q.confirmTo(through)
	}
	require.False(t, q.pending())
}

func TestQueueReadsTheArchive(t *testing.T) {
	t.Parallel()
	ar := func(seqs ...int64) []entry {
		out := make([]entry, 0, len(seqs))
		for _, s := range seqs {
			out = append(out, entry{s, shown})
		}
		return out
	}
	t.Run("then goes on with the tail", func(t *testing.T) {
		t.Parallel()
		q := &queue{confirmed: 2, tailFrom: 2, last: 2}
		q.offer(5, shown, testLimits) // 3 and 4 are missing
		entries, through := q.archivePage(ar(3, 4), 4, 4, testLimits)
		require.Equal(t, []int64{3, 4}, seqs(entries))
		q.sent(page{token: 1, through: through, pulled: true}, 0)
		q.confirm(1)
		require.False(t, q.inArchive())
		entries, _ = q.tailPage(testLimits)
		require.Equal(t, []int64{5}, seqs(entries))
	})
	t.Run("in several pages", func(t *testing.T) {
		t.Parallel()
		q := &queue{tailFrom: 5, last: 5}
		entries, through := q.archivePage(ar(1, 2, 4, 5), 5, 5, testLimits)
		require.Equal(t, []int64{1, 2, 4}, seqs(entries))
		require.EqualValues(t, 4, through)
	})
	t.Run("nothing in it to show", func(t *testing.T) {
		t.Parallel()
		q := &queue{tailFrom: 5, last: 5}
		entries, _ := q.archivePage(nil, 5, 5, testLimits)
		require.Empty(t, entries)
		require.False(t, q.pending())
	})
	t.Run("behind what was pushed", func(t *testing.T) {
		t.Parallel()
		q := &queue{tailFrom: 5, last: 5}
		entries, _ := q.archivePage(nil, 0, 0, testLimits)
		require.Empty(t, entries)
		require.True(t, q.pending())
		require.EqualValues(t, 0, q.confirmed)
	})
	t.Run("ahead of what was pushed", func(t *testing.T) {
		t.Parallel()
		q := &queue{}
		q.offer(2, shown, testLimits)
		entries, through := q.archivePage(ar(1, 2, 3), 3, 4, testLimits)
		require.Equal(t, []int64{1, 2, 3}, seqs(entries))
		q.sent(page{token: 1, through: through, pulled: true}, 0)
		q.confirm(1)
		require.EqualValues(t, 3, q.confirmed)
		require.True(t, q.pending(), "4 is known to exist")
		require.False(t, q.offer(3, shown, testLimits), "the late push is known")
	})
}

// model is a device with a perfect memory and an archive with everything, with a
// queue between them that sees pushes lost, repeated and late.
type model struct {
	t        *testing.T
	r        *rand.Rand
	q        *queue
	archive  []bool // visible, by place - 1
	archived int64
	shown    []int64        // what this connection's device was shown, in order
	seen     map[int64]bool // by the device, over all connections
	token    uint64
	tokens   map[uint64]bool
	pending  []page // sent and not confirmed
	stored   int64  // position that survives the connection
}

func (m *model) send(entries []entry, through int64, pulled bool) {
	m.token++
	require.False(m.t, m.tokens[m.token])
	m.tokens[m.token] = true
	for _, e := range entries {
		require.EqualValues(m.t, e.seq, binary.BigEndian.Uint64(e.meta), "entry and place belong together")
		m.shown = append(m.shown, e.seq)
	}
	p := page{token: m.token, through: through, pulled: pulled}
	m.q.sent(p, 0)
	m.pending = append(m.pending, p)
}

func meta(seq int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(seq)) }

// answer does what a connection does for a pull.
func (m *model) answer() {
	for range 100 {
		if !m.q.pending() {
			m.q.enter(idle, 0)
			return
		}
		if !m.q.inArchive() {
			entries, through := m.q.tailPage(testLimits)
			m.send(entries, through, true)
			return
		}
		var entries []entry
		after := m.q.confirmed
		through := after
		for seq := after + 1; seq <= m.archived && len(entries) < 5; seq++ {
			through = seq
			if m.archive[seq-1] {
				entries = append(entries, entry{seq, meta(seq)})
			}
		}
		got, through := m.q.archivePage(entries, through, m.archived, testLimits)
		if len(got) > 0 {
			m.send(got, through, true)
			return
		}
		if m.q.confirmed == after && m.q.pending() {
			m.q.enter(idle, 0)
			return // behind
		}
	}
	require.FailNow(m.t, "an answer without end")
}

func (m *model) advance() {
	if m.q.phase != idle || !m.q.pending() {
		return
	}
	if m.q.inArchive() {
		m.q.enter(notified, 0)
		return
	}
	entries, through := m.q.tailPage(testLimits)
	m.send(entries, through, false)
}

func (m *model) step() {
	switch n := m.r.IntN(100); {
	case n < 35: // a new entry, pushed or lost
		m.archive = append(m.archive, m.r.IntN(4) > 0)
		seq := int64(len(m.archive))
		if m.r.IntN(10) > 0 {
			m.push(seq)
		}
	case n < 45: // the archive catches up
		m.archived = max(m.archived, min(int64(len(m.archive)), m.archived+m.r.Int64N(6)))
	case n < 52 && len(m.archive) > 0: // an old entry again
		m.push(1 + m.r.Int64N(int64(len(m.archive))))
	case n < 80 && len(m.pending) > 0: // a confirmation, mostly the oldest
		i := 0
		if m.r.IntN(8) == 0 {
			i = m.r.IntN(len(m.pending))
		}
		p := m.pending[i]
		m.pending = append(m.pending[:i:i], m.pending[i+1:]...)
		for _, s := range m.shown {
			if s <= p.through {
				m.seen[s] = true
			}
		}
		known, pulled := m.q.confirm(p.token)
		switch {
		case known && !pulled:
			if m.q.phase == pushed {
				m.q.enter(idle, 0)
				m.advance()
			}
		default:
			m.answer()
		}
	case n < 95: // a pull
		m.answer()
	default: // the connection breaks; the device comes back
		m.reconnect()
	}
	m.stored = max(m.stored, m.q.confirmed)
	require.LessOrEqual(m.t, m.q.confirmed, m.q.tailFrom)
	require.LessOrEqual(m.t, m.q.tailFrom, m.q.last)
	require.LessOrEqual(m.t, len(m.q.tail), testLimits.tailEntries)
}

func (m *model) push(seq int64) {
	var b []byte
	if m.archive[seq-1] {
		b = meta(seq)
	}
	if m.q.offer(seq, b, testLimits) {
		m.advance()
	}
}

func (m *model) reconnect() {
	last := max(m.stored, m.archived)
	m.q = &queue{confirmed: m.stored, tailFrom: last, last: last}
	m.pending, m.shown = nil, nil
}

// TestQueueModel checks what a queue promises, whatever happens: within a
// connection the device sees entries in order, except for pages it asked for
// again; what it confirmed it has seen; and in the end it has seen everything.
func TestQueueModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m := &model{t: t, r: rand.New(rand.NewPCG(seed, 1)), q: &queue{}, seen: map[int64]bool{}, tokens: map[uint64]bool{}}
			for range 400 {
				m.step()
				m.confirmedWasShown()
			}
			// Let it settle: everything archived, every pull answered and confirmed.
			m.archived = int64(len(m.archive))
			m.reconnect()
			for range 10_000 {
				if !m.q.pending() {
					break
				}
				m.answer()
				for _, p := range m.pending {
					m.q.confirm(p.token)
				}
				m.pending = nil
			}
			require.False(t, m.q.pending())
			m.confirmedWasShown()
			require.EqualValues(t, len(m.archive), m.q.confirmed)
		})
	}
}

// confirmedWasShown checks that no visible entry up to the position was missed,
// and that each was first shown after the ones before it.
func (m *model) confirmedWasShown() {
	for _, s := range m.shown {
		m.seen[s] = true
	}
	highest := int64(0)
	for seq := int64(1); seq <= m.q.confirmed; seq++ {
		if m.archive[seq-1] {
			require.True(m.t, m.seen[seq], "entry %d was confirmed and never shown", seq)
		}
	}
	fresh := map[int64]bool{}
	for _, s := range m.shown {
		if fresh[s] {
			continue // a page that was asked for again
		}
		fresh[s] = true
		require.Greater(m.t, s, highest, "entry shown for the first time after a later one")
		highest = s
	}
}

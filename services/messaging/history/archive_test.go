package history

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func span(partition int, from, through uint64) *Batch {
	return &Batch{Partition: partition, From: from, Through: through, done: make(chan error, 1)}
}

// newTestArchive makes an archive of two partitions whose batches the test
// writes itself.
func newTestArchive(t *testing.T, db *store.DB) *Archive {
	barrier := NewReadBarrier(db, 2, func(context.Context, int) (uint64, error) { return 0, nil })
	a := NewArchive(db, barrier, func(int, int64, uint64) {}, testkit.Logger(t), prometheus.NewRegistry())
	require.NoError(t, a.Prepare(t.Context()))
	t.Cleanup(a.closeStatements)
	return a
}

func TestContiguousRuns(t *testing.T) {
	t.Parallel()
	a, b, c, d, e, f := span(0, 0, 2), span(1, 0, 9), span(0, 2, 3), span(0, 4, 5), span(1, 9, 10), span(0, 5, 6)
	require.Equal(t, [][]*Batch{{a, c}, {b, e}, {d, f}}, contiguousRuns([]*Batch{a, b, c, d, e, f}))
	require.Equal(t, [][]*Batch{{c}, {a}}, contiguousRuns([]*Batch{c, a}), "what does not follow stands alone")
}

// TestArchiveFences writes batches of two partitions in one transaction, of
// which one has been taken over by another worker.
func TestArchiveFences(t *testing.T) {
	testkit.EachDatabase(t, "messaging", nil, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		a := newTestArchive(t, db)
		for p := range 2 {
			require.NoError(t, a.Adopt(ctx, p, 0, 1))
		}
		id := int64(0)
		conv := map[int]*Conversation{}
		fill := func(b *Batch) *Batch {
			b.Mark = int64(b.Through)
			c := conv[b.Partition]
			if c == nil {
				c = &Conversation{App: 1, Name: ident.ConversationID(rune('a'+b.Partition)) + "~z", Kind: busv1.Kind_KIND_USER}
				conv[b.Partition] = c
				b.Fresh = append(b.Fresh, c)
			}
			for range b.Through - b.From {
				id++
				c.LastSeq++
				b.Entries = append(b.Entries, &Entry{ID: id, Conversation: c, Seq: c.LastSeq, Sender: "z", Data: []byte("x")})
			}
			return b
		}
		write := func(all ...*Batch) (outcomes []error) {
			for _, b := range all {
				require.NoError(t, a.Submit(ctx, b))
				require.Same(t, b, <-a.queue)
			}
			a.write(ctx, all)
			for _, b := range all {
				outcomes = append(outcomes, <-b.done)
			}
			return outcomes
		}
		stored := func() (n int64) {
			require.NoError(t, db.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM messages`).Scan(&n))
			return n
		}
		require.Equal(t, []error{nil, nil, nil}, write(fill(span(0, 0, 3)), fill(span(1, 0, 2)), fill(span(0, 3, 5))))
		require.EqualValues(t, 7, stored())
		// Partition 0 begins where it was two batches ago: another has moved it.
		require.Equal(t, []error{ErrFenced, nil, ErrFenced}, write(fill(span(0, 3, 4)), fill(span(1, 2, 3)), fill(span(0, 4, 9))))
		require.EqualValues(t, 8, stored())
		// A batch of another epoch does not follow, whatever its place.
		other := fill(span(0, 5, 6))
		other.Epoch = 1
		require.Equal(t, []error{ErrFenced}, write(other))
		for p, want := range []uint64{5, 3} {
			at, err := a.Position(ctx, p)
			require.NoError(t, err)
			require.Equal(t, want, at.Offset)
			require.EqualValues(t, want, at.Mark)
		}
	})
}

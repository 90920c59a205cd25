package messaging

import (
	"io/fs"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

func span(partition int, from, through uint64) *batch {
	return &batch{partition: partition, from: from, through: through, done: make(chan error, 1)}
}

func TestRunsOf(t *testing.T) {
	t.Parallel()
	a, b, c, d, e, f := span(0, 0, 2), span(1, 0, 9), span(0, 2, 3), span(0, 4, 5), span(1, 9, 10), span(0, 5, 6)
	require.Equal(t, [][]*batch{{a, c}, {b, e}, {d, f}}, runsOf([]*batch{a, b, c, d, e, f}))
	require.Equal(t, [][]*batch{{c}, {a}}, runsOf([]*batch{c, a}), "what does not follow stands alone")
}

// TestArchiveFences writes batches of two partitions in one transaction, of
// which one has been taken over by another worker.
func TestArchiveFences(t *testing.T) {
	migrations, err := fs.Sub(migrationFiles, "migrations")
	require.NoError(t, err)
	testkit.EachDatabase(t, "messaging", migrations, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		a := newArchive(db, newMetrics(prometheus.NewRegistry()), newSettling(db, 2), newGates(2, func() uint64 { return 0 }), testkit.Logger(t))
		require.NoError(t, a.prepare(ctx))
		t.Cleanup(a.closeStatements)
		for p := range 2 {
			require.NoError(t, a.begin(ctx, p, 0, 1))
		}
		id := int64(0)
		conv := map[int]*conversation{}
		fill := func(b *batch) *batch {
			b.mark = int64(b.through)
			c := conv[b.partition]
			if c == nil {
				c = &conversation{app: 1, name: string(rune('a'+b.partition)) + ":z", kind: busv1.Kind_KIND_USER}
				conv[b.partition] = c
				b.fresh = append(b.fresh, c)
			}
			for range b.through - b.from {
				id++
				c.last++
				b.entries = append(b.entries, &entry{id: id, conv: c, seq: c.last, sender: "z", data: []byte("x")})
			}
			return b
		}
		write := func(all ...*batch) (outcomes []error) {
			for _, b := range all {
				require.NoError(t, a.submit(ctx, b))
				require.Same(t, b, <-a.queue)
			}
			a.write(ctx, all)
			for _, b := range all {
				outcomes = append(outcomes, <-b.done)
			}
			return outcomes
		}
		stored := func() (n int64) {
			require.NoError(t, db.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM message`).Scan(&n))
			return n
		}
		require.Equal(t, []error{nil, nil, nil}, write(fill(span(0, 0, 3)), fill(span(1, 0, 2)), fill(span(0, 3, 5))))
		require.EqualValues(t, 7, stored())
		// Partition 0 begins where it was two batches ago: another has moved it.
		require.Equal(t, []error{errFenced, nil, errFenced}, write(fill(span(0, 3, 4)), fill(span(1, 2, 3)), fill(span(0, 4, 9))))
		require.EqualValues(t, 8, stored())
		// A batch of another epoch does not follow, whatever its place.
		other := fill(span(0, 5, 6))
		other.epoch = 1
		require.Equal(t, []error{errFenced}, write(other))
		for p, want := range []uint64{5, 3} {
			at, err := a.place(ctx, p)
			require.NoError(t, err)
			require.Equal(t, want, at.seq)
			require.EqualValues(t, want, at.mark)
		}
	})
}

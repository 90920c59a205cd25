package messaging

import (
	"io/fs"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// TestSequencerOfAnOldPosition has a worker begin at a position past which
// another one has archived: it must give out no place, for what the archive
// holds is not what was before the worker's first record.
func TestSequencerOfAnOldPosition(t *testing.T) {
	migrations, err := fs.Sub(migrationFiles, "migrations")
	require.NoError(t, err)
	testkit.EachDatabase(t, "messaging", migrations, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		a := newArchive(db, newMetrics(prometheus.NewRegistry()), newSettling(db, nil, 1), newGates(1, func() uint64 { return 0 }), testkit.Logger(t))
		require.NoError(t, a.prepare(ctx))
		t.Cleanup(a.closeStatements)
		const epoch = 2
		require.NoError(t, a.begin(ctx, 0, epoch, 1))

		// The conversation's entries are at 3, 5 and 7 of the log.
		c := &conversation{app: 1, name: "lena~omar", kind: busv1.Kind_KIND_USER}
		b := span(0, 0, 7)
		b.epoch, b.fresh = epoch, []*conversation{c}
		for i, at := range []uint64{3, 5, 7} {
			data, err := proto.Marshal(&busv1.Delivery{LogPlace: bus.LogPlace(epoch, at)})
			require.NoError(t, err)
			b.entries = append(b.entries, &entry{id: int64(i + 1), conv: c, seq: int64(i + 1), sender: "lena", data: data})
		}
		require.NoError(t, a.submit(ctx, b))
		a.write(ctx, []*batch{<-a.queue})
		require.NoError(t, <-b.done)

		for _, x := range []struct {
			what   string
			place  uint64
			fenced bool
		}{
			{"before all", bus.LogPlace(epoch, 1), true},
			{"in the middle", bus.LogPlace(epoch, 5), true},
			{"the newest", bus.LogPlace(epoch, 7), true},
			{"of an epoch that is over", bus.LogPlace(epoch-1, 900), true},
			{"the next", bus.LogPlace(epoch, 8), false},
			{"of the next epoch", bus.LogPlace(epoch+1, 1), false},
		} {
			t.Run(x.what, func(t *testing.T) {
				q, err := newSequencer(a)
				require.NoError(t, err)
				_, seq, previous, _, err := q.next(ctx, 1, busv1.Kind_KIND_USER, "lena~omar", x.place)
				if x.fenced {
					require.ErrorIs(t, err, errFenced)
					return
				}
				require.NoError(t, err)
				require.EqualValues(t, 4, seq)
				require.Equal(t, bus.LogPlace(epoch, 7), previous)
			})
		}
	})
}

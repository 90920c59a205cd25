package partition

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	"github.com/chappe-im/chappe/services/messaging/history"
)

// TestSequencerOfAnOldPosition has a worker begin at a position past which
// another one has archived: it must give out no place, for what the archive
// holds is not what was before the worker's first record.
func TestSequencerOfAnOldPosition(t *testing.T) {
	testkit.EachDatabase(t, "messaging", nil, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		barrier := history.NewReadBarrier(db, 1, func(context.Context, int) (uint64, error) { return 0, nil })
		a := history.NewArchive(db, barrier, func(int, int64, uint64) {}, testkit.Logger(t), prometheus.NewRegistry())
		require.NoError(t, a.Prepare(ctx))
		const epoch = 2
		require.NoError(t, a.Adopt(ctx, 0, epoch, 1))

		// The conversation's entries are at 3, 5 and 7 of the log.
		c := &history.Conversation{App: 1, Name: "lena~omar", Kind: busv1.Kind_KIND_USER}
		b := &history.Batch{Through: 7, Epoch: epoch, Fresh: []*history.Conversation{c}}
		for i, at := range []uint64{3, 5, 7} {
			data, err := proto.Marshal(&busv1.Delivery{LogPlace: bus.LogPlace(epoch, at)})
			require.NoError(t, err)
			b.Entries = append(b.Entries, &history.Entry{ID: int64(i + 1), Conversation: c, Seq: int64(i + 1), Sender: "lena", Data: data})
		}
		require.NoError(t, a.Submit(ctx, b))
		a.Close()
		a.Run(ctx)
		require.NoError(t, <-b.Done())

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
					require.ErrorIs(t, err, history.ErrFenced)
					return
				}
				require.NoError(t, err)
				require.EqualValues(t, 4, seq)
				require.Equal(t, bus.LogPlace(epoch, 7), previous)
			})
		}
	})
}

package messaging_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/natsx"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// Records that name a group or a room are pushed once each, on its subject and
// nowhere else, in order, whether they go at once or wait for budget.
func TestOneRecordToManyIsOnePush(t *testing.T) {
	t.Parallel()
	const rate, records = 20, 40
	r := newRig(t, rate)
	for _, kind := range []busv1.Kind{busv1.Kind_KIND_GROUP, busv1.Kind_KIND_ROOM} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			name := kind.String()[len("KIND_"):] + "-77"
			many := make(chan *natsx.Msg, 2*records)
			_, err := r.conn.SubscribeChan(bus.DeliverySubject("acme#shop", kind, name), many)
			require.NoError(t, err)
			// A user of that name, and the sender's devices: on the subject already.
			namesake, sender := r.listen("acme#shop", name), r.listen("acme#shop", "lena-"+name)
			p := bus.Partition("acme#shop", name, rosterPartitions)
			for i := range records {
				data, err := proto.Marshal(&busv1.LogRecord{
					App: "acme#shop", Kind: kind, Type: busv1.EntryType_ENTRY_TYPE_TXT, From: "lena-" + name, FromResource: "web_1",
					SyncSender: true, Paced: true, Targets: []*busv1.LogTarget{{Id: int64(kind)*1000 + int64(i), To: name}},
				})
				require.NoError(t, err)
				require.NoError(t, r.conn.PublishStored(t.Context(), bus.LogSubject(p, kind, "acme#shop", name), data, ""))
			}
			for i := range records {
				d := next(t, many)
				require.Equal(t, int64(i+1), d.GetSeq())
				require.Equal(t, name, d.GetTo())
				require.Equal(t, name, d.GetConversation())
				require.Equal(t, kind, d.GetKind())
			}
			require.Empty(t, many)
			require.Empty(t, namesake)
			require.Empty(t, sender)
		})
	}
}

package partition

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// What is appended field by field must read back as the generated code would
// have written it.
func TestAppendedEncodings(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*busv1.LogRecord{
		"full": {
			App: "acme#shop", Kind: busv1.Kind_KIND_USER, Type: busv1.EntryType_ENTRY_TYPE_CMD, From: "lena", FromResource: "web_1",
			Timestamp: 1767225600123, Body: []byte{1, 2, 3}, MetaExt: []byte{4}, OnlineOnly: true, SyncSender: true,
		},
		"bare": {App: "a#b", Kind: busv1.Kind_KIND_GROUP, Type: busv1.EntryType_ENTRY_TYPE_TXT, From: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			previous := uint64(len(r.GetBody())) // none in one of the cases
			data, err := proto.Marshal(r)
			require.NoError(t, err)
			data = appendTarget(data, 1<<62, "omar")
			data = appendTarget(data, 7, "")
			var back busv1.LogRecord
			require.NoError(t, proto.Unmarshal(data, &back))
			want := proto.CloneOf(r)
			want.Targets = []*busv1.LogTarget{{Id: 1 << 62, To: "omar"}, {Id: 7}}
			require.True(t, proto.Equal(want, &back), "%v", &back)

			push, delivery := appendPush(deliveryCommon(r), 1<<62, "lena~omar", 300, "omar", 1<<41+7, previous)
			d := &busv1.Delivery{
				Id: 1 << 62, Kind: r.GetKind(), Type: r.GetType(), Conversation: "lena~omar", Seq: 300, From: r.GetFrom(),
				FromResource: r.GetFromResource(), To: "omar", Timestamp: r.GetTimestamp(), Body: r.GetBody(), MetaExt: r.GetMetaExt(),
				OnlineOnly: r.GetOnlineOnly(), SyncSender: r.GetSyncSender(), LogPlace: 1<<41 + 7, LogPrevious: previous,
			}
			var gotPush busv1.Push
			require.NoError(t, proto.Unmarshal(push, &gotPush))
			require.True(t, proto.Equal(&busv1.Push{What: &busv1.Push_Delivery{Delivery: d}}, &gotPush), "%v", &gotPush)
			var got busv1.Delivery
			d.LogPrevious = 0
			require.NoError(t, proto.Unmarshal(delivery, &got))
			require.True(t, proto.Equal(d, &got), "%v", &got)
		})
	}
}

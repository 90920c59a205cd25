package messaging

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
			data, err := proto.Marshal(r)
			require.NoError(t, err)
			data = appendTarget(data, 1<<62, "omar")
			data = appendTarget(data, 7, "")
			var back busv1.LogRecord
			require.NoError(t, proto.Unmarshal(data, &back))
			want := proto.CloneOf(r)
			want.Targets = []*busv1.LogTarget{{Id: 1 << 62, To: "omar"}, {Id: 7}}
			require.True(t, proto.Equal(want, &back), "%v", &back)

			push, delivery := appendPush(deliveryCommon(r), 1<<62, "lena~omar", 300, "omar")
			d := &busv1.Delivery{
				Id: 1 << 62, Kind: r.GetKind(), Type: r.GetType(), Conversation: "lena~omar", Seq: 300, From: r.GetFrom(),
				FromResource: r.GetFromResource(), To: "omar", Timestamp: r.GetTimestamp(), Body: r.GetBody(), MetaExt: r.GetMetaExt(),
				OnlineOnly: r.GetOnlineOnly(), SyncSender: r.GetSyncSender(),
			}
			var gotPush busv1.Push
			require.NoError(t, proto.Unmarshal(push, &gotPush))
			require.True(t, proto.Equal(&busv1.Push{What: &busv1.Push_Delivery{Delivery: d}}, &gotPush), "%v", &gotPush)
			var got busv1.Delivery
			require.NoError(t, proto.Unmarshal(delivery, &got))
			require.True(t, proto.Equal(d, &got), "%v", &got)
		})
	}
}

func TestPickMovesOnlyWhatMustMove(t *testing.T) {
	t.Parallel()
	three := []string{"a", "b", "c"}
	owners := map[string]int{}
	for p := range 256 {
		before := pick(three, p)
		owners[before]++
		require.Equal(t, before, pick([]string{"c", "a", "b"}, p), "the order of the list does not matter")
		after := pick([]string{"a", "b"}, p)
		if before != "c" {
			require.Equal(t, before, after)
		}
	}
	for _, id := range three {
		require.Greater(t, owners[id], 50, "%v", owners)
	}
	require.Empty(t, pick(nil, 1))
}

func TestCursors(t *testing.T) {
	t.Parallel()
	places := []place{{seq: 1, targets: 2, epoch: 3}, {seq: 1 << 40}}
	text := encodeCursor(places)
	got, err := decodeCursor(text, 2)
	require.NoError(t, err)
	require.Equal(t, places, got)
	got, err = decodeCursor("AQIBAgcA", 2) // made before there were epochs
	require.NoError(t, err)
	require.Equal(t, []place{{seq: 1, targets: 2}, {seq: 7}}, got)
	for name, c := range map[string]struct {
		text string
		n    int
	}{
		"other number of partitions": {text, 3},
		"no base64":                  {"!!", 2},
		"other version":              {"AwA", 0},
		"cut short":                  {text[:len(text)-3], 2},
		"longer":                     {text + "AAAA", 2},
		"nothing":                    {"", 2},
	} {
		_, err := decodeCursor(c.text, c.n)
		require.Error(t, err, name)
	}
}

package messaging_test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/idgen"
	"github.com/chappe-im/chappe/pkg/natsx"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
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

// A user who is in a group catches up with it as with a talk of two, from the
// place where it became visible.
func TestCatchingUpWithAGroup(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	const name, since, entries = "77", 2, 5
	p := bus.Partition("acme#shop", name, rosterPartitions)
	first := idgen.FirstAt(time.Now()) // what is older than the tier keeps is deleted
	for i := range entries {
		data, err := proto.Marshal(&busv1.LogRecord{
			App: "acme#shop", Kind: busv1.Kind_KIND_GROUP, Type: busv1.EntryType_ENTRY_TYPE_TXT, From: "lena", SyncSender: true,
			Targets: []*busv1.LogTarget{{Id: first + int64(i), To: name}},
		})
		require.NoError(t, err)
		require.NoError(t, r.conn.PublishStored(t.Context(), bus.LogSubject(p, busv1.Kind_KIND_GROUP, "acme#shop", name), data, ""))
	}
	require.Empty(t, r.open("omar", "web_1"), "he is in no group")
	require.Eventually(t, func() bool { // the conversation is there
		var done bool
		err := r.db.Write(t.Context(), func(tx *sql.Tx) error {
			res, err := tx.ExecContext(t.Context(), `INSERT INTO conversation_members (app, username, conversation_id, peer, visible_from)
				SELECT app, 'omar', id, name, $1 FROM conversations WHERE name = $2`, since, name)
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			done = n == 1
			return err
		})
		return err == nil && done
	}, 10*time.Second, 10*time.Millisecond)
	queues := r.open("omar", "web_1")
	require.Len(t, queues, 1)
	require.Equal(t, busv1.Kind_KIND_GROUP, queues[0].GetKind())
	require.Equal(t, name, queues[0].GetPeer())
	require.EqualValues(t, since, queues[0].GetConfirmedSeq())
	require.EqualValues(t, entries, queues[0].GetLastSeq())
	resp, err := r.sync.PullConversation(t.Context(), &messagingv1.PullConversationRequest{
		Org: "acme", App: "shop", User: "omar", Resource: "web_1", Conversation: name,
	})
	require.NoError(t, err)
	require.Len(t, resp.GetEntries(), entries-since)
	for i, e := range resp.GetEntries() {
		require.EqualValues(t, since+i+1, e.GetSeq())
		require.Equal(t, name, e.GetTo())
	}
	require.Empty(t, r.open("lena", "web_1"), "who is not in it catches up with nothing")
}

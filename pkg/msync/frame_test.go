package msync

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/ident"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

func jidOf(name string) *msyncv1.JID {
	return &msyncv1.JID{AppKey: proto.String("a#b"), Name: proto.String(name), Domain: proto.String(DomainUser)}
}

func entryMeta(t *testing.T, d *busv1.Delivery) []byte {
	t.Helper()
	meta, err := EntryMeta("a#b", ident.UserID(d.GetTo()), d)
	require.NoError(t, err)
	return meta
}

func decode[T proto.Message](t *testing.T, frame []byte, command msyncv1.MSync_Command, into T) T {
	t.Helper()
	m := new(msyncv1.MSync)
	require.NoError(t, proto.Unmarshal(frame, m))
	require.Equal(t, command, m.GetCommand())
	require.NotNil(t, m.Command)
	require.NotNil(t, m.Version)
	require.NoError(t, proto.Unmarshal(m.GetPayload(), into))
	return into
}

func TestEncodedMetaIsWhatTheSchemaSays(t *testing.T) {
	t.Parallel()
	body := &msyncv1.MessageBody{
		Type: msyncv1.MessageBody_CHAT.Enum(), From: &msyncv1.JID{Name: proto.String("ann")},
		Contents: []*msyncv1.MessageBody_Content{{}},
	}
	raw, err := proto.Marshal(body)
	require.NoError(t, err)
	ext := []*msyncv1.KeyValue{{Key: proto.String("k"), Value: &msyncv1.KeyValue_StringValue{StringValue: "v"}}}
	metaExt, err := proto.Marshal(&msyncv1.Meta{Ext: ext})
	require.NoError(t, err)
	for name, d := range map[string]*busv1.Delivery{
		"user": {Id: 1 << 60, Kind: busv1.Kind_KIND_USER, From: "ann", FromResource: "web", To: "bob", Timestamp: 1_700_000_000_000, Body: raw, MetaExt: metaExt},
		"rest": {Id: 1, Kind: busv1.Kind_KIND_USER, From: "admin", To: "bob", Timestamp: 5, Body: raw},
		"room": {Id: 1 << 62, Kind: busv1.Kind_KIND_ROOM, From: "ann", To: "123", Timestamp: 1, Body: raw},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			frame := AppendPage(nil, slices.Values([][]byte{entryMeta(t, d), entryMeta(t, d)}), 99, JID("a#b", "ann", DomainUser), 1234)
			dl := decode(t, frame, msyncv1.MSync_SYNC, new(msyncv1.CommSyncDL))
			domain := Domain(d.GetKind())
			wantBody := proto.CloneOf(body)
			wantBody.From = &msyncv1.JID{Name: proto.String(d.GetFrom())} // whatever the body said
			wantBody.To = &msyncv1.JID{Name: proto.String(d.GetTo())}
			from := jidOf(d.GetFrom())
			if d.GetFromResource() != "" {
				from.ClientResource = proto.String(d.GetFromResource())
			}
			to := jidOf(d.GetTo())
			to.Domain = proto.String(domain)
			for _, got := range dl.GetMetas() {
				gotBody := new(msyncv1.MessageBody)
				require.NoError(t, proto.Unmarshal(got.GetPayload(), gotBody))
				require.True(t, proto.Equal(wantBody, gotBody), "%v", gotBody)
				got.Payload = nil
				want := &msyncv1.Meta{
					Id: proto.Uint64(uint64(d.GetId())), From: from, To: to, Timestamp: proto.Uint64(uint64(d.GetTimestamp())), Ns: msyncv1.Meta_CHAT.Enum(),
				}
				if d.GetMetaExt() != nil {
					want.Ext = ext
				}
				require.True(t, proto.Equal(want, got), "%v", got)
			}
			dl.Metas = nil
			require.True(t, proto.Equal(&msyncv1.CommSyncDL{
				Status: &msyncv1.Status{ErrorCode: msyncv1.Status_OK.Enum()}, NextKey: proto.Uint64(99), Queue: jidOf("ann"),
				IsLast: proto.Bool(false), Timestamp: proto.Uint64(1234),
			}, dl), "%v", dl)
		})
	}
}

// What was written before events were entries of their own is shown as ever.
func TestContactEntriesOfBefore(t *testing.T) {
	t.Parallel()
	d := &busv1.Delivery{
		Id: 1 << 60, Kind: busv1.Kind_KIND_USER, Type: busv1.EntryType_ENTRY_TYPE_ROSTER, From: "ann", To: "bob",
		Timestamp: 1_700_000_000_000, Body: []byte("a RosterBody"),
	}
	frame := AppendPage(nil, slices.Values([][]byte{entryMeta(t, d)}), 99, JID("a#b", "ann", DomainUser), 1234)
	dl := decode(t, frame, msyncv1.MSync_SYNC, new(msyncv1.CommSyncDL))
	require.Len(t, dl.GetMetas(), 1)
	require.True(t, proto.Equal(&msyncv1.Meta{
		Id: proto.Uint64(1 << 60), From: jidOf("ann"), To: jidOf("bob"), Timestamp: proto.Uint64(1_700_000_000_000),
		Ns: msyncv1.Meta_ROSTER.Enum(), Payload: d.GetBody(),
	}, dl.GetMetas()[0]), "%v", dl)
}

func TestSmallFrames(t *testing.T) {
	t.Parallel()
	queue := JID("a#b", "bob", DomainUser)
	ok := &msyncv1.Status{ErrorCode: msyncv1.Status_OK.Enum()}
	require.True(t, proto.Equal(
		&msyncv1.CommSyncDL{Status: ok, Queue: jidOf("bob"), IsLast: proto.Bool(true), Timestamp: proto.Uint64(7)},
		decode(t, AppendEmpty(nil, queue, 7), msyncv1.MSync_SYNC, new(msyncv1.CommSyncDL))))
	require.True(t, proto.Equal(
		&msyncv1.CommNotice{Queue: jidOf("bob")},
		decode(t, AppendNotice(nil, queue), msyncv1.MSync_NOTICE, new(msyncv1.CommNotice))))
	require.True(t, proto.Equal(
		&msyncv1.CommSyncDL{Status: ok, MetaId: proto.Uint64(1), ServerId: proto.Uint64(2), Timestamp: proto.Uint64(3)},
		decode(t, AppendAck(nil, 1, 2, 3), msyncv1.MSync_SYNC, new(msyncv1.CommSyncDL))))
	require.True(t, proto.Equal(
		&msyncv1.CommSyncDL{
			Status: &msyncv1.Status{ErrorCode: msyncv1.Status_USER_MUTED.Enum(), Reason: proto.String("no")},
			MetaId: proto.Uint64(1), Timestamp: proto.Uint64(3),
		},
		decode(t, AppendRefusal(nil, 1, msyncv1.Status_USER_MUTED, "no", 3), msyncv1.MSync_SYNC, new(msyncv1.CommSyncDL))))
}

func TestParseUpstream(t *testing.T) {
	t.Parallel()
	meta := &msyncv1.Meta{Id: proto.Uint64(5), Ns: msyncv1.Meta_MUC.Enum(), Payload: []byte("x"), Ext: []*msyncv1.KeyValue{{}}}
	b, err := proto.Marshal(&msyncv1.CommSyncUL{Meta: meta, Key: proto.Uint64(8), Queue: jidOf("bob"), IsRoam: proto.Bool(false), LastFullRoamKey: proto.Uint64(1)})
	require.NoError(t, err)
	ul, ok := ParseSyncUL(b)
	require.True(t, ok)
	require.EqualValues(t, 8, ul.Key)
	require.Equal(t, "bob", ul.QueueName)
	require.Equal(t, DomainUser, ul.QueueDomain)
	head, ok := ParseMetaHead(ul.Meta)
	require.True(t, ok)
	require.Equal(t, MetaHead{ID: 5, NS: msyncv1.Meta_MUC}, head)
	got := new(msyncv1.Meta)
	require.NoError(t, proto.Unmarshal(ul.Meta, got))
	require.True(t, proto.Equal(meta, got))
	for i := range b { // cut off anywhere: an error or less, never a panic
		if ul, ok := ParseSyncUL(b[:i]); ok {
			ParseMetaHead(ul.Meta)
		}
		SplitFrame(b[:i])
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte{0x08, 0x00, 0x40, 0x00, 0x4a, 0x02, 0x0a, 0x00})
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, payload, _ := SplitFrame(b)
		ul, _ := ParseSyncUL(payload)
		ParseMetaHead(ul.Meta)
		MUCName(ul.Meta)
	})
}

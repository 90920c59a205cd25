package msync

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/ident"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// metaOf reads a field `metas` of a page.
func metaOf(t *testing.T, field []byte) *msyncv1.Meta {
	t.Helper()
	dl := new(msyncv1.CommSyncDL)
	require.NoError(t, proto.Unmarshal(field, dl))
	require.Len(t, dl.GetMetas(), 1)
	return dl.GetMetas()[0]
}

func contact(action busv1.ContactEvent_Action, reason string) *busv1.Event {
	return &busv1.Event{What: &busv1.Event_Contact{Contact: &busv1.ContactEvent{Action: action, Reason: reason}}}
}

// Every kind of event can be told to clients, and every contact action.
func TestEveryEventHasAnEncoder(t *testing.T) {
	t.Parallel()
	fields := whatOf.Fields()
	require.Positive(t, fields.Len())
	require.Len(t, encoders, fields.Len())
	for i := range fields.Len() {
		require.Contains(t, encoders, fields.Get(i).Name())
	}
	for n := range busv1.ContactEvent_Action_name {
		if action := busv1.ContactEvent_Action(n); action != busv1.ContactEvent_ACTION_UNSPECIFIED {
			require.NotNil(t, contactOperations[action].other, "%v", action)
		}
	}
}

// ann did something about bob: what his devices are shown, and what her others
// are.
func TestContactEvents(t *testing.T) {
	t.Parallel()
	const id, at = 1 << 60, 1_700_000_000_000
	for _, c := range []struct {
		action     busv1.ContactEvent_Action
		reason     string
		other, own string // empty: not told
	}{
		{busv1.ContactEvent_ACTION_REQUESTED, "from the choir", "ADD", ""},
		{busv1.ContactEvent_ACTION_ACCEPTED, "", "REMOTE_ACCEPT", "ACCEPT"},
		{busv1.ContactEvent_ACTION_DECLINED, "", "REMOTE_DECLINE", ""},
		{busv1.ContactEvent_ACTION_ADDED, "", "ACCEPT", "ACCEPT"},
		{busv1.ContactEvent_ACTION_REMOVED, "", "REMOVE", "REMOVE"},
		{busv1.ContactEvent_ACTION_UNSPECIFIED, "", "", ""},
		{busv1.ContactEvent_Action(99), "", "", ""},
	} {
		t.Run(c.action.String(), func(t *testing.T) {
			t.Parallel()
			event := contact(c.action, c.reason)
			body, err := proto.Marshal(event)
			require.NoError(t, err)
			entry := &busv1.Delivery{
				Id: id, Kind: busv1.Kind_KIND_USER, Type: busv1.EntryType_ENTRY_TYPE_EVENT, From: "ann", To: "bob", Timestamp: at, Body: body,
			}
			notice := &busv1.Notice{Id: id, From: "ann", To: "bob", Timestamp: at, Event: event}
			for viewer, want := range map[ident.UserID]struct{ operation, peer string }{"bob": {c.other, "ann"}, "ann": {c.own, "bob"}} {
				stored, err := EntryMeta("a#b", viewer, entry)
				require.NoError(t, err)
				live, err := NoticeMeta("a#b", viewer, notice)
				require.NoError(t, err)
				require.Equal(t, stored, live)
				if want.operation == "" {
					require.Nil(t, stored)
					continue
				}
				operation := msyncv1.RosterBody_Operation(msyncv1.RosterBody_Operation_value[want.operation])
				roster := &msyncv1.RosterBody{
					Operation: &operation, From: jidOf(want.peer), To: []*msyncv1.JID{jidOf(string(viewer))},
					Status: &msyncv1.RosterBody_Status{ErrorCode: msyncv1.RosterBody_Status_OK.Enum()},
				}
				if c.reason != "" {
					roster.Reason = proto.String(c.reason)
				}
				got := metaOf(t, stored)
				gotBody := new(msyncv1.RosterBody)
				require.NoError(t, proto.Unmarshal(got.GetPayload(), gotBody))
				require.True(t, proto.Equal(roster, gotBody), "%v", gotBody)
				got.Payload = nil
				require.True(t, proto.Equal(&msyncv1.Meta{
					Id: proto.Uint64(id), From: jidOf(want.peer), To: jidOf(string(viewer)), Timestamp: proto.Uint64(at), Ns: msyncv1.Meta_ROSTER.Enum(),
				}, got), "%v", got)
			}
		})
	}
}

func TestPresenceEvents(t *testing.T) {
	t.Parallel()
	ext := "line\nbreak\ttab \x01 \"é\" </script>"
	notice := &busv1.Notice{Id: 7, From: "bob", Timestamp: 9, Event: &busv1.Event{What: &busv1.Event_Presence{Presence: &busv1.PresenceChange{
		Changed: 1_700_000_000_999, Ext: ext, Expires: 1_700_000_060_001,
		Devices: []*busv1.DeviceStatus{{Resource: "web_9", Status: "5"}, {Resource: "ios_1", Status: "0"}},
	}}}}
	field, err := NoticeMeta("a#b", "ann", notice)
	require.NoError(t, err)
	got := metaOf(t, field)
	require.False(t, bytes.ContainsFunc(got.GetPayload(), func(r rune) bool { return r < 0x20 }), "clients cannot read it")
	var body any
	require.NoError(t, json.Unmarshal(got.GetPayload(), &body))
	require.Equal(t, map[string]any{"type": "presence", "data": map[string]any{"values": []any{map[string]any{
		"uid": "bob", "last_time": "1700000000", "expiry": "1700000060", "ext": ext, "status": map[string]any{"web_9": "5", "ios_1": "0"},
	}}}}, body)
	got.Payload = nil
	require.True(t, proto.Equal(&msyncv1.Meta{
		Id: proto.Uint64(7), From: jidOf("bob"), To: jidOf("ann"), Timestamp: proto.Uint64(9), Ns: msyncv1.Meta_NOTIFY.Enum(),
	}, got), "%v", got)

	notice.Event.GetPresence().Devices, notice.Event.GetPresence().Ext = nil, ""
	field, err = NoticeMeta("a#b", "ann", notice)
	require.NoError(t, err)
	require.JSONEq(t, `{"type":"presence","data":{"values":[{"uid":"bob","last_time":"1700000000","expiry":"1700000060","ext":"","status":{}}]}}`,
		string(metaOf(t, field).GetPayload()))
}

// A notice that an outbox held across an upgrade is passed on as it is.
func TestNoticesOfBefore(t *testing.T) {
	t.Parallel()
	field, err := NoticeMeta("a#b", "ann", &busv1.Notice{Ns: int32(msyncv1.Meta_ROSTER), Id: 3, From: "bob", Timestamp: 5, Payload: []byte("a RosterBody")})
	require.NoError(t, err)
	require.True(t, proto.Equal(&msyncv1.Meta{
		Id: proto.Uint64(3), From: jidOf("bob"), To: jidOf("ann"), Timestamp: proto.Uint64(5), Ns: msyncv1.Meta_ROSTER.Enum(), Payload: []byte("a RosterBody"),
	}, metaOf(t, field)))
}

// What a newer version wrote, and what is no event at all, is an error and
// nothing that a device is shown.
func TestEventsThatAreNotKnown(t *testing.T) {
	t.Parallel()
	newer := protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), []byte("x"))
	for name, body := range map[string][]byte{"newer": newer, "empty": nil, "garbage": {0xff}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			field, err := EntryMeta("a#b", "bob", &busv1.Delivery{Id: 5, Type: busv1.EntryType_ENTRY_TYPE_EVENT, From: "ann", To: "bob", Body: body})
			require.ErrorContains(t, err, "event 5")
			require.Nil(t, field)
		})
	}
}

func TestWhyALoginEnds(t *testing.T) {
	t.Parallel()
	for n := range busv1.Disconnect_Reason_name {
		why := busv1.Disconnect_Reason(n)
		field, err := LoginEndedMeta("a#b", "ann", 1, 2, why)
		require.NoError(t, err)
		got := metaOf(t, field)
		var body msyncv1.StatisticsBody
		require.NoError(t, proto.Unmarshal(got.GetPayload(), &body))
		require.Equal(t, LoginEnded(why), body.GetOperation())
		require.NotEqual(t, msyncv1.StatisticsBody_INFORMATION, body.GetOperation(), "clients would stay")
		require.Equal(t, msyncv1.Meta_STATISTIC, got.GetNs())
	}
}

package messaging_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/entrytype"
	"github.com/chappe-im/chappe/pkg/natsx"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

const rosterPartitions = 4

// newRosterRig is a rig with the stream of events and two users who were
// registered an hour ago.
func newRosterRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, 0)
	require.NoError(t, r.conn.EnsureStream(t.Context(), natsx.StreamSpec{
		Name: bus.EventStream, Subjects: []string{bus.EventFilter}, DuplicateWindow: time.Minute, Replicas: 1,
	}))
	created := time.Now().Add(-time.Hour).UnixMilli()
	r.users.mu.Lock()
	r.users.known = map[string]*accountv1.User{"omar": {Username: "omar", Created: created}, "lena": {Username: "lena", Created: created}}
	r.users.mu.Unlock()
	return r
}

// roster publishes a contact event as an outbox that repeats itself after long:
// the stream of events does not recognize it.
func (r *rig) roster(id, from, to string, at time.Time) {
	r.t.Helper()
	r.rosterEvent(&busv1.RosterEvent{
		Id: id, App: "acme#shop", From: from, To: to, Timestamp: at.UnixMilli(),
		Event: &busv1.ContactEvent{Action: busv1.ContactEvent_ACTION_REQUESTED, Reason: id},
	})
}

func (r *rig) rosterEvent(e *busv1.RosterEvent) {
	r.t.Helper()
	data, err := proto.Marshal(e)
	require.NoError(r.t, err)
	require.NoError(r.t, r.conn.PublishStored(r.t.Context(), bus.RosterEventSubject(e.GetApp(), e.GetTo()), data, ""))
}

// reason returns the reason of a request for friendship, or the body of an entry
// of before.
func reason(t testing.TB, d *busv1.Delivery) string {
	t.Helper()
	if d.GetType() == busv1.EntryType_ENTRY_TYPE_ROSTER {
		return string(d.GetBody())
	}
	require.Equal(t, busv1.EntryType_ENTRY_TYPE_EVENT, d.GetType())
	var e busv1.Event
	require.NoError(t, proto.Unmarshal(d.GetBody(), &e))
	require.Equal(t, busv1.ContactEvent_ACTION_REQUESTED, e.GetContact().GetAction())
	return e.GetContact().GetReason()
}

func (r *rig) open(user, resource string) []*messagingv1.DeviceQueue {
	r.t.Helper()
	resp, err := r.sync.OpenDevice(r.t.Context(), &messagingv1.OpenDeviceRequest{Org: "acme", App: "shop", User: user, Resource: resource})
	require.NoError(r.t, err)
	return resp.GetQueues()
}

// pull gives the bodies of what a device is to be shown of lena~omar.
func (r *rig) pull(user, resource string) (events []string, messages int) {
	r.t.Helper()
	resp, err := r.sync.PullConversation(r.t.Context(), &messagingv1.PullConversationRequest{
		Org: "acme", App: "shop", User: user, Resource: resource, Conversation: "lena~omar", Limit: 100,
	})
	require.NoError(r.t, err)
	for _, e := range resp.GetEntries() {
		if !entrytype.IsEvent(e.GetType()) {
			messages++
			continue
		}
		events = append(events, reason(r.t, e))
	}
	return events, messages
}

func TestContactEventsWaitLikeMessagesAndAreNone(t *testing.T) {
	t.Parallel()
	r := newRosterRig(t)
	ctx := t.Context()
	pushed, own := r.listen("acme#shop", "omar"), r.listen("acme#shop", "lena")
	feed, err := r.send.Subscribe(ctx, &messagingv1.SubscribeRequest{Org: "acme", App: "shop"})
	require.NoError(t, err)
	begun, err := feed.Recv()
	require.NoError(t, err)
	at := time.Now()
	r.roster("e1", "lena", "omar", at)
	for _, ch := range []chan *natsx.Msg{pushed, own} { // lena's devices see no gap
		d := next(t, ch)
		require.Equal(t, busv1.EntryType_ENTRY_TYPE_EVENT, d.GetType())
		require.Equal(t, "lena omar lena~omar 1", d.GetFrom()+" "+d.GetTo()+" "+d.GetConversation()+" "+strconv.FormatInt(d.GetSeq(), 10))
		require.Equal(t, at.UnixMilli(), d.GetTimestamp())
		require.Positive(t, d.GetId())
		require.Equal(t, "e1", reason(t, d))
	}
	r.roster("e1", "lena", "omar", at) // once more
	sent, err := r.send.SendToUsers(ctx, txt("lena", "hello", "omar"))
	require.NoError(t, err)
	r.roster("e2", "lena", "omar", at)
	require.Equal(t, busv1.EntryType_ENTRY_TYPE_TXT, next(t, pushed).GetType())
	second := next(t, pushed)
	require.Equal(t, "e2 3", reason(t, second)+" "+strconv.FormatInt(second.GetSeq(), 10))

	// Neither lists, subscribers nor counts know of them.
	for range 2 {
		m, err := feed.Recv()
		require.NoError(t, err)
		require.Equal(t, sent.GetResults()[0].GetMessageId(), m.GetMessage().GetId())
		// A cursor from before leads past them too.
		feed, err = r.send.Subscribe(ctx, &messagingv1.SubscribeRequest{Org: "acme", App: "shop", Cursor: begun.GetCursor()})
		require.NoError(t, err)
		_, err = feed.Recv()
		require.NoError(t, err)
	}
	messages := r.archived("lena~omar", 1)
	require.Equal(t, sent.GetResults()[0].GetMessageId(), messages[0].GetId())
	count, err := r.send.GetOfflineMessageCount(ctx, &messagingv1.GetOfflineMessageCountRequest{Org: "acme", App: "shop", Username: "omar"})
	require.NoError(t, err)
	require.EqualValues(t, 1, count.GetCount())
	status, err := r.send.GetOfflineMessageStatus(ctx, &messagingv1.GetOfflineMessageStatusRequest{
		Org: "acme", App: "shop", Username: "omar", MessageId: strconv.FormatInt(second.GetId(), 10),
	})
	require.NoError(t, err)
	require.True(t, status.GetDelivered())

	// Each device of the one gets them, none of the other.
	for _, device := range []string{"web_1", "web_2"} {
		require.Eventually(t, func() bool {
			queues := r.open("omar", device)
			return len(queues) == 1 && queues[0].GetLastSeq() == 3
		}, 20*time.Second, 10*time.Millisecond)
		events, n := r.pull("omar", device)
		require.Equal(t, []string{"e1", "e2"}, events)
		require.Equal(t, 1, n)
	}
	require.Empty(t, r.open("lena", "web_1"))
	_, err = r.sync.ConfirmDevices(ctx, &messagingv1.ConfirmDevicesRequest{Positions: []*messagingv1.DevicePosition{
		{Org: "acme", App: "shop", User: "omar", Resource: "web_1", Conversation: "lena~omar", Seq: 3},
	}})
	require.NoError(t, err)
	require.Empty(t, r.open("omar", "web_1"))
	require.Len(t, r.open("omar", "web_2"), 1, "a device that has not confirmed them is told")
	require.Empty(t, r.open("omar", "web_3"), "a new one begins where the others are")
}

func TestContactEventsAreFollowedAfterAStop(t *testing.T) {
	t.Parallel()
	r := newRosterRig(t)
	r.open("omar", "web_1")
	r.stop()
	for i := range 5 {
		r.roster("e"+strconv.Itoa(i), "lena", "omar", time.Now())
	}
	r.start()
	var events []string
	require.Eventually(t, func() bool {
		events, _ = r.pull("omar", "web_1")
		return len(events) == 5
	}, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, []string{"e0", "e1", "e2", "e3", "e4"}, events)
}

// TestContactEventsThatComeAgainAfterLong has events in the log that were
// committed by an instance that died before it could say so, too long ago for
// the log to recognize their IDs.
func TestContactEventsThatComeAgainAfterLong(t *testing.T) {
	t.Parallel()
	r := newRosterRig(t)
	pushed := r.listen("acme#shop", "omar")
	p := bus.Partition("acme#shop", "lena~omar", rosterPartitions)
	old := time.Now().Add(-10 * time.Minute)
	for i, id := range []string{"e1", "e2"} {
		data, err := proto.Marshal(&busv1.LogRecord{
			App: "acme#shop", Kind: busv1.Kind_KIND_USER, Type: busv1.EntryType_ENTRY_TYPE_ROSTER, From: "lena", Body: []byte(id), Event: id,
			Targets: []*busv1.LogTarget{{Id: int64(i + 1), To: "omar"}},
		})
		require.NoError(t, err)
		require.NoError(t, r.conn.PublishStored(t.Context(), bus.LogSubject(p, busv1.Kind_KIND_USER, "acme#shop", "lena~omar"), data, ""))
	}
	for _, id := range []string{"e1", "e2", "e3", "e1"} {
		r.roster(id, "lena", "omar", old)
	}
	r.roster("e4", "lena", "omar", time.Now())
	var got []string
	for range 4 {
		got = append(got, reason(t, next(t, pushed)))
	}
	require.Equal(t, []string{"e1", "e2", "e3", "e4"}, got)
}

func TestContactEventsForSomebodyWhoIsGoneAreDropped(t *testing.T) {
	t.Parallel()
	r := newRosterRig(t)
	pushed, gone := r.listen("acme#shop", "omar"), r.listen("acme#shop", "dario")
	r.roster("deleted", "lena", "dario", time.Now())
	r.roster("another", "lena", "omar", time.Now().Add(-2*time.Hour))
	r.roster("meant", "dario", "omar", time.Now()) // by one who was deleted
	require.Equal(t, "meant", reason(t, next(t, pushed)))
	require.Empty(t, pushed)
	// What dario's devices would get of their own event is all there is.
	require.Equal(t, "meant", reason(t, next(t, gone)))
	require.Empty(t, gone)
}

// Events that the stream held across an upgrade are entries of the form that they
// had, and neither form is a message.
func TestContactEventsOfBefore(t *testing.T) {
	t.Parallel()
	r := newRosterRig(t)
	pushed := r.listen("acme#shop", "omar")
	r.open("omar", "web_1")
	now := time.Now()
	r.roster("e1", "lena", "omar", now)
	r.rosterEvent(&busv1.RosterEvent{Id: "e2", App: "acme#shop", From: "lena", To: "omar", Timestamp: now.UnixMilli(), Body: []byte("a RosterBody")})
	r.roster("e3", "lena", "omar", now)
	types := []busv1.EntryType{next(t, pushed).GetType(), next(t, pushed).GetType(), next(t, pushed).GetType()}
	event, before := busv1.EntryType_ENTRY_TYPE_EVENT, busv1.EntryType_ENTRY_TYPE_ROSTER
	require.Equal(t, []busv1.EntryType{event, before, event}, types)
	var events []string
	require.Eventually(t, func() bool {
		events, _ = r.pull("omar", "web_1")
		return len(events) == 3
	}, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, []string{"e1", "a RosterBody", "e3"}, events)
	resp, err := r.send.ListMessages(t.Context(), &messagingv1.ListMessagesRequest{Org: "acme", App: "shop", Conversation: "lena~omar"})
	require.NoError(t, err)
	require.Empty(t, resp.GetMessages())
	require.EqualValues(t, 3, resp.GetLastSeq())
}

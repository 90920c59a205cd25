package session_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/msyncclient"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
	"github.com/chappe-im/chappe/services/gateway/session"
)

func jid(name string) *msyncv1.JID {
	return &msyncv1.JID{AppKey: proto.String(appKey), Name: proto.String(name), Domain: proto.String("easemob.com")}
}

// manual is a device whose every frame the test sends and reads itself.
type manual struct {
	*msyncclient.Client
	r *rig
}

func (r *rig) manual(user string, opts msyncclient.Options) manual {
	opts.Manual = true
	return manual{r.dial(user, opts), r}
}

func (m manual) frame() *msyncv1.MSync {
	m.r.t.Helper()
	select {
	case f := <-m.Frames():
		return f
	case <-m.Done():
		require.FailNow(m.r.t, "connection ended", "%v", m.Err())
	case <-time.After(10 * time.Second):
		require.FailNow(m.r.t, "no frame")
	}
	return nil
}

func (m manual) page() *msyncv1.CommSyncDL {
	m.r.t.Helper()
	f := m.frame()
	require.Equal(m.r.t, msyncv1.MSync_SYNC, f.GetCommand())
	dl := new(msyncv1.CommSyncDL)
	require.NoError(m.r.t, proto.Unmarshal(f.GetPayload(), dl))
	require.Equal(m.r.t, msyncv1.Status_OK, dl.GetStatus().GetErrorCode())
	require.NotEmpty(m.r.t, dl.GetQueue().GetName())
	if len(dl.GetMetas()) > 0 && dl.GetQueue().GetName() != "~push" {
		require.NotNil(m.r.t, dl.IsLast)
		require.False(m.r.t, dl.GetIsLast())
		require.NotZero(m.r.t, dl.GetNextKey())
	}
	return dl
}

func (m manual) empty(queue string) {
	m.r.t.Helper()
	dl := m.page()
	require.Empty(m.r.t, dl.GetMetas())
	require.True(m.r.t, dl.GetIsLast())
	require.Equal(m.r.t, queue, dl.GetQueue().GetName())
}

func (m manual) notice() string {
	m.r.t.Helper()
	f := m.frame()
	require.Equal(m.r.t, msyncv1.MSync_NOTICE, f.GetCommand())
	n := new(msyncv1.CommNotice)
	require.NoError(m.r.t, proto.Unmarshal(f.GetPayload(), n))
	return n.GetQueue().GetName()
}

// unread asks and gives what the answer lists.
func (m manual) unread() map[string]uint32 {
	m.r.t.Helper()
	dl, err := m.Unread(m.r.t.Context())
	require.NoError(m.r.t, err)
	require.NotZero(m.r.t, dl.GetTimestamp())
	require.Equal(m.r.t, msyncv1.MSync_UNREAD, m.frame().GetCommand())
	out := map[string]uint32{}
	for _, q := range dl.GetUnread() {
		out[q.GetQueue().GetName()] = q.GetN()
	}
	return out
}

func (m manual) pull(queue string, key *uint64) {
	m.r.t.Helper()
	require.NoError(m.r.t, m.Pull(jid(queue), key))
}

func ids(metas []*msyncv1.Meta) []uint64 {
	out := make([]uint64, 0, len(metas))
	for _, m := range metas {
		out = append(out, m.GetId())
	}
	return out
}

// The pages that a device gets unasked: one at a time, what comes meanwhile goes
// with the next, and a confirmation is answered only by more.
func TestUnaskedPages(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	bob := r.manual("bob", msyncclient.Options{})
	require.Empty(t, bob.unread())
	one := r.text(t, "ann", "bob", "1")
	first := bob.page()
	require.Equal(t, []uint64{uint64(one.GetId())}, ids(first.GetMetas()))
	require.Equal(t, "ann", first.GetQueue().GetName())

	two, three := r.text(t, "ann", "bob", "2"), r.text(t, "ann", "bob", "3")
	other := r.text(t, "cid", "bob", "x")
	page := bob.page()
	require.Equal(t, "cid", page.GetQueue().GetName(), "another queue does not wait")
	require.Equal(t, []uint64{uint64(other.GetId())}, ids(page.GetMetas()))
	require.Equal(t, map[string]uint32{"ann": 3, "cid": 1}, bob.unread())

	bob.pull("cid", page.NextKey)
	bob.pull("ann", first.NextKey)
	// Since the device was told of both queues it will pull them; until then
	// nothing is pushed into them.
	bob.pull("cid", nil)
	bob.empty("cid")
	bob.pull("ann", nil)
	page = bob.page()
	require.Equal(t, []uint64{uint64(two.GetId()), uint64(three.GetId())}, ids(page.GetMetas()))
	require.NotEqual(t, first.GetNextKey(), page.GetNextKey())
	four := r.text(t, "ann", "bob", "4")
	arrived(r, "bob")
	bob.pull("ann", page.NextKey)
	page = bob.page()
	require.Equal(t, []uint64{uint64(four.GetId())}, ids(page.GetMetas()))
	bob.pull("ann", page.NextKey)
	bob.empty("ann")
	require.Empty(t, bob.unread())

	five := r.text(t, "ann", "bob", "5")
	page = bob.page()
	require.Equal(t, []uint64{uint64(five.GetId())}, ids(page.GetMetas()))
	six, seven := r.text(t, "ann", "bob", "6"), r.text(t, "ann", "bob", "7")
	arrived(r, "bob")
	bob.pull("ann", page.NextKey)
	page = bob.page()
	require.Equal(t, []uint64{uint64(six.GetId()), uint64(seven.GetId())}, ids(page.GetMetas()), "what came meanwhile comes at once")
	bob.pull("ann", page.NextKey)
	require.Empty(t, bob.unread(), "no answer to the last confirmation came before this one")
}

// arrived waits until a message to another device of the user has come through,
// so that what was pushed before has been taken in.
func arrived(r *rig, user string) {
	r.t.Helper()
	require.NoError(r.t, r.nats.Flush(r.t.Context()))
	probe := r.dial(user, msyncclient.Options{Resource: "probe"})
	_, err := probe.Unread(r.t.Context())
	require.NoError(r.t, err)
	r.synced(probe)
	probe.Close()
}

// One page of a queue is under way at a time: a pull that comes meanwhile is
// answered when that is confirmed, whatever key it has.
func TestPullsAreAlwaysAnswered(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	d := r.text(t, "ann", "bob", "1")
	bob := r.manual("bob", msyncclient.Options{})
	bob.pull("nobody", nil)
	bob.empty("nobody")
	require.Equal(t, map[string]uint32{"ann": 1}, bob.unread())
	bob.pull("ann", proto.Uint64(12345))
	page := bob.page()
	require.Equal(t, []uint64{uint64(d.GetId())}, ids(page.GetMetas()), "an unknown key confirms nothing")
	bob.pull("ann", nil)
	bob.pull("ann", proto.Uint64(0))
	bob.pull("ann", proto.Uint64(12345))
	require.Equal(t, map[string]uint32{"ann": 1}, bob.unread(), "no copy of the page came before this")
	bob.pull("ann", page.NextKey)
	for range 4 { // the three and the confirmation
		bob.empty("ann")
	}
	bob.pull("ann", page.NextKey)
	bob.empty("ann")
	require.Empty(t, bob.unread())
}

// However many pulls are under way and however many pages there are: a client
// that confirms each page with a further pull, as the protocol has it, comes to
// an end after one answer for each of its pulls.
func TestAnyNumberOfPullsEnds(t *testing.T) {
	t.Parallel()
	for _, pulls := range []int{1, 2, 5, 40} {
		for _, messages := range []int{1, 7} {
			t.Run(fmt.Sprintf("%d pulls of %d", pulls, messages), func(t *testing.T) {
				t.Parallel()
				r := start(t, func(c *session.Config) { c.PageEntries = 2 })
				want := make([]string, messages)
				for i := range want {
					want[i] = fmt.Sprint(i)
					r.text(t, "ann", "bob", want[i])
				}
				bob := r.manual("bob", msyncclient.Options{})
				bob.unread()
				for range pulls {
					bob.pull("ann", nil)
				}
				var got []string
				open, pages := pulls, 0
				for open > 0 {
					page := bob.page()
					open--
					if len(page.GetMetas()) == 0 {
						continue
					}
					for _, m := range page.GetMetas() {
						got = append(got, msyncclient.Received{Meta: m}.Text())
					}
					pages++
					open++
					bob.pull("ann", page.NextKey)
				}
				require.Equal(t, want, got)
				require.Equal(t, (messages+1)/2, pages, "no page twice")
				require.Empty(t, bob.unread())
				require.Empty(t, bob.Frames())
			})
		}
	}
}

// A confirmed page does not come again after a reconnect, an unconfirmed one
// does, with another key.
func TestSocketDiesBeforeConfirming(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.text(t, "ann", "bob", "1")
	bob := r.manual("bob", msyncclient.Options{Resource: "web"})
	bob.unread()
	bob.pull("ann", nil)
	page := bob.page()
	bob.pull("ann", page.NextKey)
	bob.empty("ann")
	two := r.text(t, "ann", "bob", "2")
	unconfirmed := bob.page()
	bob.Abort()

	bob = r.manual("bob", msyncclient.Options{Resource: "web"})
	require.Equal(t, map[string]uint32{"ann": 1}, bob.unread())
	bob.pull("ann", unconfirmed.NextKey) // as if it were sent late
	again := bob.page()
	require.Equal(t, []uint64{uint64(two.GetId())}, ids(again.GetMetas()))
	require.Greater(t, again.GetNextKey(), unconfirmed.GetNextKey())
}

func TestUnconfirmedPageFallsBackToNotice(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *session.Config) { c.ConfirmTimeout = 50 * time.Millisecond })
	bob := r.manual("bob", msyncclient.Options{})
	bob.unread()
	d := r.text(t, "ann", "bob", "1")
	require.Len(t, bob.page().GetMetas(), 1)
	require.Equal(t, "ann", bob.notice())
	bob.pull("ann", nil)
	page := bob.page()
	require.Equal(t, []uint64{uint64(d.GetId())}, ids(page.GetMetas()))
	require.Equal(t, "ann", bob.notice(), "asked for and not confirmed")
	bob.pull("ann", page.NextKey)
	bob.empty("ann")
}

func TestSecondDevice(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	phone := r.dial("ann", msyncclient.Options{Resource: "phone", KeepDuplicates: true})
	tablet := r.dial("ann", msyncclient.Options{Resource: "tablet", KeepDuplicates: true})
	r.synced(phone)
	r.synced(tablet)
	ack, err := phone.SendText(t.Context(), "bob", "from the phone")
	require.NoError(t, err)
	got := r.next(tablet)
	require.Equal(t, ack.ServerID, got.Meta.GetId())
	require.Equal(t, "bob", got.Queue, "the queue is named by the peer")
	require.Equal(t, "phone", got.Meta.GetFrom().GetClientResource())
	r.add(t, &busv1.Delivery{From: "ann", To: "bob", Body: textBody(t, "ann", "over REST, for nobody to see")})
	r.text(t, "bob", "ann", "to both")
	require.Equal(t, "to both", r.next(phone).Text())
	require.Equal(t, "to both", r.next(tablet).Text())
	r.nothing(phone)
	require.Eventually(t, func() bool {
		return r.confirmed("ann", "phone", "ann~bob") == 3 && r.confirmed("ann", "tablet", "ann~bob") == 3
	}, 5*time.Second, 5*time.Millisecond, "own entries count as confirmed")
	require.Zero(t, r.pulls, "no gap, so no look into the archive")
}

func TestLostPushes(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	bob := r.dial("bob", msyncclient.Options{})
	r.synced(bob)
	var n atomic.Int64
	r.set(func() { r.lose = func(*busv1.Delivery) bool { return n.Add(1)%3 == 2 } })
	want := make([]string, 0, 60)
	for i := range 60 {
		s := fmt.Sprint(i)
		want = append(want, s)
		r.text(t, "ann", "bob", s)
	}
	r.set(func() { r.lose = nil })
	r.text(t, "ann", "bob", "end")
	require.Equal(t, append(want, "end"), r.texts(bob, 61))
}

func TestArchiveBehindThePushes(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *session.Config) { c.TailEntries = 1 })
	bob := r.manual("bob", msyncclient.Options{})
	bob.unread()
	r.set(func() { r.lag = 100 })
	for i := range 5 { // the tail holds one of them
		r.text(t, "ann", "bob", fmt.Sprint(i))
	}
	page := bob.page()
	require.Len(t, page.GetMetas(), 1)
	bob.pull("ann", page.NextKey)
	require.Equal(t, "ann", bob.notice())
	bob.pull("ann", nil)
	bob.empty("ann") // the archive has nothing yet, however often it is asked
	require.Equal(t, "ann", bob.notice(), "but the device is told again")
	r.set(func() { r.lag = 0 })
	bob.pull("ann", nil)
	require.Len(t, bob.page().GetMetas(), 4)
}

// What was lost without anybody noticing is found when a loss is reported, and
// before that when the next push of the conversation shows it: nothing is shown
// out of order, and nothing confirmed past it.
func TestLossIsRepaired(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	for i := range 3 {
		r.text(t, "ann", "bob", fmt.Sprint(i))
	}
	bob := r.dial("bob", msyncclient.Options{Resource: "web"})
	require.Equal(t, []string{"0", "1", "2"}, r.texts(bob, 3))
	r.synced(bob)
	bob.Close()
	bob = r.dial("bob", msyncclient.Options{Resource: "web", KeepDuplicates: true})
	r.synced(bob)
	r.set(func() { r.lose = func(*busv1.Delivery) bool { return true } })
	r.text(t, "ann", "bob", "3")
	r.text(t, "cid", "bob", "c")
	r.set(func() { r.lose = nil })
	r.text(t, "ann", "bob", "4") // this connection knows nothing of the conversation
	require.Equal(t, []string{"3", "4"}, r.texts(bob, 2))
	require.Eventually(t, func() bool { return r.confirmed("bob", "web", "ann~bob") == 5 }, 5*time.Second, time.Millisecond)
	require.Empty(t, bob.Received())

	r.report() // NATS says that something was lost
	require.Equal(t, "c", r.next(bob).Text())
	require.Eventually(t, func() bool { return r.confirmed("bob", "web", "bob~cid") == 1 }, 5*time.Second, 5*time.Millisecond)
	require.Positive(t, count(t, r.metrics, "chappe_session_losses_total"))
	r.nothing(bob)
}

// A message in a conversation that the connection knows nothing of, confirmed
// just before the connection ends, does not come again.
func TestConfirmedJustBeforeClosing(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.text(t, "ann", "bob", "1")
	for i := range 5 {
		bob := r.dial("bob", msyncclient.Options{Resource: "web", KeepDuplicates: true})
		if i == 0 {
			require.Equal(t, "1", r.next(bob).Text())
		}
		r.synced(bob)
		text := fmt.Sprint("again ", i)
		r.text(t, "ann", "bob", text)
		require.Equal(t, text, r.next(bob).Text())
		_, err := bob.Unread(t.Context())
		require.NoError(t, err)
		bob.Close()
		require.Eventually(t, func() bool { return r.confirmed("bob", "web", "ann~bob") == int64(2+i) }, 5*time.Second, time.Millisecond)
	}
	require.Empty(t, r.asked, "the push says that nothing before it is missing")
}

func TestConfirmationsAreTriedAgain(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.set(func() { r.confirming = errors.New("database is away") })
	bob := r.dial("bob", msyncclient.Options{Resource: "web", KeepDuplicates: true})
	r.synced(bob)
	r.text(t, "ann", "bob", "1")
	require.Equal(t, "1", r.next(bob).Text())
	_, err := bob.Unread(t.Context())
	require.NoError(t, err)
	require.Eventually(t, func() bool { return count(t, r.metrics, "chappe_session_positions_total", "failed") > 1 }, 5*time.Second, 5*time.Millisecond)
	bob.Close()
	// The device comes back before the position could be handed on.
	bob = r.dial("bob", msyncclient.Options{Resource: "web", KeepDuplicates: true})
	r.synced(bob)
	r.nothing(bob)
	r.set(func() { r.confirming = nil })
	require.Eventually(t, func() bool { return r.confirmed("bob", "web", "ann~bob") == 1 }, 5*time.Second, 5*time.Millisecond)
}

func TestPushedPastTheQueues(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	bob := r.manual("bob", msyncclient.Options{Resource: "web"})
	bob.unread()
	d := r.add(t, &busv1.Delivery{From: "ann", To: "bob", OnlineOnly: true, Body: textBody(t, "ann", "now or never")})
	page := bob.page()
	require.Equal(t, []uint64{uint64(d.GetId())}, ids(page.GetMetas()))
	require.True(t, page.GetIsLast())
	require.Nil(t, page.NextKey)
	require.Equal(t, "~push", page.GetQueue().GetName())
	require.Empty(t, bob.unread())
	next := r.text(t, "ann", "bob", "stored")
	page = bob.page()
	require.Equal(t, []uint64{uint64(next.GetId())}, ids(page.GetMetas()))
	bob.pull("ann", page.NextKey)

	r.push(t, "bob", &busv1.Push{What: &busv1.Push_Notice{Notice: &busv1.Notice{
		Ns: int32(msyncv1.Meta_NOTIFY), Id: 77, From: "ann", Timestamp: 1234, Payload: []byte(`{"type":"presence"}`),
	}}})
	page = bob.page()
	require.True(t, page.GetIsLast())
	require.Equal(t, msyncv1.Meta_NOTIFY, page.GetMetas()[0].GetNs())
	require.JSONEq(t, `{"type":"presence"}`, string(page.GetMetas()[0].GetPayload()))
	require.EqualValues(t, 77, page.GetMetas()[0].GetId())
	r.push(t, "bob", &busv1.Push{What: &busv1.Push_Notice{Notice: &busv1.Notice{Ns: 5, Id: 78, From: "bob", ExceptResource: "web"}}})
	r.push(t, "bob", &busv1.Push{})
	require.Empty(t, bob.unread(), "no echo")
}

func TestAnswersToMetas(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	ann := r.dial("ann", msyncclient.Options{})
	chat := func() *msyncv1.Meta {
		return &msyncv1.Meta{To: jid("bob"), Ns: msyncv1.Meta_CHAT.Enum()}
	}
	muc, err := proto.Marshal(&msyncv1.MUCBody{MucId: jid("12345"), Operation: msyncv1.MUCBody_JOIN.Enum()})
	require.NoError(t, err)
	for _, c := range []struct {
		name   string
		meta   *msyncv1.Meta
		refuse error
		code   msyncv1.Status_ErrorCode
		reason string
	}{
		{"statistic", &msyncv1.Meta{Ns: msyncv1.Meta_STATISTIC.Enum()}, nil, 0, ""},
		{"room", &msyncv1.Meta{Ns: msyncv1.Meta_MUC.Enum(), Payload: muc}, nil, 1, "grpID 12345 does not exist!"},
		{"roster", &msyncv1.Meta{Ns: msyncv1.Meta_ROSTER.Enum()}, nil, 1, "operation is not supported"},
		{"with a code", chat(), errs.Forbidden("blocked").With("sync_code", "1"), 1, "blocked"},
		{"muted", chat(), errs.Forbidden("user is mute").With("sync_code", "15"), 15, "user is mute"},
		{"known reason of 7", chat(), errs.Forbidden("user is mute").With("sync_code", "7"), 7, "user is mute"},
		{"unknown reason of 7", chat(), errs.Forbidden("nope").With("sync_code", "7"), 1, "nope"},
		{"broken code", chat(), errs.Forbidden("nope").With("sync_code", "x"), 1, "nope"},
		{"rate", chat(), errs.RateLimited(time.Second), 7, "traffic limit"},
		{"size", chat(), errs.TooLarge(), 7, "Sorry, data is too large"},
		{"invalid", chat(), errs.Invalid("this is an invalid request."), 1, "this is an invalid request."},
		{"down", chat(), errs.Unavailable("message log", nil), 1, "message log is unavailable"},
		{"fault", chat(), errors.New("secret"), 1, "internal error"},
	} {
		r.set(func() { r.refuse = c.refuse })
		_, err := ann.SendMeta(t.Context(), c.meta)
		if c.code == 0 {
			require.NoError(t, err, c.name)
			continue
		}
		var refused *msyncclient.RefusedError
		require.ErrorAs(t, err, &refused, c.name)
		require.Equal(t, c.code, refused.Code, c.name)
		require.Equal(t, c.reason, refused.Reason, c.name)
	}
}

// The meta and its body arrive as they were sent, absent fields absent and zero
// fields zero.
func TestContentsPassUnchanged(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	ann, bob := r.dial("ann", msyncclient.Options{}), r.dial("bob", msyncclient.Options{})
	r.synced(bob)
	body := &msyncv1.MessageBody{
		Type: msyncv1.MessageBody_CHAT.Enum(),
		Contents: []*msyncv1.MessageBody_Content{
			{Type: msyncv1.MessageBody_Content_TEXT.Enum(), Text: proto.String("grüße 🎉"), SubType: msyncv1.MessageBody_Content_SUB_COMBINE.Enum()},
			{},
		},
		Ext: []*msyncv1.KeyValue{{Key: proto.String("k"), Type: msyncv1.KeyValue_BOOL.Enum(), Value: &msyncv1.KeyValue_VarintValue{VarintValue: 0}}},
	}
	payload, err := proto.Marshal(body)
	require.NoError(t, err)
	_, err = ann.SendMeta(t.Context(), &msyncv1.Meta{
		To: jid("bob"), Ns: msyncv1.Meta_CHAT.Enum(), Payload: payload,
		Ext: []*msyncv1.KeyValue{{Key: proto.String("tag"), Value: &msyncv1.KeyValue_VarintValue{VarintValue: 2}}},
	})
	require.NoError(t, err)
	got := r.next(bob)
	require.Len(t, got.Meta.GetExt(), 1)
	require.Equal(t, "tag", got.Meta.GetExt()[0].GetKey())
	gotBody, err := got.Body()
	require.NoError(t, err)
	body.From, body.To = &msyncv1.JID{Name: proto.String("ann")}, &msyncv1.JID{Name: proto.String("bob")}
	require.True(t, proto.Equal(body, gotBody), "%v", gotBody)
}

func TestUnknownCommand(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	raw := dialRaw(t, r.url)
	raw.login(t, "ann")
	raw.write(t, &msyncv1.MSync{Command: msyncv1.MSync_NOTICE.Enum()})
	f := raw.frame(t)
	dl := new(msyncv1.CommSyncDL)
	require.NoError(t, proto.Unmarshal(f.GetPayload(), dl))
	require.Equal(t, msyncv1.Status_UNKNOWN_COMMAND, dl.GetStatus().GetErrorCode())
	require.Equal(t, 1, r.server.Connections(), "it stays")
}

// A device that does not read is cut off, and misses nothing when it is back.
func TestSlowDevice(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	stuck := make(chan struct{})
	slow := r.dial("bob", msyncclient.Options{Resource: "web", OnReceived: func(msyncclient.Received) { <-stuck }})
	require.Eventually(t, func() bool { return r.server.Connections() == 1 }, 5*time.Second, 5*time.Millisecond)
	big := string(make([]byte, 40<<10))
	sent := 0
	require.Eventually(t, func() bool {
		for range 20 { // each sender has a queue of its own, and so a page on the way
			sent++
			r.text(t, fmt.Sprint("user", sent), "bob", big)
		}
		return count(t, r.metrics, "chappe_session_slow_consumers_total") == 1
	}, 20*time.Second, time.Millisecond)
	close(stuck)
	_ = r.ended(slow)
	back := r.dial("bob", msyncclient.Options{Resource: "web", Buffer: 100_000})
	r.synced(back)
	require.LessOrEqual(t, len(back.Received()), sent)
	require.NotEmpty(t, back.Received())
	require.Eventually(t, func() bool {
		for i := range sent {
			if r.confirmed("bob", "web", conversation("bob", fmt.Sprint("user", i+1))) != 1 {
				return false
			}
		}
		return true
	}, 10*time.Second, 10*time.Millisecond)
}

// More conversations than a connection holds are worked off in turns.
func TestMoreConversationsThanFit(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *session.Config) {
		c.MaxQueues, c.CleanQueues = 8, 4
		c.ConfirmTimeout = 100 * time.Millisecond
	})
	for i := range 50 {
		r.text(t, fmt.Sprint("user", i), "bob", "early")
	}
	bob := r.dial("bob", msyncclient.Options{Heartbeat: 20 * time.Millisecond})
	got := map[string]int{}
	for range 50 {
		got[r.next(bob).Queue]++
	}
	for i := range 50 {
		r.text(t, fmt.Sprint("user", i), "bob", "late")
	}
	for range 50 {
		got[r.next(bob).Queue]++
	}
	require.Len(t, got, 50)
	for q, n := range got {
		require.Equal(t, 2, n, q)
	}
}

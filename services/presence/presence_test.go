package presence_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

func eachNode(t *testing.T, f func(t *testing.T, n *node)) {
	t.Helper()
	t.Parallel()
	testkit.EachDatabase(t, "presence", nil, func(t *testing.T, db *store.DB) { f(t, newBed(t, db).start(t)) })
}

func (n *node) set(t *testing.T, user, resource, status, ext string) error {
	t.Helper()
	_, err := n.presence.SetPresence(t.Context(), &presencev1.SetPresenceRequest{
		Org: org, App: app, Username: user, Resource: resource, Status: status, Ext: ext,
	})
	return err
}

func (n *node) get(t *testing.T, users ...string) []*presencev1.Presence {
	t.Helper()
	r, err := n.presence.GetPresence(t.Context(), &presencev1.GetPresenceRequest{Org: org, App: app, Username: "amelia", Usernames: users})
	require.NoError(t, err)
	return r.GetResult()
}

func (n *node) subscribe(t *testing.T, user, expiry string, users ...string) ([]*presencev1.Presence, error) {
	t.Helper()
	r, err := n.presence.SubscribePresence(t.Context(), &presencev1.SubscribePresenceRequest{
		Org: org, App: app, Username: user, Expiry: expiry, Usernames: users,
	})
	return r.GetResult(), err
}

func (n *node) unsubscribe(t *testing.T, user string, users ...string) error {
	t.Helper()
	_, err := n.presence.UnsubscribePresence(t.Context(), &presencev1.UnsubscribePresenceRequest{
		Org: org, App: app, Username: user, Usernames: users,
	})
	return err
}

func (n *node) list(t *testing.T, user string, page, size int32) (int64, []string, error) {
	t.Helper()
	r, err := n.presence.ListPresenceSubscriptions(t.Context(), &presencev1.ListPresenceSubscriptionsRequest{
		Org: org, App: app, Username: user, PageNum: &page, PageSize: &size,
	})
	var names []string
	for _, s := range r.GetSubscriptions() {
		require.NotZero(t, s.GetExpiry())
		names = append(names, s.GetUid())
	}
	return r.GetTotal(), names, err
}

func TestSetPresence(t *testing.T) {
	eachNode(t, func(t *testing.T, n *node) {
		cases := []struct {
			name, user, resource, status, ext string
			message                           string
			stored                            string
		}{
			{"online", "amelia", "android_7f01", "1", "in a meeting", "", "1"},
			{"offline", "amelia", "android_7f01", "0", "", "", "0"},
			{"own status", "amelia", "ios_1", "100", "x", "", "100"},
			{"bare kind", "amelia", "android", "2", "x", "", "2"},
			{"web SDK's name", "amelia", "webim_web_1700000000000", "3", "x", "", "3"},
			{"other case", "Amelia", "web_1", "1", "x", "", "1"},
			{"leading zeros", "amelia", "web_2", "007", "x", "", "7"},
			{"largest", "amelia", "web_2", "2147483647", "x", "", "2147483647"},
			{"too large", "amelia", "web_2", "2147483648", "x", "set presence failed", ""},
			{"far too large", "amelia", "web_2", "99999999999999999999", "x", "set presence failed", ""},
			{"negative", "amelia", "web_2", "-1", "x", "set presence failed", ""},
			{"signed", "amelia", "web_2", "+1", "x", "set presence failed", ""},
			{"word", "amelia", "web_2", "busy", "x", "set presence failed", ""},
			{"empty status", "amelia", "web_2", "", "x", "set presence failed", ""},
			{"fraction", "amelia", "web_2", "1.5", "x", "set presence failed", ""},
			{"ext of 1024", "amelia", "web_3", "1", strings.Repeat("é", 512), "", "1"},
			{"ext of 1025", "amelia", "web_3", "5", strings.Repeat("é", 512) + "x", "ext is too big", ""},
			{"unknown kind", "amelia", "toaster_1", "1", "x", "resource not exist", ""},
			{"kind with empty ID", "amelia", "web_", "1", "x", "resource not exist", ""},
			{"illegal characters", "amelia", "web_a b", "1", "x", "resource not exist", ""},
			{"empty resource", "amelia", "", "1", "x", "resource not exist", ""},
			{"resource of 256", "amelia", "web_" + strings.Repeat("x", 252), "1", "x", "", "1"},
			{"resource of 257", "amelia", "web_" + strings.Repeat("x", 253), "1", "x", "resource not exist", ""},
		}
		for _, c := range cases {
			before := n.get(t, "amelia")[0]
			err := n.set(t, c.user, c.resource, c.status, c.ext)
			after := n.get(t, "amelia")[0]
			if c.message != "" {
				requireInvalid(t, err, c.message)
				require.Equal(t, before.GetExt(), after.GetExt(), c.name)
				require.Equal(t, before.GetStatus(), after.GetStatus(), c.name)
				continue
			}
			require.NoError(t, err, c.name)
			require.NoError(t, n.set(t, c.user, c.resource, c.status, c.ext), "%s, again", c.name)
			require.Equal(t, c.ext, after.GetExt(), c.name)
			require.Equal(t, c.stored, after.GetStatus()[c.resource], c.name)
		}
		for _, user := range []string{"nobody", "a b", ""} {
			requireReason(t, n.set(t, user, "web_1", "1", "x"), errs.ReasonNotFound, "")
		}
		// Setting a status is no login.
		require.Zero(t, n.get(t, "amelia")[0].GetLastTime())
		require.False(t, n.online(t, "amelia"))
		// By UUID it is the same user.
		require.NoError(t, n.set(t, n.accounts.users["amelia"], "ios_1", "9", "by UUID"))
		require.Equal(t, "by UUID", n.get(t, "amelia")[0].GetExt())
	})
}

func TestPresenceFollowsConnections(t *testing.T) {
	eachNode(t, func(t *testing.T, n *node) {
		one := func() *presencev1.Presence { t.Helper(); return n.get(t, "bruno")[0] }
		p := one()
		require.Equal(t, "bruno", p.GetUid())
		require.Zero(t, p.GetLastTime())
		require.Empty(t, p.GetStatus())
		require.Zero(t, p.GetExpiry())

		// A login is there at once, a name that no REST call could give too.
		n.login(t, "c1", "bruno", "toaster")
		p = one()
		require.Equal(t, map[string]string{"toaster": "1"}, p.GetStatus())
		loggedIn := p.GetLastTime()
		require.InDelta(t, n.clock.now().Unix(), loggedIn, 5)

		require.NoError(t, n.set(t, "bruno", "toaster", "5", "hot"))
		require.Equal(t, map[string]string{"toaster": "5"}, one().GetStatus())
		n.clock.advance(100 * time.Second)
		n.logout(t, "c1", "bruno", "toaster")
		p = one()
		require.Equal(t, map[string]string{"toaster": "0"}, p.GetStatus())
		require.Equal(t, "hot", p.GetExt())
		require.GreaterOrEqual(t, p.GetLastTime(), loggedIn+99)

		// What it said of itself ended with that connection.
		n.clock.advance(100 * time.Second)
		n.login(t, "c2", "bruno", "toaster")
		require.NoError(t, n.set(t, "bruno", "web_9", "7", "hot"))
		require.Equal(t, map[string]string{"toaster": "1", "web_9": "7"}, one().GetStatus())
		n.clock.advance(100 * time.Second)
		n.logout(t, "c2", "bruno", "toaster")
		require.Equal(t, map[string]string{"toaster": "0", "web_9": "7"}, one().GetStatus())

		// A restart changes none of it.
		last := one()
		n.stop(t)
		again := n.bed.start(t)
		require.Equal(t, last.GetStatus(), again.get(t, "bruno")[0].GetStatus())
		require.Equal(t, last.GetLastTime(), again.get(t, "bruno")[0].GetLastTime())
	})
}

func TestOnlyTheLastDevicesAreKept(t *testing.T) {
	eachNode(t, func(t *testing.T, n *node) {
		for i := range 40 {
			id := strconv.Itoa(i)
			n.login(t, id, "bruno", "web_"+id)
			n.clock.advance(time.Second)
			n.logout(t, id, "bruno", "web_"+id)
			n.clock.advance(time.Second)
		}
		require.Eventually(t, func() bool { return len(n.get(t, "bruno")[0].GetStatus()) == 32 }, patience, step)
		status := n.get(t, "bruno")[0].GetStatus()
		require.Contains(t, status, "web_39")
		require.Contains(t, status, "web_8")
		require.NotContains(t, status, "web_7")
	})
}

func TestGetPresence(t *testing.T) {
	eachNode(t, func(t *testing.T, n *node) {
		n.login(t, "c1", "carla", "web_1")
		require.NoError(t, n.set(t, "bruno", "ios_1", "2", "x"))
		r := n.get(t, "Carla", "nobody", "bruno", "carla")
		require.Len(t, r, 4)
		require.Equal(t, "carla", r[0].GetUid())
		require.Equal(t, map[string]string{"web_1": "1"}, r[0].GetStatus())
		require.Equal(t, "nobody", r[1].GetUid())
		require.Empty(t, r[1].GetStatus())
		require.Equal(t, map[string]string{"ios_1": "2"}, r[2].GetStatus())
		require.Equal(t, r[0].GetStatus(), r[3].GetStatus())
		require.Len(t, n.get(t, users(100)...), 100)

		get := func(user string, users []string) error {
			_, err := n.presence.GetPresence(t.Context(), &presencev1.GetPresenceRequest{Org: org, App: app, Username: user, Usernames: users})
			return err
		}
		requireInvalid(t, get("amelia", users(101)), "too many get presences")
		requireInvalid(t, get("amelia", nil), "usernames is empty")
		require.NoError(t, get("nobody", users(1)), "who asks need not exist")
	})
}

func TestSubscribePresence(t *testing.T) {
	eachNode(t, func(t *testing.T, n *node) {
		n.login(t, "c1", "bruno", "web_1")
		r, err := n.subscribe(t, "Amelia", "3600", "Bruno", "nobody", "bruno")
		require.NoError(t, err)
		require.Len(t, r, 3)
		require.Equal(t, "bruno", r[0].GetUid())
		require.Equal(t, map[string]string{"web_1": "1"}, r[0].GetStatus())
		require.InDelta(t, n.clock.now().Unix()+3600, r[0].GetExpiry(), 5)
		require.Zero(t, r[1].GetLastTime())
		require.Empty(t, r[1].GetStatus())
		total, names, err := n.list(t, "amelia", 1, 500)
		require.NoError(t, err)
		require.EqualValues(t, 2, total)
		require.Equal(t, []string{"bruno", "nobody"}, names)

		for _, expiry := range []string{"1", "2592000"} {
			_, err = n.subscribe(t, "carla", expiry, "bruno")
			require.NoError(t, err, expiry)
		}
		for _, expiry := range []string{"0", "-1", "2592001", "+5", "abc", "", "1.5", "99999999999999999999"} {
			_, err = n.subscribe(t, "carla", expiry, "bruno")
			requireInvalid(t, err, errs.MessageInvalidRequest)
		}
		_, err = n.subscribe(t, "amelia", "60", users(100)...)
		require.NoError(t, err)
		_, err = n.subscribe(t, "amelia", "60", users(101)...)
		requireInvalid(t, err, "too many sub presence")
		_, err = n.subscribe(t, "amelia", "60")
		requireInvalid(t, err, "usernames is empty")
		_, err = n.subscribe(t, "amelia", "60", "bruno", "a b")
		requireInvalid(t, err, errs.MessageInvalidRequest)
		_, err = n.subscribe(t, "amelia", "60", "bruno", "AMELIA")
		requireInvalid(t, err, "you can't sub yourself")
		_, err = n.subscribe(t, n.accounts.users["amelia"], "60", "amelia")
		requireInvalid(t, err, "you can't sub yourself")
		_, err = n.subscribe(t, "nobody", "60", "bruno")
		requireReason(t, err, errs.ReasonNotFound, "")
	})
}

func TestSubscriptionsEndInTime(t *testing.T) {
	eachNode(t, func(t *testing.T, n *node) {
		_, err := n.subscribe(t, "amelia", "60", "bruno")
		require.NoError(t, err)
		_, err = n.subscribe(t, "amelia", "120", "carla")
		require.NoError(t, err)
		n.clock.advance(50 * time.Second)
		r, err := n.subscribe(t, "amelia", "20", "carla") // renewed to less
		require.NoError(t, err)
		require.InDelta(t, n.clock.now().Unix()+20, r[0].GetExpiry(), 2)
		n.clock.advance(10 * time.Second)
		total, names, err := n.list(t, "amelia", 1, 10)
		require.NoError(t, err)
		require.EqualValues(t, 1, total)
		require.Equal(t, []string{"carla"}, names)
		n.clock.advance(10 * time.Second)
		total, names, err = n.list(t, "amelia", 1, 10)
		require.NoError(t, err)
		require.Zero(t, total)
		require.Empty(t, names)

		// The rows go by themselves, soon.
		require.Eventually(t, func() bool {
			var rows int
			err := n.db.Read().QueryRowContext(t.Context(), "SELECT count(*) FROM subscriptions").Scan(&rows)
			return err == nil && rows == 0
		}, patience, step)
	})
}

func TestSubscriptionsAreBounded(t *testing.T) {
	eachNode(t, func(t *testing.T, n *node) {
		batch := func(name string) []string {
			out := make([]string, 100)
			for i := range out {
				out[i] = fmt.Sprintf("%s-%02d", name, i)
			}
			return out
		}
		_, err := n.subscribe(t, "amelia", "100", batch("short")...)
		require.NoError(t, err)
		for i := range 29 {
			_, err := n.subscribe(t, "amelia", "10000", batch(fmt.Sprint("long", i))...)
			require.NoError(t, err)
		}
		total, _, err := n.list(t, "amelia", 1, 1)
		require.NoError(t, err)
		require.EqualValues(t, 3000, total)

		// One more takes the place of the one with the least time left, also
		// when it has even less itself.
		_, err = n.subscribe(t, "amelia", "50", "newcomer")
		require.NoError(t, err)
		total, _, err = n.list(t, "amelia", 1, 1)
		require.NoError(t, err)
		require.EqualValues(t, 3000, total)
		require.NoError(t, n.unsubscribe(t, "amelia", append(batch("short")[1:], "newcomer")...))
		total, _, err = n.list(t, "amelia", 1, 1)
		require.NoError(t, err)
		require.EqualValues(t, 2900, total)

		// In parallel as well.
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				if _, err := n.subscribe(t, "amelia", "20000", batch(fmt.Sprint("more", i))...); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		total, names, err := n.list(t, "amelia", 6, 500)
		require.NoError(t, err)
		require.EqualValues(t, 3000, total)
		require.Len(t, names, 500)
		_, names, err = n.list(t, "amelia", 7, 500)
		require.NoError(t, err)
		require.Empty(t, names)
	})
}

func TestUnsubscribePresence(t *testing.T) {
	eachNode(t, func(t *testing.T, n *node) {
		_, err := n.subscribe(t, "amelia", "60", "bruno", "carla")
		require.NoError(t, err)
		require.NoError(t, n.unsubscribe(t, "Amelia", "Bruno", "never", "bruno"))
		require.NoError(t, n.unsubscribe(t, "amelia", "bruno"))
		_, names, err := n.list(t, "amelia", 1, 10)
		require.NoError(t, err)
		require.Equal(t, []string{"carla"}, names)
		require.NoError(t, n.unsubscribe(t, "amelia", users(100)...))
		requireInvalid(t, n.unsubscribe(t, "amelia", users(101)...), "too many unsub presences")
		requireInvalid(t, n.unsubscribe(t, "amelia"), "usernames cannot be null")
		requireReason(t, n.unsubscribe(t, "nobody", "bruno"), errs.ReasonNotFound, "")
	})
}

func TestListPresenceSubscriptions(t *testing.T) {
	eachNode(t, func(t *testing.T, n *node) {
		_, err := n.subscribe(t, "amelia", "60", "u3", "u1", "u2")
		require.NoError(t, err)
		cases := map[string]struct {
			user       string
			page, size int32
			total      int64
			names      []string
			message    string
		}{
			"all":            {"amelia", 1, 500, 3, []string{"u1", "u2", "u3"}, ""},
			"page 0":         {"amelia", 0, 10, 0, nil, errs.MessageInvalidRequest},
			"size 0":         {"amelia", 1, 0, 0, nil, errs.MessageInvalidRequest},
			"other case":     {"AMELIA", 1, 2, 3, []string{"u1", "u2"}, ""},
			"second page":    {"amelia", 2, 2, 3, []string{"u3"}, ""},
			"past the end":   {"amelia", 3, 2, 3, nil, ""},
			"far past":       {"amelia", 2147483647, 500, 3, nil, ""},
			"none":           {"bruno", 1, 10, 0, nil, ""},
			"unknown user":   {"nobody", 1, 10, 0, nil, ""},
			"too many":       {"amelia", 1, 501, 0, nil, "too many queries"},
			"negative page":  {"amelia", -1, 10, 0, nil, errs.MessageInvalidRequest},
			"negative size":  {"amelia", 1, -1, 0, nil, errs.MessageInvalidRequest},
			"not subscribed": {"u1", 1, 10, 0, nil, ""},
		}
		for name, c := range cases {
			total, names, err := n.list(t, c.user, c.page, c.size)
			if c.message != "" {
				requireInvalid(t, err, c.message)
				continue
			}
			require.NoError(t, err, name)
			require.Equal(t, c.total, total, name)
			require.Equal(t, c.names, names, name)
		}
		r, err := n.presence.ListPresenceSubscriptions(t.Context(), &presencev1.ListPresenceSubscriptionsRequest{Org: org, App: app, Username: "amelia"})
		require.NoError(t, err)
		require.Len(t, r.GetSubscriptions(), 1, "the page that is not asked for is the first, of one")
		require.Equal(t, "u1", r.GetSubscriptions()[0].GetUid())
	})
}

// TestTextsThatDatabasesDoNotTake are refused, or no user's, before a database
// sees them.
func TestTextsThatDatabasesDoNotTake(t *testing.T) {
	eachNode(t, func(t *testing.T, n *node) {
		requireInvalid(t, n.set(t, "amelia", "web_1", "1", "a\x00b"), errs.MessageInvalidRequest)
		require.Len(t, n.get(t, "amelia", "a\x00b", "bruno", ""), 4)
		require.NoError(t, n.unsubscribe(t, "amelia", "a\x00b"))
		_, err := n.subscribe(t, "amelia", "60", "a\x00b")
		requireInvalid(t, err, errs.MessageInvalidRequest)
	})
}

// told is what a notice tells of a user; times are in milliseconds.
type told struct {
	uid, ext         string
	changed, expires int64
	statuses         map[string]string
}

func readNotice(t *testing.T, p *busv1.Push) (*busv1.Notice, told) {
	t.Helper()
	notice := p.GetNotice()
	require.NotNil(t, notice)
	require.Empty(t, notice.GetPayload(), "the client protocol is not known here")
	change := notice.GetEvent().GetPresence()
	require.NotNil(t, change)
	v := told{notice.GetFrom(), change.GetExt(), change.GetChanged(), change.GetExpires(), make(map[string]string)}
	for _, d := range change.GetDevices() {
		v.statuses[d.GetResource()] = d.GetStatus()
	}
	require.Len(t, v.statuses, len(change.GetDevices()))
	return notice, v
}

func TestSubscribersAreTold(t *testing.T) {
	eachNode(t, func(t *testing.T, n *node) {
		r, err := n.subscribe(t, "amelia", "60", "bruno")
		require.NoError(t, err)
		_, err = n.subscribe(t, "carla", "60", "bruno") // is not online
		require.NoError(t, err)
		pushes, absent := n.pushes(t, "amelia"), n.pushes(t, "carla")
		n.login(t, "a1", "amelia", "web_1")

		n.login(t, "b1", "bruno", "web_9")
		notice, v := readNotice(t, <-pushes)
		require.NotZero(t, notice.GetId())
		require.InDelta(t, n.clock.now().UnixMilli(), notice.GetTimestamp(), 5000)
		require.Equal(t, "bruno", v.uid)
		require.Equal(t, map[string]string{"web_9": "1"}, v.statuses)
		require.Equal(t, r[0].GetExpiry(), v.expires/1000)
		require.InDelta(t, n.clock.now().UnixMilli(), v.changed, 5000)

		ext := "line\nbreak\ttab \x01 \"é\" </script>"
		require.NoError(t, n.set(t, "bruno", "web_9", "5", ext))
		next, v := readNotice(t, <-pushes)
		require.NotEqual(t, notice.GetId(), next.GetId())
		require.Equal(t, ext, v.ext)
		require.Equal(t, map[string]string{"web_9": "5"}, v.statuses)

		n.logout(t, "b1", "bruno", "web_9")
		_, v = readNotice(t, <-pushes)
		require.Equal(t, map[string]string{"web_9": "0"}, v.statuses)

		require.NoError(t, n.nats.Flush(t.Context()))
		require.Empty(t, absent)
	})
}

func TestOnlySubscribersAreTold(t *testing.T) {
	eachNode(t, func(t *testing.T, n *node) {
		n.login(t, "a1", "amelia", "web_1")
		n.login(t, "d1", "dario", "web_1")
		_, err := n.subscribe(t, "dario", "10000", "bruno", "carla")
		require.NoError(t, err)
		_, err = n.subscribe(t, "amelia", "60", "bruno")
		require.NoError(t, err)
		type push struct {
			subject string
			told    told
		}
		pushes := make(chan push, 16)
		_, err = n.nats.Subscribe("dn.>", func(m *natsx.Msg) {
			var p busv1.Push
			if proto.Unmarshal(m.Data, &p) == nil {
				_, v := readNotice(t, &p)
				pushes <- push{m.Subject, v}
			}
		})
		require.NoError(t, err)
		require.NoError(t, n.nats.Flush(t.Context()))
		// Subscribers are told in the order of their names, so nobody before
		// dario is told once dario is.
		change := func(user string, all ...string) {
			t.Helper()
			require.NoError(t, n.set(t, user, "web_9", "5", user))
			for _, subscriber := range all {
				p := <-pushes
				require.Equal(t, bus.UserSubject(appKey, subscriber), p.subject)
				require.Equal(t, user, p.told.uid)
			}
		}
		change("bruno", "amelia", "dario")
		change("carla", "dario")
		n.clock.advance(61 * time.Second)
		change("bruno", "dario")
		_, err = n.subscribe(t, "amelia", "60", "bruno", "carla")
		require.NoError(t, err)
		change("carla", "amelia", "dario")
		require.NoError(t, n.unsubscribe(t, "amelia", "carla"))
		change("carla", "dario")
		change("bruno", "amelia", "dario")
		n.logout(t, "a1", "amelia", "web_1")
		change("bruno", "dario")
	})
}

func TestAThousandSubscribersAreTold(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	const subscribers = 1500 // more than a page
	n.accounts.mu.Lock()
	for i := range subscribers {
		n.accounts.users[fmt.Sprint("sub", i)] = ""
	}
	n.accounts.mu.Unlock()
	var all []<-chan *busv1.Push
	for i := range subscribers {
		user := fmt.Sprint("sub", i)
		n.login(t, "c-"+user, user, "web_1")
		_, err := n.subscribe(t, user, "600", "bruno")
		require.NoError(t, err)
		all = append(all, n.pushes(t, user))
	}
	for round := range 5 {
		ext := fmt.Sprint("to all ", round)
		began := time.Now()
		require.NoError(t, n.set(t, "bruno", "web_1", "3", ext))
		got := make([]*busv1.Push, len(all))
		for i, pushes := range all {
			got[i] = <-pushes
		}
		t.Logf("%d subscribers told in %s", subscribers, time.Since(began))
		for _, p := range got {
			_, v := readNotice(t, p)
			require.Equal(t, ext, v.ext)
		}
	}
}

func TestDeletedUserLeavesNothing(t *testing.T) {
	eachNode(t, func(t *testing.T, n *node) {
		// As the account service does it.
		require.NoError(t, n.nats.EnsureStream(t.Context(), natsx.StreamSpec{Name: bus.EventStream, Subjects: []string{bus.EventFilter}}))
		pushes := n.pushes(t, "amelia")
		n.obeys(t, "bruno")
		n.login(t, "a1", "amelia", "web_1")
		n.login(t, "b1", "bruno", "web_1")
		_, err := n.subscribe(t, "amelia", "600", "bruno", "carla")
		require.NoError(t, err)
		_, err = n.subscribe(t, "bruno", "600", "amelia", "carla")
		require.NoError(t, err)
		require.NoError(t, n.set(t, "bruno", "ios_1", "5", "last words"))
		count := func(where string) (rows int) {
			for _, q := range []string{
				"subscriptions WHERE subscriber = " + where, "subscriptions WHERE target = " + where, "subscribers WHERE username = " + where,
				"users WHERE username = " + where, "devices WHERE username = " + where,
			} {
				var c int
				require.NoError(t, n.db.Read().QueryRowContext(t.Context(), "SELECT count(*) FROM "+q).Scan(&c))
				rows += c
			}
			return rows
		}
		require.Eventually(t, func() bool { return count("'bruno'") == 7 }, patience, step)

		n.accounts.delete("bruno")
		push, err := proto.Marshal(&busv1.Push{What: &busv1.Push_Disconnect{Disconnect: &busv1.Disconnect{Reason: busv1.Disconnect_REASON_REMOVED}}})
		require.NoError(t, err)
		require.NoError(t, n.nats.Publish(bus.UserSubject(appKey, "bruno"), push))
		event, err := proto.Marshal(&busv1.UserEvent{App: appKey, User: "bruno", Change: busv1.UserEvent_CHANGE_DELETED})
		require.NoError(t, err)
		require.NoError(t, n.nats.PublishStored(t.Context(), bus.UserEventSubject(appKey, "bruno"), event, ""))

		require.Eventually(t, func() bool {
			p := <-pushes
			_, v := readNotice(t, p)
			return v.statuses["web_1"] == "0"
		}, patience, step)
		require.Eventually(t, func() bool { return count("'bruno'") == 0 }, patience, step)
		// The end of the connection leaves no row behind either.
		n.login(t, "d1", "dario", "web_1")
		require.Eventually(t, func() bool { return count("'dario'") == 2 }, patience, step)
		require.Zero(t, count("'bruno'"))
		require.NotZero(t, count("'amelia'"))
	})
}

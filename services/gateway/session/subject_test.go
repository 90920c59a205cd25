package session_test

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/msyncclient"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	"github.com/chappe-im/chappe/services/gateway/session"
)

const group = busv1.Kind_KIND_GROUP

// group makes a group of members.
func (r *rig) group(name string, members ...string) {
	r.set(func() {
		if r.backend.members == nil {
			r.backend.members = make(map[string][]string)
		}
		r.backend.members[name] = members
	})
}

// say stores a text in a group.
func (r *rig) say(from, resource, group, text string) {
	r.t.Helper()
	r.add(r.t, &busv1.Delivery{
		Kind: busv1.Kind_KIND_GROUP, From: from, FromResource: resource, To: group, SyncSender: true,
		Type: busv1.EntryType_ENTRY_TYPE_TXT, Body: textBody(r.t, from, text),
	})
}

func (r *rig) find(user, resource string) session.Conn {
	r.t.Helper()
	c, ok := r.server.Find(ident.User{App: appKey, ID: ident.UserID(user)}, resource)
	require.True(r.t, ok, "%s/%s is not connected", user, resource)
	return c
}

func (r *rig) follow(user, resource, name string) session.Conn {
	r.t.Helper()
	c := r.find(user, resource)
	require.NoError(r.t, c.Follow(r.t.Context(), group, name))
	return c
}

func (r *rig) device(user, resource string) *msyncclient.Client {
	r.t.Helper()
	c := r.dial(user, msyncclient.Options{Resource: resource, KeepDuplicates: true, Buffer: 10_000})
	r.synced(c)
	return c
}

// listening waits until so many subjects have so many connections in all.
func (r *rig) listening(subjects, conns int) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		s, c := r.server.Listeners()
		return s == subjects && c == conns
	}, 10*time.Second, time.Millisecond)
}

func numbers(from, to int) []string {
	out := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, strconv.Itoa(i))
	}
	return out
}

// A connection is on its user's subject and on a group's: entries of the group
// reach all connections on it but the device that sent them, and nobody else.
func TestConnectionsOnAGroup(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.group("77", "ann", "bob")
	ann, annToo, bob, cid := r.device("ann", "web"), r.device("ann", "ios"), r.device("bob", "web"), r.device("cid", "web")
	namesake := r.device("77", "web")
	r.listening(4, 5)
	for _, d := range []string{"ann/web", "ann/ios", "bob/web"} {
		user, resource := d[:3], d[4:]
		r.follow(user, resource, "77")
		r.follow(user, resource, "77") // again is nothing new
	}
	r.listening(5, 8)
	pushed := count(t, r.metrics, "chappe_session_pushes_total", "delivery")
	r.say("ann", "web", "77", "one")
	r.text(t, "cid", "bob", "between")
	r.say("bob", "web", "77", "two")
	for client, want := range map[*msyncclient.Client][]string{annToo: {"77 one", "77 two"}, ann: {"77 two"}} {
		for _, w := range want {
			m := r.next(client)
			require.Equal(t, w, m.Queue+" "+m.Text())
			require.Equal(t, "77", m.Meta.GetTo().GetName())
			require.Equal(t, "conference.easemob.com", m.Meta.GetTo().GetDomain())
		}
	}
	got := map[string]string{}
	for range 2 {
		m := r.next(bob)
		got[m.Queue] = m.Text()
	}
	require.Equal(t, map[string]string{"77": "one", "cid": "between"}, got)
	for _, d := range []string{"ann/web", "ann/ios", "bob/web"} {
		require.Eventually(t, func() bool { return r.confirmed(d[:3], d[4:], "77") == 2 }, 10*time.Second, time.Millisecond)
	}
	for _, c := range []*msyncclient.Client{ann, annToo, bob, cid, namesake} {
		r.nothing(c)
	}
	// Two entries of the group, and one of cid and bob for each of them.
	require.InDelta(t, pushed+4, count(t, r.metrics, "chappe_session_pushes_total", "delivery"), 0)
}

// An entry is encoded once for all connections of a subject.
func TestOneEncodingForAll(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.group("77", "ann", "bob", "cid")
	conns := make([]session.Conn, 0, 3)
	for _, user := range []string{"ann", "bob", "cid"} {
		m := r.manual(user, msyncclient.Options{Resource: "web"})
		m.unread()
		conns = append(conns, r.follow(user, "web", "77"))
	}
	for _, c := range conns { // what is pushed before waits in the archive
		require.Eventually(t, func() bool { return !c.Asking() }, 10*time.Second, time.Millisecond)
	}
	r.say("dan", "web", "77", "hello")
	var first []byte
	for _, c := range conns {
		var waiting [][]byte
		require.Eventually(t, func() bool { waiting = c.Waiting("77"); return len(waiting) == 1 }, 10*time.Second, time.Millisecond)
		if first == nil {
			first = waiting[0]
		}
		require.Same(t, &first[0], &waiting[0][0])
	}
}

// Devices that come onto a subject in the middle of traffic are shown all of it,
// once and in order: what was pushed before they were on it too.
func TestFollowingInTheMiddle(t *testing.T) {
	t.Parallel()
	const entries, devices = 300, 12
	r := start(t, nil)
	members := make([]string, 0, devices)
	for i := range devices {
		members = append(members, "user"+strconv.Itoa(i))
	}
	r.group("77", members...)
	clients := make([]*msyncclient.Client, 0, devices)
	for _, user := range members {
		clients = append(clients, r.device(user, "web"))
	}
	turns := make([]chan struct{}, devices) // spread over the traffic
	for i := range turns {
		turns[i] = make(chan struct{})
	}
	var all sync.WaitGroup
	all.Go(func() {
		for i := range entries {
			if i%(entries/devices) == 0 {
				close(turns[i/(entries/devices)])
			}
			r.say("dan", "web", "77", strconv.Itoa(i))
		}
	})
	for i, user := range members {
		c := r.find(user, "web")
		all.Go(func() {
			<-turns[i]
			if err := c.Follow(t.Context(), group, "77"); err != nil {
				t.Errorf("follow: %v", err)
			}
		})
	}
	all.Wait()
	for i, c := range clients {
		require.Equal(t, numbers(0, entries), r.texts(c, entries), "device %d", i)
		require.Empty(t, c.Received())
	}
}

// One that is taken off a subject is shown nothing more, the others go on; one
// that comes back is shown what it missed.
func TestLeavingAndComingBack(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.group("77", "ann", "bob")
	ann, bob := r.device("ann", "web"), r.device("bob", "web")
	r.follow("ann", "web", "77")
	onBob := r.follow("bob", "web", "77")
	r.listening(3, 4)
	r.say("dan", "", "77", "0")
	require.Equal(t, "0", r.next(ann).Text())
	require.Equal(t, "0", r.next(bob).Text())

	onBob.Unfollow(group, "77")
	onBob.Unfollow(group, "77") // off already
	r.listening(3, 3)
	for i := range 3 {
		r.say("dan", "", "77", strconv.Itoa(i+1))
	}
	require.Equal(t, numbers(1, 4), r.texts(ann, 3))
	r.nothing(bob)
	r.follow("bob", "web", "77")
	require.Equal(t, numbers(1, 4), r.texts(bob, 3))
	r.say("dan", "", "77", "4")
	require.Equal(t, "4", r.next(bob).Text())
	require.Equal(t, "4", r.next(ann).Text())

	// The subscription ends with the last connection, and a closed one comes onto
	// nothing any more.
	gone := r.find("ann", "web")
	ann.Close()
	r.listening(2, 2)
	require.Eventually(t, func() bool { return session.IsClosing(gone.Follow(t.Context(), group, "77")) }, 10*time.Second, time.Millisecond)
	bob.Close()
	r.listening(0, 0)
}

// A device that logs in again leaves the older connection on the group for a
// moment; it is shown everything once all the same.
func TestSameDeviceAgainOnAGroup(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.group("77", "ann")
	old := r.dial("ann", msyncclient.Options{Resource: "web", SessionID: "1:"})
	r.synced(old)
	r.follow("ann", "web", "77")
	newer := r.dial("ann", msyncclient.Options{Resource: "web", SessionID: "1:", KeepDuplicates: true})
	_ = r.ended(old)
	r.listening(1, 1)
	r.synced(newer)
	r.follow("ann", "web", "77")
	r.say("dan", "", "77", "0")
	require.Equal(t, "0", r.next(newer).Text())
	r.nothing(newer)
	newer.Close()
	r.listening(0, 0)
}

// Joins, pushes and closes at once leave no subscription behind.
func TestSubjectsUnderRaces(t *testing.T) {
	t.Parallel()
	const devices, rounds = 8, 15
	r := start(t, nil)
	names := make([]string, 0, devices)
	for i := range devices {
		names = append(names, "user"+strconv.Itoa(i))
	}
	r.group("77", names...)
	r.group("88", names...)
	var all sync.WaitGroup
	for _, user := range names {
		all.Go(func() {
			for range rounds {
				c, err := msyncclient.Dial(t.Context(), r.url, appKey, user, "token-"+user, msyncclient.Options{Resource: "web"})
				if err != nil {
					t.Errorf("dial: %v", err)
					return
				}
				conn, ok := r.server.Find(ident.User{App: appKey, ID: ident.UserID(user)}, "web")
				var joins sync.WaitGroup
				for _, name := range []string{"77", "88"} {
					joins.Go(func() {
						if !ok {
							return
						}
						if err := conn.Follow(t.Context(), group, name); err != nil && !session.IsClosing(err) {
							t.Errorf("follow: %v", err)
						}
						conn.Unfollow(group, name)
						if err := conn.Follow(t.Context(), group, name); err != nil && !session.IsClosing(err) {
							t.Errorf("follow: %v", err)
						}
					})
				}
				r.say("dan", "", "77", "x")
				c.Close()
				joins.Wait()
			}
		})
	}
	all.Wait()
	r.listening(0, 0)
	require.Zero(t, count(t, r.metrics, "chappe_session_panics_total"))
}

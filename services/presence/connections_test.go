package presence_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/members"
	"github.com/chappe-im/chappe/pkg/testkit"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

func TestConnectIsSeenAtOnceAndByOtherInstances(t *testing.T) {
	t.Parallel()
	b := newBed(t, testkit.SQLite(t, "presence", nil))
	one, two := b.start(t), b.start(t)
	one.login(t, "c1", "Amelia", "web_1")
	require.True(t, one.online(t, "amelia"))
	require.True(t, one.online(t, "AMELIA"))
	two.eventually(t, "amelia", true)
	one.login(t, "c2", "amelia", "ios.strange name/é")
	require.Equal(t, []string{"c1", "c2"}, one.ids(t, "amelia"))
	require.Eventually(t, func() bool { return len(two.ids(t, "amelia")) == 2 }, patience, step)

	// Either instance may be told of the end.
	two.logout(t, "c1", "amelia", "web_1")
	require.Equal(t, []string{"c2"}, two.ids(t, "amelia"))
	two.logout(t, "c2", "amelia", "ios.strange name/é")
	require.False(t, two.online(t, "amelia"))
	one.eventually(t, "amelia", false)
}

func TestConnectKeepsWhatItIsTold(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	in := connection("c1", "amelia", "web_1")
	in.Since = n.clock.now().UnixMilli() - 5000
	_, err := n.conns.Connect(t.Context(), &presencev1.ConnectRequest{Org: org, App: app, Connection: in})
	require.NoError(t, err)
	r, err := n.conns.ListConnections(t.Context(), &presencev1.ListConnectionsRequest{Org: org, App: app, Username: "Amelia"})
	require.NoError(t, err)
	require.Len(t, r.GetConnections(), 1)
	require.True(t, proto.Equal(in, r.GetConnections()[0]), "%v", r.GetConnections()[0])
	// Not in another app.
	r, err = n.conns.ListConnections(t.Context(), &presencev1.ListConnectionsRequest{Org: org, App: "other", Username: "amelia"})
	require.NoError(t, err)
	require.Empty(t, r.GetConnections())
	_, err = n.conns.ListConnections(t.Context(), &presencev1.ListConnectionsRequest{Org: org, App: app, Username: "nobody"})
	requireReason(t, err, errs.ReasonNotFound, "")
}

func TestConnectRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	long := func(n int) string { return strings.Repeat("x", n) }
	cases := map[string]struct {
		edit   func(*presencev1.Connection)
		reason string
	}{
		"fits":                  {func(*presencev1.Connection) {}, ""},
		"no ID":                 {func(c *presencev1.Connection) { c.Id = "" }, errs.ReasonIllegalArgument},
		"no user":               {func(c *presencev1.Connection) { c.User = "" }, errs.ReasonIllegalArgument},
		"illegal user":          {func(c *presencev1.Connection) { c.User = "a b" }, errs.ReasonIllegalArgument},
		"user of 64":            {func(c *presencev1.Connection) { c.User = long(64) }, ""},
		"user of 65":            {func(c *presencev1.Connection) { c.User = long(65) }, errs.ReasonIllegalArgument},
		"no resource":           {func(c *presencev1.Connection) { c.Resource = "" }, errs.ReasonIllegalArgument},
		"resource of 256":       {func(c *presencev1.Connection) { c.Resource = long(256) }, ""},
		"resource of 257":       {func(c *presencev1.Connection) { c.Resource = long(257) }, errs.ReasonIllegalArgument},
		"wildcards in resource": {func(c *presencev1.Connection) { c.Resource = "*.>\x00\n" }, ""},
		"no gateway":            {func(c *presencev1.Connection) { c.Gateway = "" }, errs.ReasonIllegalArgument},
		"unregistered gateway":  {func(c *presencev1.Connection) { c.Gateway = "gw-none" }, errs.ReasonUnavailable},
		"version of 129":        {func(c *presencev1.Connection) { c.Version = long(129) }, errs.ReasonIllegalArgument},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := connection("c1", "amelia", "web_1")
			c.edit(in)
			_, err := n.conns.Connect(t.Context(), &presencev1.ConnectRequest{Org: org, App: app, Connection: in})
			if c.reason == "" {
				require.NoError(t, err)
				require.True(t, n.online(t, in.GetUser()))
				n.logout(t, "c1", in.GetUser(), in.GetResource())
				require.False(t, n.online(t, in.GetUser()))
				return
			}
			requireReason(t, err, c.reason, "")
		})
	}
	_, err := n.conns.Connect(t.Context(), &presencev1.ConnectRequest{Org: org, App: app})
	requireInvalid(t, err, errs.MessageInvalidRequest)
	_, err = n.conns.Connect(t.Context(), &presencev1.ConnectRequest{Org: org, App: "none", Connection: connection("c1", "amelia", "web_1")})
	requireReason(t, err, errs.ReasonAppNotFound, "")
}

func TestNewerConnectionOfADeviceStays(t *testing.T) {
	t.Parallel()
	b := newBed(t, testkit.SQLite(t, "presence", nil))
	one, two := b.start(t), b.start(t)
	pushes := b.pushes(t, "amelia")
	one.login(t, "c1", "amelia", "web_1")
	resp, err := two.conns.Connect(t.Context(), &presencev1.ConnectRequest{Org: org, App: app, Connection: connection("c2", "amelia", "web_1")})
	require.NoError(t, err)
	require.Equal(t, gateway, resp.GetReplacedGateway())
	require.Equal(t, []string{"c2"}, two.ids(t, "amelia"))

	d := (<-pushes).GetDisconnect()
	require.True(t, proto.Equal(&busv1.Disconnect{
		Reason: busv1.Disconnect_REASON_OTHER_DEVICE, Resource: "web_1", ExceptConnection: "c2",
	}, d), "%v", d)
	// The older one's gateway tells of its end; the newer one is not affected.
	one.logout(t, "c1", "amelia", "web_1")
	require.Equal(t, []string{"c2"}, two.ids(t, "amelia"))
	require.Eventually(t, func() bool {
		return len(one.ids(t, "amelia")) == 1 && one.ids(t, "amelia")[0] == "c2"
	}, patience, step)

	// Entering a connection again changes nothing and ends nothing.
	resp, err = two.conns.Connect(t.Context(), &presencev1.ConnectRequest{Org: org, App: app, Connection: connection("c2", "amelia", "web_1")})
	require.NoError(t, err)
	require.Empty(t, resp.GetReplacedGateway())
	two.logout(t, "c2", "amelia", "web_1")
	require.False(t, two.online(t, "amelia"))
	require.NoError(t, b.nats.Flush(t.Context()))
	require.Empty(t, pushes)
}

func TestDisconnectIgnoresWhatIsGone(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.logout(t, "c9", "amelia", "web_1")
	n.login(t, "c1", "amelia", "web_1")
	n.logout(t, "c9", "amelia", "web_1")
	n.logout(t, "c1", "amelia", "web_2")
	require.True(t, n.online(t, "amelia"))
	n.logout(t, "c1", "Amelia", "web_1")
	n.logout(t, "c1", "amelia", "web_1")
	require.False(t, n.online(t, "amelia"))
	for _, r := range []*presencev1.DisconnectRequest{
		{Org: org, App: app, User: "amelia", Resource: "web_1"},
		{Org: org, App: app, ConnectionId: "c1", Resource: "web_1"},
		{Org: org, App: app, ConnectionId: "c1", User: "amelia"},
	} {
		_, err := n.conns.Disconnect(t.Context(), r)
		requireInvalid(t, err, errs.MessageInvalidRequest)
	}
}

func TestParallelLoginsOfOneDeviceLeaveOne(t *testing.T) {
	t.Parallel()
	b := newBed(t, testkit.SQLite(t, "presence", nil))
	nodes := []*node{b.start(t), b.start(t)}
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			_, err := nodes[i%2].conns.Connect(t.Context(), &presencev1.ConnectRequest{
				Org: org, App: app, Connection: connection(fmt.Sprint("c", i), "amelia", "web_1"),
			})
			if err != nil && errs.From(err).Reason != errs.ReasonUnavailable {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool {
		a, b := nodes[0].ids(t, "amelia"), nodes[1].ids(t, "amelia")
		return len(a) == 1 && len(b) == 1 && a[0] == b[0]
	}, patience, step)
}

func TestOnlineQuotaIsExact(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	const quota = 10
	n.apps.set(app, quota)
	var admitted, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			_, err := n.conns.Connect(t.Context(), &presencev1.ConnectRequest{
				Org: org, App: app, Connection: connection(fmt.Sprint("c", i), fmt.Sprint("user", i), "web_1"),
			})
			var e *errs.Error
			switch {
			case err == nil:
				admitted.Add(1)
			case errors.As(err, &e) && e.Reason == errs.ReasonQuota && e.Metadata["quota"] == "concurrent_online_users":
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, quota, admitted.Load())
	require.EqualValues(t, 64-quota, refused.Load())

	var online []string
	for i := range 64 {
		if n.online(t, fmt.Sprint("user", i)) {
			online = append(online, fmt.Sprint(i))
		}
	}
	require.Len(t, online, quota)

	// A further device of a user who is online is no further user.
	n.login(t, "second", "user"+online[0], "ios_1")
	// A place that becomes free can be taken, once.
	n.logout(t, "c"+online[1], "user"+online[1], "web_1")
	n.login(t, "next", "carla", "web_1")
	connect := func(user string) error {
		_, err := n.conns.Connect(t.Context(), &presencev1.ConnectRequest{Org: org, App: app, Connection: connection("x-"+user, user, "web_1")})
		return err
	}
	requireReason(t, connect("bruno"), errs.ReasonQuota, "")
	// Another app has its own quota, and a quota below the use ends nobody's
	// connection.
	_, err := n.conns.Connect(t.Context(), &presencev1.ConnectRequest{Org: org, App: "other", Connection: connection("o", "bruno", "web_1")})
	require.NoError(t, err)
	n.apps.set(app, 3)
	require.True(t, n.online(t, "carla"))
	requireReason(t, connect("bruno"), errs.ReasonQuota, "")
	n.apps.set(app, quota+1)
	require.NoError(t, connect("bruno"))
	n.apps.set(app, 0)
	requireReason(t, connect("amelia"), errs.ReasonQuota, "")
}

func TestOnlineQuotaHoldsOverInstances(t *testing.T) {
	t.Parallel()
	b := newBed(t, testkit.SQLite(t, "presence", nil))
	const quota = 10
	b.apps.set(app, quota)
	nodes := []*node{b.start(t), b.start(t), b.start(t)}
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			_, err := nodes[i%3].conns.Connect(t.Context(), &presencev1.ConnectRequest{
				Org: org, App: app, Connection: connection(fmt.Sprint("c", i), fmt.Sprint("user", i), "web_1"),
			})
			if err == nil {
				admitted.Add(1)
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, admitted.Load(), int64(quota))
	require.Positive(t, admitted.Load())
	for _, n := range nodes {
		require.Eventually(t, func() bool {
			var online int64
			for i := range 64 {
				if n.online(t, fmt.Sprint("user", i)) {
					online++
				}
			}
			return online == admitted.Load()
		}, patience, step)
	}
}

func TestConnectionsOfAStoppedGatewayVanish(t *testing.T) {
	t.Parallel()
	b := newBed(t, testkit.SQLite(t, "presence", nil))
	one, two := b.start(t), b.start(t)
	other := b.register(t, "gw-2")
	events := b.events(t, "amelia")
	in := connection("c1", "amelia", "web_1")
	in.Gateway = "gw-2"
	_, err := one.conns.Connect(t.Context(), &presencev1.ConnectRequest{Org: org, App: app, Connection: in})
	require.NoError(t, err)
	one.login(t, "c2", "amelia", "ios_1") // on the gateway that stays
	one.login(t, "c3", "bruno", "web_1")
	require.Eventually(t, func() bool { return len(two.ids(t, "amelia")) == 2 }, patience, step)

	require.NoError(t, other.Stop())
	for _, n := range []*node{one, two} {
		require.Eventually(t, func() bool {
			ids := n.ids(t, "amelia")
			return len(ids) == 1 && ids[0] == "c2"
		}, patience, step)
		require.True(t, n.online(t, "bruno"))
	}
	// Told once, although both instances noticed.
	require.Equal(t, "c1", (<-events).GetConnectionId())
	require.Equal(t, "c2", (<-events).GetConnectionId())
	lost := <-events
	require.Equal(t, busv1.PresenceEvent_REASON_LOST, lost.GetReason())
	require.Equal(t, busv1.PresenceEvent_STATUS_OFFLINE, lost.GetStatus())
	require.True(t, lost.GetUserOnline())
	require.False(t, lost.GetUserChanged())
	require.NoError(t, b.nats.Flush(t.Context()))
	require.Empty(t, events)

	// The bucket is clean too: an instance that starts now sees the same.
	three := b.start(t)
	require.Equal(t, []string{"c2"}, three.ids(t, "amelia"))
}

func TestConnectionsOfACrashedGatewayVanishWithin15Seconds(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	// A registration that nobody keeps alive any more, as after kill -9.
	session, err := n.etcd.NewSession(t.Context(), members.Gateways.TTL())
	require.NoError(t, err)
	require.NoError(t, session.Put(t.Context(), "/gateways/gw-2", []byte("gw-2")))
	in := connection("c1", "amelia", "web_1")
	in.Gateway = "gw-2"
	_, err = n.conns.Connect(t.Context(), &presencev1.ConnectRequest{Org: org, App: app, Connection: in})
	require.NoError(t, err)
	session.Abandon()
	crashed := n.clock.now()
	n.eventually(t, "amelia", false)
	require.Less(t, n.clock.now().Sub(crashed).Seconds(), 15.0)
}

func TestConnectionsOutliveTheServiceAndNotTheirGateway(t *testing.T) {
	t.Parallel()
	b := newBed(t, testkit.SQLite(t, "presence", nil))
	first := b.start(t)
	other := b.register(t, "gw-2")
	first.login(t, "c1", "amelia", "web_1")
	in := connection("c2", "bruno", "web_1")
	in.Gateway = "gw-2"
	_, err := first.conns.Connect(t.Context(), &presencev1.ConnectRequest{Org: org, App: app, Connection: in})
	require.NoError(t, err)
	first.stop(t)
	first.stop(t)
	require.NoError(t, other.Stop())

	second := b.start(t)
	require.Equal(t, []string{"c1"}, second.ids(t, "amelia"))
	second.eventually(t, "bruno", false)
	require.True(t, second.online(t, "amelia"))
	second.logout(t, "c1", "amelia", "web_1")
	require.False(t, second.online(t, "amelia"))
}

func TestTakeOverDropsWhatAKilledProcessLeft(t *testing.T) {
	t.Parallel()
	b := newBed(t, testkit.SQLite(t, "presence", nil))
	killed := b.start(t)
	killed.login(t, "c1", "amelia", "web_1")
	killed.stop(t)

	events := b.events(t, "amelia")
	b.takeOver = true
	n := b.start(t)
	require.False(t, n.online(t, "amelia"))
	e := <-events
	require.Equal(t, busv1.PresenceEvent_REASON_LOST, e.GetReason())
	require.True(t, e.GetUserChanged())
	n.login(t, "c2", "amelia", "web_1")
	require.Equal(t, []string{"c2"}, n.ids(t, "amelia"))
}

func TestEventsTellOfEveryDevice(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	events := n.events(t, "amelia")
	n.obeys(t, "amelia")
	const (
		on  = busv1.PresenceEvent_STATUS_ONLINE
		off = busv1.PresenceEvent_STATUS_OFFLINE
	)
	next := func(id string, st busv1.PresenceEvent_Status, why busv1.PresenceEvent_Reason, online, changed bool) {
		t.Helper()
		e := <-events
		require.NotZero(t, e.GetTimestamp())
		e.Timestamp = 0
		want := &busv1.PresenceEvent{
			App: appKey, User: "amelia", Status: st, Reason: why, Resource: e.GetResource(), Os: "web", Version: "4.21.1",
			Ip: "203.0.113.9:48098", Gateway: gateway, ConnectionId: id, UserOnline: online, UserChanged: changed,
		}
		require.True(t, proto.Equal(want, e), "%v\n%v", want, e)
	}
	n.login(t, "c1", "amelia", "web_1")
	next("c1", on, busv1.PresenceEvent_REASON_LOGIN, true, true)
	n.login(t, "c2", "amelia", "ios_1")
	next("c2", on, busv1.PresenceEvent_REASON_LOGIN, true, false)
	n.login(t, "c3", "amelia", "web_1")
	next("c1", off, busv1.PresenceEvent_REASON_REPLACED, true, false)
	next("c3", on, busv1.PresenceEvent_REASON_LOGIN, true, false)
	n.logout(t, "c3", "amelia", "web_1")
	next("c3", off, busv1.PresenceEvent_REASON_LOGOUT, true, false)
	_, err := n.presence.DisconnectUser(t.Context(), &presencev1.DisconnectUserRequest{Org: org, App: app, Username: "amelia"})
	require.NoError(t, err)
	next("c2", off, busv1.PresenceEvent_REASON_REPLACED, false, true)
}

func TestDeletedUserIsForgotten(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	status := func(user string) error {
		_, err := n.presence.GetOnlineStatus(t.Context(), &presencev1.GetOnlineStatusRequest{Org: org, App: app, Username: user})
		return err
	}
	require.NoError(t, status("amelia"))
	require.NoError(t, status("amelia"))
	n.accounts.mu.Lock()
	require.Equal(t, 1, n.accounts.asked)
	n.accounts.mu.Unlock()
	n.accounts.delete("amelia")
	data, err := proto.Marshal(&busv1.UserEvent{App: appKey, User: "amelia", Change: busv1.UserEvent_CHANGE_DELETED})
	require.NoError(t, err)
	require.NoError(t, n.nats.Publish(bus.UserEventSubject(appKey, "amelia"), data))
	require.Eventually(t, func() bool { return errs.Is(status("amelia"), errs.ReasonNotFound) }, patience, step)
}

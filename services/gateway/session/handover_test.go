package session_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/testkit"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
	"github.com/chappe-im/chappe/services/gateway/session"
)

// twoGateways share a backend and hand positions on only when they must.
func twoGateways(t *testing.T) (a, b *rig) {
	t.Helper()
	nats := testkit.NATSServer(t)
	backend := newBackend(testkit.Connect(t, nats))
	named := func(id string) *rig {
		return startOn(t, testkit.Connect(t, nats), backend, tokens{}, func(c *session.Config) {
			c.GatewayID, c.FlushInterval = id, time.Hour
		})
	}
	return named("a"), named("b")
}

// TestDeviceGoesToAnotherGateway has a device confirm on one gateway what it is
// shown, and log in to another right afterwards.
func TestDeviceGoesToAnotherGateway(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*msyncclient.Client){
		"while it is connected to the first": func(*msyncclient.Client) {},
		"when it has closed the first":       func(c *msyncclient.Client) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := twoGateways(t)
			on, next := a, b
			opts := msyncclient.Options{Resource: "web_1"}
			c := on.dial("omar", opts)
			on.synced(c)
			for round := range 20 {
				want := fmt.Sprint("m", round)
				a.text(t, "lena", "omar", want)
				require.Equal(t, []string{want}, on.texts(c, 1), "shown again instead")
				on.nothing(c) // so the gateway has the confirmation
				leave(c)
				on, next = next, on
				old := c
				c = on.dial("omar", opts)
				on.synced(c)
				on.nothing(c)
				old.Close()
			}
		})
	}
}

// TestLastGatewayDoesNotAnswer has a device come from a gateway that is gone, or
// does not answer: it is shown what it has not confirmed.
func TestLastGatewayDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for _, listens := range []bool{false, true} {
		t.Run(fmt.Sprintf("listens=%t", listens), func(t *testing.T) {
			t.Parallel()
			r := start(t, nil)
			if listens {
				_, err := r.bus.Subscribe(bus.HandOnSubject("frozen"), func(*natsx.Msg) {})
				require.NoError(t, err)
			}
			r.set(func() {
				r.online["old"] = &presencev1.Connection{Id: "old", User: "omar", Resource: "web_1", Gateway: "frozen"}
			})
			r.text(t, "lena", "omar", "m")
			c := r.dial("omar", msyncclient.Options{Resource: "web_1"})
			require.Equal(t, []string{"m"}, r.texts(c, 1))
		})
	}
}

// TestPositionsAreStoredBeforePresenceForgets has a device go while its positions
// cannot be stored: presence is told that it has gone after they are, or, when
// they cannot be for long, without them.
func TestPositionsAreStoredBeforePresenceForgets(t *testing.T) {
	t.Parallel()
	a, _ := twoGateways(t)
	c := a.dial("omar", msyncclient.Options{Resource: "web_1"})
	a.synced(c)
	a.text(t, "lena", "omar", "m")
	require.Equal(t, []string{"m"}, a.texts(c, 1))
	a.nothing(c)
	require.Zero(t, a.confirmed("omar", "web_1", conversation("lena", "omar")))
	c.Close()
	require.Eventually(t, func() bool { return a.onlineCount() == 0 }, 10*time.Second, time.Millisecond)
	require.EqualValues(t, 1, a.confirmed("omar", "web_1", conversation("lena", "omar")))

	a.set(func() { a.confirming = errs.Unavailable("database", nil) })
	c = a.dial("omar", msyncclient.Options{Resource: "web_1"})
	a.synced(c)
	a.text(t, "lena", "omar", "m")
	require.Equal(t, []string{"m"}, a.texts(c, 1))
	a.nothing(c)
	c.Close()
	require.Eventually(t, func() bool { return a.onlineCount() == 0 }, 10*time.Second, 10*time.Millisecond)
	a.set(func() { a.confirming = nil })
}

// TestConfirmationsPauseWhileTheyFail has positions not be taken: the longer that
// goes on, the more seldom they are handed on.
func TestConfirmationsPauseWhileTheyFail(t *testing.T) {
	t.Parallel()
	const interval = 20 * time.Millisecond
	r := start(t, func(c *session.Config) { c.FlushInterval = interval })
	c := r.dial("omar", msyncclient.Options{Resource: "web_1"})
	r.synced(c)
	r.set(func() { r.confirming, r.confirms = errs.Unavailable("database", nil), nil })
	r.text(t, "lena", "omar", "m")
	require.Equal(t, []string{"m"}, r.texts(c, 1))
	var tries []time.Time
	require.Eventually(t, func() bool {
		r.set(func() { tries = r.confirms })
		return len(tries) > 5
	}, 20*time.Second, 5*time.Millisecond)
	for i := range 5 {
		pause := interval<<i - 2*time.Millisecond // the clock counts in milliseconds
		require.GreaterOrEqual(t, tries[i+1].Sub(tries[i]), pause, "after try %d", i+1)
	}
	r.set(func() { r.confirming = nil })
	require.Eventually(t, func() bool { return r.confirmed("omar", "web_1", conversation("lena", "omar")) == 1 }, 10*time.Second, 5*time.Millisecond)
}

// TestConfirmationsBeforeTheArchive has positions come before the archive: the
// first time they are handed on again at once, then with the others.
func TestConfirmationsBeforeTheArchive(t *testing.T) {
	t.Parallel()
	const interval = 2 * time.Second
	r := start(t, func(c *session.Config) { c.FlushInterval = interval })
	c := r.dial("omar", msyncclient.Options{Resource: "web_1"})
	r.synced(c)
	r.set(func() { r.early = 2 })
	r.text(t, "lena", "omar", "m")
	require.Equal(t, []string{"m"}, r.texts(c, 1))
	require.Eventually(t, func() bool { return r.confirmed("omar", "web_1", conversation("lena", "omar")) == 1 }, 20*time.Second, 5*time.Millisecond)
	r.set(func() {
		require.Len(t, r.confirms, 3)
		require.Less(t, r.confirms[1].Sub(r.confirms[0]), interval*3/4, "at once")
		require.GreaterOrEqual(t, r.confirms[2].Sub(r.confirms[1]), interval/4, "with the others")
	})
}

package presence_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

func TestGetOnlineStatus(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.login(t, "c1", "amelia", "web_1")
	n.login(t, "c2", "ghost", "web_1") // whoever is connected exists
	cases := map[string]struct {
		user   string
		online bool
		reason string
	}{
		"online":             {"amelia", true, ""},
		"online, other case": {"AmeliA", true, ""},
		"offline":            {"bruno", false, ""},
		"online by UUID":     {n.accounts.users["amelia"], true, ""},
		"offline by UUID":    {n.accounts.users["bruno"], false, ""},
		"connected":          {"ghost", true, ""},
		"unknown":            {"nobody", false, errs.ReasonNotFound},
		"unknown UUID":       {"6c1f2e40-7a55-11ee-9c3b-ffffffffffff", false, errs.ReasonNotFound},
		"illegal":            {"a b", false, errs.ReasonNotFound},
		"empty":              {"", false, errs.ReasonNotFound},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r, err := n.presence.GetOnlineStatus(t.Context(), &presencev1.GetOnlineStatusRequest{Org: org, App: app, Username: c.user})
			if c.reason != "" {
				requireReason(t, err, c.reason, "")
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.online, r.GetOnline())
		})
	}
	// Of another app.
	r, err := n.presence.GetOnlineStatus(t.Context(), &presencev1.GetOnlineStatusRequest{Org: org, App: "other", Username: "amelia"})
	require.NoError(t, err)
	require.False(t, r.GetOnline())
}

func users(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint("user", i)
	}
	return out
}

func TestBatchGetOnlineStatus(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.login(t, "c1", "amelia", "web_1")
	get := func(users []string) ([]bool, error) {
		r, err := n.presence.BatchGetOnlineStatus(t.Context(), &presencev1.BatchGetOnlineStatusRequest{Org: org, App: app, Usernames: users})
		return r.GetOnline(), err
	}
	online, err := get([]string{"bruno", "Amelia", "nobody", "a b", "", "amelia"})
	require.NoError(t, err)
	require.Equal(t, []bool{false, true, false, false, false, true}, online)
	online, err = get(users(100))
	require.NoError(t, err)
	require.Len(t, online, 100)
	_, err = get(nil)
	requireInvalid(t, err, errs.MessageInvalidRequest)
	_, err = get(users(101))
	requireInvalid(t, err, "request body exceeds maximum limit, maximum limit is 100")
}

func TestDisconnectUser(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.obeys(t, "amelia")
	disconnect := func(user, resource string) error {
		_, err := n.presence.DisconnectUser(t.Context(), &presencev1.DisconnectUserRequest{Org: org, App: app, Username: user, Resource: resource})
		return err
	}
	n.login(t, "c1", "amelia", "web_1")
	n.login(t, "c2", "amelia", "ios_1")
	n.login(t, "c3", "amelia", "android_1")
	pushes := n.pushes(t, "amelia")

	require.NoError(t, disconnect("amelia", "ios_1"))
	require.Equal(t, []string{"c1", "c3"}, n.ids(t, "amelia"))
	d := (<-pushes).GetDisconnect()
	require.True(t, proto.Equal(&busv1.Disconnect{Reason: busv1.Disconnect_REASON_KICKED, Resource: "ios_1"}, d), "%v", d)

	require.NoError(t, disconnect("Amelia", ""))
	require.False(t, n.online(t, "amelia"))
	d = (<-pushes).GetDisconnect()
	require.True(t, proto.Equal(&busv1.Disconnect{Reason: busv1.Disconnect_REASON_KICKED}, d), "%v", d)

	require.NoError(t, disconnect("amelia", ""), "offline already")
	require.NoError(t, disconnect("amelia", "no_such_device"))
	require.NoError(t, disconnect(n.accounts.users["bruno"], ""), "by UUID")
	requireReason(t, disconnect("nobody", ""), errs.ReasonNotFound, "")
	requireReason(t, disconnect("nobody", "web_1"), errs.ReasonNotFound, "")
}

func TestDisconnectUserDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	n := newNode(t) // its gateway does nothing
	n.login(t, "c1", "amelia", "web_1")
	began := time.Now()
	_, err := n.presence.DisconnectUser(t.Context(), &presencev1.DisconnectUserRequest{Org: org, App: app, Username: "amelia"})
	require.NoError(t, err)
	require.Less(t, time.Since(began), 10*time.Second)
	require.True(t, n.online(t, "amelia"), "the connection is still there, so nobody says otherwise")
}

package members_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/members"
	"github.com/chappe-im/chappe/pkg/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func list(n int) members.Members {
	var out []members.Member
	for i := range n {
		out = append(out, members.Member{ID: fmt.Sprint("limiter-", i), Addr: fmt.Sprint("127.0.0.1:", 9000+i)})
	}
	return members.New(out...)
}

func TestOwnersShareTheWork(t *testing.T) {
	t.Parallel()
	const apps = 30_000
	for _, n := range []int{1, 2, 3, 7} {
		m := list(n)
		got := map[int]int{}
		for i := range apps {
			got[m.Owner(fmt.Sprint("acme#app-", i))]++
		}
		require.Len(t, got, n)
		for i, count := range got {
			require.InEpsilon(t, apps/n, count, 0.1, "%d of %d", i, n)
		}
	}
	require.Negative(t, members.Members{}.Owner("acme#shop"))
}

// When a member goes, only what it owned moves; when one comes, things only
// move to it.
func TestLittleMoves(t *testing.T) {
	t.Parallel()
	three := list(3)
	two := members.New(three[0], three[2])
	for i := range 3000 {
		app := fmt.Sprint("acme#app-", i)
		before, after := three[three.Owner(app)].ID, two[two.Owner(app)].ID
		if before != three[1].ID {
			require.Equal(t, before, after)
		}
	}
}

func TestRegistrationIsSeenAndVanishes(t *testing.T) {
	t.Parallel()
	etcd := testkit.Etcd(t)
	lists := make(chan members.Members, 16)
	w, err := members.Watch(t.Context(), etcd, testkit.Logger(t), members.Gateways, func(m members.Members) { lists <- m })
	require.NoError(t, err)
	t.Cleanup(w.Stop)
	require.Empty(t, <-lists)

	r, err := members.Register(t.Context(), etcd, testkit.Logger(t), members.Gateways, members.Member{ID: "gw-1", Addr: "host:1"})
	require.NoError(t, err)
	got := <-lists
	require.True(t, got.Has("gw-1"))
	require.False(t, got.Has("gw-0"))
	require.Equal(t, "host:1", got[0].Addr)
	for kind, there := range map[members.Kind]bool{members.Gateways: true, members.Limiters: false} {
		ok, err := members.Registered(t.Context(), etcd, kind, "gw-1")
		require.NoError(t, err)
		require.Equal(t, there, ok)
	}
	require.NoError(t, r.Stop())
	require.NoError(t, r.Stop())
	require.False(t, (<-lists).Has("gw-1"))
	ok, err := members.Registered(t.Context(), etcd, members.Gateways, "gw-1")
	require.NoError(t, err)
	require.False(t, ok)
}

// A list may hold what another version of the program, or a person, has put
// there.
func TestForeignEntries(t *testing.T) {
	t.Parallel()
	etcd := testkit.Etcd(t)
	_, _, err := etcd.Commit(t.Context(), nil, []etcdx.Write{
		{Key: "/limiters/bare", Value: []byte("bare")},
		{Key: "/limiters/other", Value: []byte(`{"id":"else","addr":"host:2"}`)},
	})
	require.NoError(t, err)
	lists := make(chan members.Members, 16)
	w, err := members.Watch(t.Context(), etcd, testkit.Logger(t), members.Limiters, func(m members.Members) { lists <- m })
	require.NoError(t, err)
	t.Cleanup(w.Stop)
	got := <-lists
	require.Len(t, got, 2)
	require.True(t, got.Has("bare"))
	require.Empty(t, got[0].Addr)
	require.True(t, got.Has("other"), "the key names the member")
	require.Equal(t, "host:2", got[1].Addr)
}

func TestRegisterRefusesBadIDs(t *testing.T) {
	t.Parallel()
	etcd := testkit.Etcd(t)
	for _, id := range []string{"", "a/b"} {
		_, err := members.Register(t.Context(), etcd, testkit.Logger(t), members.Gateways, members.Member{ID: id})
		require.Error(t, err, id)
	}
}

// What a killed process left on a list goes at once, and no other list with it.
func TestRemoveAll(t *testing.T) {
	t.Parallel()
	etcd := testkit.Etcd(t)
	for _, kind := range []members.Kind{members.Messaging, members.Limiters} {
		r, err := members.Register(t.Context(), etcd, testkit.Logger(t), kind, members.Member{ID: "killed"})
		require.NoError(t, err)
		t.Cleanup(func() { _ = r.Stop() })
	}
	require.NoError(t, members.RemoveAll(t.Context(), etcd, members.Messaging))
	for kind, want := range map[members.Kind]bool{members.Messaging: false, members.Limiters: true} {
		registered, err := members.Registered(t.Context(), etcd, kind, "killed")
		require.NoError(t, err)
		require.Equal(t, want, registered, kind)
	}
}

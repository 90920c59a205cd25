package guard

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/ident"
)

// rig is a Guard on a clock that tests move.
type rig struct {
	*Guard
	t  *testing.T
	ns atomic.Int64
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t}
	g, err := New(func() time.Time { return time.Unix(1_700_000_000, r.ns.Load()) })
	require.NoError(t, err)
	r.Guard = g
	return r
}

func (r *rig) advance(d time.Duration) { r.ns.Add(int64(d)) }

// try makes one try and returns how long it has to wait, 0 if it was admitted.
func (r *rig) try(user, address string, result Result) time.Duration {
	try, wait := r.Begin(User{1, ident.UserID(user)}, address)
	if try == nil {
		require.Positive(r.t, wait)
		return wait
	}
	try.End(result)
	return 0
}

const (
	home  = "192.0.2.1"
	cafe  = "198.51.100.7"
	enemy = "203.0.113.66"
)

func TestDelaysDouble(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 5 {
		require.Zero(t, r.try("amelia", enemy, Wrong))
	}
	for _, seconds := range []int{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		delay := time.Duration(seconds) * time.Second
		require.Equal(t, delay, r.try("amelia", enemy, Right), "the right one is not looked at either")
		r.advance(delay - 1)
		require.Equal(t, time.Duration(1), r.try("amelia", enemy, Right))
		r.advance(1)
		require.Zero(t, r.try("amelia", enemy, Wrong))
	}
	// An hour later it is forgotten, however long it went on.
	r.advance(time.Hour)
	for range 5 {
		require.Zero(t, r.try("amelia", enemy, Wrong))
	}
	require.Equal(t, time.Second, r.try("amelia", enemy, Wrong))
}

func TestRightPasswordEndsTheDelays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 5 {
		r.try("amelia", home, Wrong)
	}
	r.advance(time.Second)
	require.Zero(t, r.try("amelia", home, Right))
	for range 5 {
		require.Zero(t, r.try("amelia", home, Wrong))
	}
}

func TestUndecidedTriesDoNotCount(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 1000 {
		require.Zero(t, r.try("amelia", home, Undecided))
	}
}

// Whoever guesses at somebody's password from elsewhere, from one address or a
// thousand, locks nobody out of the address that she logs in from.
func TestNobodyIsLockedOut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	require.Zero(t, r.try("amelia", home, Right))
	for i := range 1000 {
		r.try("amelia", fmt.Sprintf("203.0.%d.%d", i/250, i%250), Wrong)
	}
	require.Zero(t, r.try("amelia", home, Right))
	require.Positive(t, r.try("amelia", cafe, Right), "an address that nobody knows waits among the others")
	r.advance(time.Second)
	require.Zero(t, r.try("amelia", cafe, Right))
	require.Zero(t, r.try("amelia", cafe, Right), "and is known from then on")
	require.Zero(t, r.try("bruno", cafe, Right), "nor does anybody else notice")

	// Nor does one who breaks in among the people behind one address.
	for i := range 1000 {
		r.try(fmt.Sprint("user-", i), home, Wrong)
	}
	require.Zero(t, r.try("amelia", home, Right))
	require.Positive(t, r.try("diego", home, Right))
}

// However many addresses a guesser has, a user's password is tried a hundred
// times and then once a second.
func TestGuessesFromManyAddresses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	compared := 0
	const seconds = 600
	for s := range seconds {
		for i := range 20 {
			if r.try("amelia", fmt.Sprintf("10.%d.%d.%d", s/250, s%250, i), Wrong) == 0 {
				compared++
			}
		}
		r.advance(time.Second)
	}
	require.LessOrEqual(t, compared, 100+seconds+1)
}

// However many users a guesser tries from one address, it is sixty and then
// about one a second.
func TestGuessesAtManyUsers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	compared := 0
	const seconds = 600
	for s := range seconds {
		for i := range 20 {
			if r.try(fmt.Sprintf("user-%d-%d", s, i), enemy, Wrong) == 0 {
				compared++
			}
		}
		r.advance(time.Second)
	}
	require.LessOrEqual(t, compared, 60+seconds+10)
	require.Greater(t, compared, seconds/2, "those who share the address are not cut off for good")
}

func TestIPv6IsCountedByNetwork(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 5 {
		require.Zero(t, r.try("amelia", fmt.Sprintf("2001:db8:1:2::%x", i), Wrong))
	}
	require.Positive(t, r.try("amelia", "2001:db8:1:2:ffff:ffff:ffff:ffff", Wrong))
	require.Positive(t, r.try("amelia", "2001:db8:1:2::1%eth0", Wrong))
	require.Zero(t, r.try("amelia", "2001:db8:1:3::1", Wrong), "the next network")
	for range 5 {
		require.Zero(t, r.try("bruno", "::ffff:192.0.2.1", Wrong))
	}
	require.Positive(t, r.try("bruno", home, Wrong), "one address in two forms")
	require.Zero(t, r.try("bruno", "192.0.2.2", Wrong), "IPv4 addresses stand for themselves")
	for _, odd := range []string{"", "pipe", "@"} {
		require.Zero(t, r.try("carla", odd, Wrong))
	}
}

// Tries that begin together are bounded too: before one has ended nobody knows
// that it fails.
func TestTriesUnderWay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	begin := func(n int) (tries []*Try) {
		for range n {
			if try, _ := r.Begin(User{1, "amelia"}, enemy); try != nil {
				tries = append(tries, try)
			}
		}
		return tries
	}
	first := begin(100)
	require.Len(t, first, byPair.together)
	for _, try := range first {
		try.End(Wrong)
	}
	r.advance(time.Minute)
	second := begin(100)
	require.Len(t, second, 1, "one at a time once there were too many failures")
	second[0].End(Undecided)
	require.Len(t, begin(100), 1)
}

func TestWrongSecrets(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range byAddress.free {
		require.Zero(t, r.WrongSecret(enemy))
	}
	require.Equal(t, time.Second, r.WrongSecret(enemy))
	require.Zero(t, r.WrongSecret(home))
	require.Zero(t, r.try("amelia", enemy, Right), "secrets and passwords are counted apart")
	r.advance(time.Second)
	require.Zero(t, r.WrongSecret(enemy))
}

func TestAppsAreApart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 5 {
		r.try("amelia", home, Wrong)
	}
	require.Positive(t, r.try("amelia", home, Wrong))
	other, _ := r.Begin(User{2, "amelia"}, home)
	require.NotNil(t, other)
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	g, err := sized(time.Now, 100, 50, 20)
	require.NoError(t, err)
	long := string(make([]byte, 10_000))
	for i := range 10_000 {
		try, _ := g.Begin(User{1, ident.UserID(fmt.Sprint(i, long))}, fmt.Sprintf("10.0.%d.%d", i/250, i%250))
		if try != nil {
			try.End(Wrong)
		}
		g.WrongSecret(fmt.Sprintf("10.0.%d.%d", i/250, i%250))
	}
	require.Equal(t, 100, g.pairs.Len())
	require.Equal(t, 50, g.users.Len())
	require.Equal(t, 20, g.addresses.Len())
	require.Equal(t, 20, g.secrets.Len())
	for _, k := range g.pairs.Keys() {
		require.LessOrEqual(t, len(k.user.ID), maxNameBytes)
	}
}

// Many connections guess at once, on a clock that stands still: no more tries
// are compared than are free and under way, and every count comes back to
// nothing under way.
func TestRaces(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var compared atomic.Int64
	var done sync.WaitGroup
	for range 64 {
		done.Go(func() {
			for range 200 {
				if r.try("amelia", enemy, Wrong) == 0 {
					compared.Add(1)
				}
			}
		})
	}
	done.Wait()
	require.GreaterOrEqual(t, compared.Load(), int64(byPair.free))
	require.LessOrEqual(t, compared.Load(), int64(byPair.free+byPair.together))
	for _, c := range r.pairs.Values() {
		require.Zero(t, c.underWay)
	}
}

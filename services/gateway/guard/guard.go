// Package guard slows down whoever guesses passwords and client secrets.
//
// Failures are counted by user and address together, by user, and by address.
// Each count has some failures free; after that it admits one try at a time,
// and the next only after a delay that doubles up to a bound. Counts shrink by
// themselves. A refused try is not looked at, so a guesser learns nothing from
// it, not even that the password was right.
//
// So that guessing locks nobody out, the counts by user and by address do not
// concern an address from which the user has proved the password before: there
// only what that address itself did wrong for this user counts. A right client
// secret is never refused: secrets are long and random, and checking one is
// cheap.
//
// Counts live in the memory of a gateway, bounded in number. A guesser who
// spreads over n gateways has n times the tries; in exchange nothing here needs
// another service, and none can be overwhelmed through it.
package guard

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/chappe-im/chappe/pkg/ident"
)

// policy is how one kind of count reacts to failures.
type policy struct {
	// free failures have no consequence.
	free int
	// first is the delay after the next one; it doubles up to longest.
	first, longest time.Duration
	// forget is the time in which a count shrinks by one.
	forget time.Duration
	// together bounds the tries under way while there is no delay; 0 does not.
	together int
}

var (
	// A person mistypes a few times; whoever goes on waits a minute for a try.
	// Many devices of one user may log in together.
	byPair = policy{free: 5, first: time.Second, longest: time.Minute, forget: 3 * time.Minute, together: 16}
	// All addresses from which the user never logged in have one try a second
	// between them after a hundred failures: 86,400 a day.
	byUser = policy{free: 100, first: time.Second, longest: time.Second, forget: 36 * time.Second}
	// An address of many people, such as an office's, makes a failure a second.
	byAddress = policy{free: 60, first: time.Second, longest: 8 * time.Second, forget: time.Second}
)

// Bounds of what is remembered, the least recently used being forgotten: some
// 150 bytes each, 20 MB together.
const (
	maxPairs     = 1 << 16
	maxUsers     = 1 << 15
	maxAddresses = 1 << 15
)

// maxNameBytes is longer than any user ID; what is longer is counted under its
// beginning.
const maxNameBytes = 128

// User names a user of an app by the app's number and the folded user ID.
type User struct {
	App int64
	ID  ident.UserID
}

type pair struct {
	user    User
	address string
}

// count is the failures of a pair, a user or an address.
type count struct {
	failures int
	// shrunk is when failures last became less by themselves.
	shrunk time.Time
	// next is when the delay ends.
	next time.Time
	// underWay is the tries that have begun and not ended.
	underWay int
	// proved: the pair has had the right password.
	proved bool
}

// Guard counts failures. It is safe for concurrent use.
type Guard struct {
	now func() time.Time

	mu        sync.Mutex
	pairs     *simplelru.LRU[pair, *count]
	users     *simplelru.LRU[User, *count]
	addresses *simplelru.LRU[string, *count]
	// secrets counts wrong client secrets by address, apart from passwords:
	// what a back end has misconfigured does not concern the people beside it.
	secrets *simplelru.LRU[string, *count]
}

// New makes a Guard; now is the clock.
func New(now func() time.Time) (*Guard, error) {
	return sized(now, maxPairs, maxUsers, maxAddresses)
}

func sized(now func() time.Time, pairs, users, addresses int) (*Guard, error) {
	g := &Guard{now: now}
	var err error
	if g.pairs, err = simplelru.NewLRU[pair, *count](pairs, nil); err != nil {
		return nil, err
	}
	if g.users, err = simplelru.NewLRU[User, *count](users, nil); err != nil {
		return nil, err
	}
	if g.addresses, err = simplelru.NewLRU[string, *count](addresses, nil); err != nil {
		return nil, err
	}
	g.secrets, err = simplelru.NewLRU[string, *count](addresses, nil)
	return g, err
}

// Result is how a try ended.
type Result int

// The results.
const (
	// Undecided tries proved nothing: the password was not compared.
	Undecided Result = iota
	// Right and Wrong say what the password was.
	Right
	Wrong
)

// Try is a password that is about to be compared.
type Try struct {
	g     *Guard
	pair  *count
	user  *count // nil, like address, where they do not concern the try
	other *count // of the address
}

// Begin admits the comparison of a password of user, given from address, or
// returns nil and after how long it is worth asking again. A Try must be ended.
func (g *Guard) Begin(user User, address string) (*Try, time.Duration) {
	user.ID = user.ID[:min(len(user.ID), maxNameBytes)]
	address = network(address)
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	t := &Try{g: g, pair: find(g.pairs, pair{user, address}, now)}
	wait := t.pair.wait(&byPair, now)
	if !t.pair.proved {
		t.user, t.other = find(g.users, user, now), find(g.addresses, address, now)
		wait = max(wait, t.user.wait(&byUser, now), t.other.wait(&byAddress, now))
	}
	if wait > 0 {
		return nil, wait
	}
	t.each(func(c *count, _ *policy) { c.underWay++ })
	return t, 0
}

// each calls f for the counts that the try is under.
func (t *Try) each(f func(c *count, p *policy)) {
	f(t.pair, &byPair)
	if t.user != nil {
		f(t.user, &byUser)
		f(t.other, &byAddress)
	}
}

// End counts how the try ended.
func (t *Try) End(r Result) {
	t.g.mu.Lock()
	defer t.g.mu.Unlock()
	now := t.g.now()
	t.each(func(c *count, p *policy) {
		c.underWay--
		if r == Wrong {
			c.fail(p, now)
		}
	})
	if r == Right {
		// The user's and the address's counts stay: else somebody with one good
		// password could take them back after each guess at others.
		t.pair.failures, t.pair.next, t.pair.proved = 0, time.Time{}, true
	}
}

// WrongSecret counts a wrong client secret, or one for a wrong client ID, from
// an address. It returns for how long the address is to wait, 0 while it has
// failures free.
func (g *Guard) WrongSecret(address string) time.Duration {
	address = network(address)
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	c := find(g.secrets, address, now)
	wait := c.wait(&byAddress, now)
	if wait == 0 {
		c.fail(&byAddress, now)
	}
	return wait
}

// find returns the count of a key, a new one if there is none.
func find[K comparable](in *simplelru.LRU[K, *count], k K, now time.Time) *count {
	if c, ok := in.Get(k); ok {
		return c
	}
	c := &count{shrunk: now}
	in.Add(k, c)
	return c
}

// wait returns for how long no try is admitted.
func (c *count) wait(p *policy, now time.Time) time.Duration {
	c.shrink(p, now)
	switch {
	case c.next.After(now):
		return c.next.Sub(now)
	case c.failures >= p.free && c.underWay > 0, p.together > 0 && c.underWay >= p.together:
		return p.first
	}
	return 0
}

// fail counts a failure. Counts end where the delay is longest, so that they
// are forgotten in a time that does not depend on how long somebody guessed.
func (c *count) fail(p *policy, now time.Time) {
	c.shrink(p, now)
	c.failures = min(c.failures+1, p.free+doublings(p))
	if c.failures >= p.free {
		c.next = now.Add(min(p.first<<(c.failures-p.free), p.longest))
	}
}

// doublings returns how many failures beyond the free ones make the delay the
// longest.
func doublings(p *policy) (n int) {
	for d := p.first; d < p.longest; d *= 2 {
		n++
	}
	return n
}

func (c *count) shrink(p *policy, now time.Time) {
	if c.failures == 0 {
		c.shrunk = now
		return
	}
	n := int64(now.Sub(c.shrunk) / p.forget)
	if n <= 0 {
		return
	}
	c.failures = int(max(0, int64(c.failures)-n))
	c.shrunk = c.shrunk.Add(time.Duration(n) * p.forget)
}

// network returns what an address is counted as: itself, or the 64-bit network
// of IPv6, within which one machine can have any address. What is no address
// is counted as it is.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address[:min(len(address), maxNameBytes)]
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.Prefix(64)
	if err != nil {
		return ip.String()
	}
	return prefix.String()
}

package presence

import (
	"context"
	"slices"
	"sync"
	"unique"

	"github.com/chappe-im/chappe/pkg/ident"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// conn is a connection as the index holds it. It is not changed once it is in
// the index, except for generation and kicked, which index.mu guards.
type conn struct {
	id     string
	device ident.Device
	ip     string
	// The same few values for all connections, so shared.
	gateway, os, version string
	since                int64
	revision             uint64
	generation           uint32
	// kicked is set when an operator has asked for the connection's end.
	kicked bool
}

func newConn(app ident.AppKey, c *presencev1.Connection, revision uint64) *conn {
	return &conn{
		id: c.GetId(), ip: c.GetIp(),
		device:  ident.User{App: ident.AppKey(intern(string(app))), ID: ident.UserID(c.GetUser())}.Device(c.GetResource()),
		gateway: intern(c.GetGateway()), os: intern(c.GetOs()), version: intern(c.GetVersion()),
		since: c.GetSince(), revision: revision,
	}
}

func (c *conn) proto() *presencev1.Connection {
	return &presencev1.Connection{
		Id: c.id, Gateway: c.gateway, User: string(c.device.ID), Resource: c.device.Resource,
		Os: c.os, Version: c.version, Ip: c.ip, Since: c.since,
	}
}

func intern(s string) string { return unique.Make(s).Value() }

// onlineUser is a user with at least one connection.
type onlineUser struct {
	conns []*conn
	// since is the revision that brought the user online.
	since uint64
}

// index mirrors the bucket of connections. Changes come from two sides: from
// the bucket's watch, in the order of revisions, and ahead of it from this
// instance's own writes.
type index struct {
	mu       sync.RWMutex
	apps     map[ident.AppKey]map[ident.UserID]*onlineUser
	gateways map[string]int
	total    int
	// watched is the newest revision that the watch has brought.
	watched uint64
	// ahead holds, for devices this instance has changed, the revision up to
	// which the watch brings nothing new. It empties itself as the watch catches
	// up.
	ahead map[ident.Device]uint64
	// generation counts starts of the watch: what an older one brought and the
	// present one did not is gone.
	generation uint32

	gone  map[string][]chan struct{}
	await []revisionWaiter
}

type revisionWaiter struct {
	revision uint64
	reached  chan struct{}
}

func newIndex() *index {
	return &index{
		apps:     make(map[ident.AppKey]map[ident.UserID]*onlineUser),
		gateways: make(map[string]int),
		ahead:    make(map[ident.Device]uint64),
		gone:     make(map[string][]chan struct{}),
	}
}

// effect says what a change did to its user.
type effect struct {
	online  bool
	changed bool
}

// put enters a connection that this instance wrote into the bucket.
func (x *index) put(c *conn) effect {
	x.mu.Lock()
	defer x.mu.Unlock()
	if c.revision > x.watched {
		x.ahead[c.device] = c.revision
		x.insert(c)
	}
	u := x.user(c.device.User)
	return effect{online: u != nil, changed: u != nil && u.since == c.revision}
}

// remove takes out a connection that this instance deleted from the bucket,
// at the revision of the deletion.
func (x *index) remove(d ident.Device, revision uint64) effect {
	x.mu.Lock()
	defer x.mu.Unlock()
	if revision > x.watched {
		x.ahead[d] = revision
		x.drop(d, revision)
	}
	online := x.user(d.User) != nil
	return effect{online: online, changed: !online}
}

// user needs mu. It returns nil if the user has no connection.
func (x *index) user(u ident.User) *onlineUser { return x.apps[u.App][u.ID] }

// follow applies what the watch brings of a device: c nil is a deletion.
func (x *index) follow(d ident.Device, c *conn, revision uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if revision > x.watched {
		x.watched = revision
		x.wake()
	}
	if a, ok := x.ahead[d]; ok {
		if revision < a {
			return
		}
		delete(x.ahead, d)
		if revision == a {
			// Applied already, and perhaps taken out again since.
			x.confirm(d, revision)
			return
		}
	}
	if c == nil {
		x.drop(d, revision)
		return
	}
	x.insert(c)
}

// beginLoad is called before the watch brings its first entry, endLoad after it
// has brought all there are: those of an older watch that did not come again
// are gone.
func (x *index) beginLoad() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.generation++
}

func (x *index) endLoad() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, users := range x.apps {
		for _, u := range users {
			for _, c := range slices.Clone(u.conns) {
				if c.generation != x.generation {
					x.drop(c.device, c.revision)
				}
			}
		}
	}
}

// confirm needs mu. It notes that the present watch has brought a connection.
func (x *index) confirm(d ident.Device, revision uint64) {
	if u := x.user(d.User); u != nil {
		for _, c := range u.conns {
			if c.device.Resource == d.Resource && c.revision == revision {
				c.generation = x.generation
			}
		}
	}
}

// insert needs mu.
func (x *index) insert(c *conn) {
	c.generation = x.generation
	users := x.apps[c.device.App]
	if users == nil {
		users = make(map[ident.UserID]*onlineUser)
		x.apps[c.device.App] = users
	}
	u := users[c.device.ID]
	if u == nil {
		u = &onlineUser{since: c.revision}
		users[c.device.ID] = u
	}
	for i, old := range u.conns {
		if old.device.Resource != c.device.Resource {
			continue
		}
		switch {
		case old.revision > c.revision:
			return
		case old.revision == c.revision:
			old.generation = x.generation
			return
		}
		u.conns[i] = c
		x.count(old, -1)
		x.count(c, 1)
		if old.id != c.id {
			x.announceGone(old.id)
		}
		return
	}
	u.conns = append(u.conns, c)
	x.count(c, 1)
}

// drop needs mu. It leaves alone what is newer than revision.
func (x *index) drop(d ident.Device, revision uint64) {
	u := x.user(d.User)
	if u == nil {
		return
	}
	for i, c := range u.conns {
		if c.device.Resource != d.Resource {
			continue
		}
		if c.revision > revision {
			return
		}
		u.conns = append(u.conns[:i:i], u.conns[i+1:]...)
		x.count(c, -1)
		if len(u.conns) == 0 {
			delete(x.apps[d.App], d.ID)
			if len(x.apps[d.App]) == 0 {
				delete(x.apps, d.App)
			}
		}
		x.announceGone(c.id)
		return
	}
}

// count needs mu.
func (x *index) count(c *conn, n int) {
	x.total += n
	x.gateways[c.gateway] += n
	if x.gateways[c.gateway] == 0 {
		delete(x.gateways, c.gateway)
	}
}

// announceGone needs mu.
func (x *index) announceGone(id string) {
	for _, ch := range x.gone[id] {
		close(ch)
	}
	delete(x.gone, id)
}

// wake needs mu.
func (x *index) wake() {
	kept := x.await[:0]
	for _, w := range x.await {
		if w.revision <= x.watched {
			close(w.reached)
		} else {
			kept = append(kept, w)
		}
	}
	x.await = kept
}

// reached waits until the watch has brought a revision.
func (x *index) reached(ctx context.Context, revision uint64) error {
	x.mu.Lock()
	if x.watched >= revision {
		x.mu.Unlock()
		return nil
	}
	ch := make(chan struct{})
	x.await = append(x.await, revisionWaiter{revision, ch})
	x.mu.Unlock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		x.mu.Lock()
		defer x.mu.Unlock()
		for i, w := range x.await {
			if w.reached == ch {
				x.await = append(x.await[:i], x.await[i+1:]...)
				break
			}
		}
		return ctx.Err()
	}
}

// find returns the connection of a device, or nil.
func (x *index) find(d ident.Device) *conn {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if u := x.user(d.User); u != nil {
		for _, c := range u.conns {
			if c.device.Resource == d.Resource {
				return c
			}
		}
	}
	return nil
}

// online reports whether a user has a connection.
func (x *index) online(u ident.User) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.user(u) != nil
}

// conns returns a user's connections.
func (x *index) conns(user ident.User) []*conn {
	x.mu.RLock()
	defer x.mu.RUnlock()
	u := x.user(user)
	if u == nil {
		return nil
	}
	return slices.Clone(u.conns)
}

// usersOnline returns how many users of an app have a connection.
func (x *index) usersOnline(app ident.AppKey) int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return int64(len(x.apps[app]))
}

// withinQuota reports whether a user is among the first quota users online, in
// the order in which they came: a question to which all instances that have
// seen the same revisions have the same answer.
func (x *index) withinQuota(user ident.User, quota int64) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	users := x.apps[user.App]
	if int64(len(users)) <= quota {
		return true
	}
	u := users[user.ID]
	if u == nil {
		return true
	}
	var before int64
	for _, other := range users {
		if other.since < u.since {
			before++
		}
	}
	return before < quota
}

// leaving are connections whose end a caller waits for.
type leaving struct {
	index *index
	ids   []string
	ends  []chan struct{}
}

// kick marks a user's connections, or only that of one device, as ended by an
// operator. The caller must call wait.
func (x *index) kick(user ident.User, resource string) *leaving {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := &leaving{index: x}
	if u := x.user(user); u != nil {
		for _, c := range u.conns {
			if resource == "" || c.device.Resource == resource {
				c.kicked = true
				ch := make(chan struct{})
				x.gone[c.id] = append(x.gone[c.id], ch)
				l.ids, l.ends = append(l.ids, c.id), append(l.ends, ch)
			}
		}
	}
	return l
}

// wait returns when all of them are gone or ctx ends, and reports whether they
// are gone.
func (l *leaving) wait(ctx context.Context) bool {
	for i, ch := range l.ends {
		select {
		case <-ch:
			continue
		default:
		}
		select {
		case <-ch:
		case <-ctx.Done():
			l.forget(i)
			return false
		}
	}
	return true
}

func (l *leaving) forget(from int) {
	x := l.index
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := from; i < len(l.ids); i++ {
		id := l.ids[i]
		x.gone[id] = slices.DeleteFunc(x.gone[id], func(ch chan struct{}) bool { return ch == l.ends[i] })
		if len(x.gone[id]) == 0 {
			delete(x.gone, id)
		}
	}
}

func (x *index) isKicked(c *conn) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return c.kicked
}

// knownGateways returns the gateways that have connections.
func (x *index) knownGateways() []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make([]string, 0, len(x.gateways))
	for g := range x.gateways {
		out = append(out, g)
	}
	return out
}

// dropGateway takes out all connections of a gateway and returns them.
func (x *index) dropGateway(gateway string) []*conn {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.gateways[gateway] == 0 {
		return nil
	}
	out := make([]*conn, 0, x.gateways[gateway])
	for _, users := range x.apps {
		for _, u := range users {
			for _, c := range u.conns {
				if c.gateway == gateway {
					out = append(out, c)
				}
			}
		}
	}
	for _, c := range out {
		x.drop(c.device, c.revision)
	}
	return out
}

// size returns how many connections there are.
func (x *index) size() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.total
}

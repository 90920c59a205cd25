package presence

import (
	"context"
	"slices"
	"sync"
	"unique"

	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// conn is a connection as the index holds it. It is not changed once it is in
// the index, except for gen and kicked, which index.mu guards.
type conn struct {
	id, user, resource, ip string
	// The same few values for all connections, so shared.
	gateway, os, version string
	since                int64
	revision             uint64
	generation           uint32
	// kicked is set when an operator has asked for the connection's end.
	kicked bool
}

func newConn(c *presencev1.Connection, revision uint64) *conn {
	return &conn{
		id: c.GetId(), user: c.GetUser(), resource: c.GetResource(), ip: c.GetIp(),
		gateway: intern(c.GetGateway()), os: intern(c.GetOs()), version: intern(c.GetVersion()),
		since: c.GetSince(), revision: revision,
	}
}

func (c *conn) proto() *presencev1.Connection {
	return &presencev1.Connection{
		Id: c.id, Gateway: c.gateway, User: c.user, Resource: c.resource,
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
	apps     map[string]map[string]*onlineUser
	gateways map[string]int
	total    int
	// watched is the newest revision that the watch has brought.
	watched uint64
	// ahead holds, for keys this instance has changed, the revision up to which
	// the watch brings nothing new. It empties itself as the watch catches up.
	ahead map[string]uint64
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
		apps:     make(map[string]map[string]*onlineUser),
		gateways: make(map[string]int),
		ahead:    make(map[string]uint64),
		gone:     make(map[string][]chan struct{}),
	}
}

// effect says what a change did to its user.
type effect struct {
	online  bool
	changed bool
}

// put enters a connection that this instance wrote into the bucket.
func (x *index) put(key, app string, c *conn) effect {
	x.mu.Lock()
	defer x.mu.Unlock()
	if c.revision > x.watched {
		x.ahead[key] = c.revision
		x.insert(app, c)
	}
	u := x.apps[app][c.user]
	return effect{online: u != nil, changed: u != nil && u.since == c.revision}
}

// remove takes out a connection that this instance deleted from the bucket,
// at the revision of the deletion.
func (x *index) remove(key, app, user, resource string, revision uint64) effect {
	x.mu.Lock()
	defer x.mu.Unlock()
	if revision > x.watched {
		x.ahead[key] = revision
		x.drop(app, user, resource, revision)
	}
	online := x.apps[app][user] != nil
	return effect{online: online, changed: !online}
}

// follow applies what the watch brings: c nil is a deletion.
func (x *index) follow(key, app, user, resource string, c *conn, revision uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if revision > x.watched {
		x.watched = revision
		x.wake()
	}
	if a, ok := x.ahead[key]; ok {
		if revision < a {
			return
		}
		delete(x.ahead, key)
		if revision == a {
			// Applied already, and perhaps taken out again since.
			x.confirm(app, user, resource, revision)
			return
		}
	}
	if c == nil {
		x.drop(app, user, resource, revision)
		return
	}
	x.insert(app, c)
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
	for app, users := range x.apps {
		for _, u := range users {
			for _, c := range append([]*conn(nil), u.conns...) {
				if c.generation != x.generation {
					x.drop(app, c.user, c.resource, c.revision)
				}
			}
		}
	}
}

// confirm needs mu. It notes that the present watch has brought a connection.
func (x *index) confirm(app, user, resource string, revision uint64) {
	if u := x.apps[app][user]; u != nil {
		for _, c := range u.conns {
			if c.resource == resource && c.revision == revision {
				c.generation = x.generation
			}
		}
	}
}

// insert needs mu.
func (x *index) insert(app string, c *conn) {
	c.generation = x.generation
	users := x.apps[app]
	if users == nil {
		users = make(map[string]*onlineUser)
		x.apps[app] = users
	}
	u := users[c.user]
	if u == nil {
		u = &onlineUser{since: c.revision}
		users[c.user] = u
	}
	for i, old := range u.conns {
		if old.resource != c.resource {
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
func (x *index) drop(app, user, resource string, revision uint64) {
	u := x.apps[app][user]
	if u == nil {
		return
	}
	for i, c := range u.conns {
		if c.resource != resource {
			continue
		}
		if c.revision > revision {
			return
		}
		u.conns = append(u.conns[:i:i], u.conns[i+1:]...)
		x.count(c, -1)
		if len(u.conns) == 0 {
			delete(x.apps[app], user)
			if len(x.apps[app]) == 0 {
				delete(x.apps, app)
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

// find gives the connection of a device, or nil.
func (x *index) find(app, user, resource string) *conn {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if u := x.apps[app][user]; u != nil {
		for _, c := range u.conns {
			if c.resource == resource {
				return c
			}
		}
	}
	return nil
}

// online reports whether a user has a connection.
func (x *index) online(app, user string) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.apps[app][user] != nil
}

// conns lists a user's connections.
func (x *index) conns(app, user string) []*conn {
	x.mu.RLock()
	defer x.mu.RUnlock()
	u := x.apps[app][user]
	if u == nil {
		return nil
	}
	return append([]*conn(nil), u.conns...)
}

// usersOnline counts the users of an app who have a connection.
func (x *index) usersOnline(app string) int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return int64(len(x.apps[app]))
}

// withinQuota reports whether a user is among the first quota users online, in
// the order in which they came: a question to which all instances that have
// seen the same revisions have the same answer.
func (x *index) withinQuota(app, user string, quota int64) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	users := x.apps[app]
	if int64(len(users)) <= quota {
		return true
	}
	u := users[user]
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

// leaving are connections whose end somebody waits for.
type leaving struct {
	index *index
	ids   []string
	ends  []chan struct{}
}

// kick marks a user's connections, or only that of one device, as ended by an
// operator. The caller must call wait.
func (x *index) kick(app, user, resource string) *leaving {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := &leaving{index: x}
	if u := x.apps[app][user]; u != nil {
		for _, c := range u.conns {
			if resource == "" || c.resource == resource {
				c.kicked = true
				ch := make(chan struct{})
				x.gone[c.id] = append(x.gone[c.id], ch)
				l.ids, l.ends = append(l.ids, c.id), append(l.ends, ch)
			}
		}
	}
	return l
}

// wait returns when all of them are gone or ctx ends, and says which.
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

// knownGateways lists the gateways that have connections.
func (x *index) knownGateways() []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make([]string, 0, len(x.gateways))
	for g := range x.gateways {
		out = append(out, g)
	}
	return out
}

// appConn is a connection with its app.
type appConn struct {
	app string
	*conn
}

// takeGateway takes out all connections of a gateway and gives them back.
func (x *index) takeGateway(gateway string) []appConn {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.gateways[gateway] == 0 {
		return nil
	}
	out := make([]appConn, 0, x.gateways[gateway])
	for app, users := range x.apps {
		for _, u := range users {
			for _, c := range u.conns {
				if c.gateway == gateway {
					out = append(out, appConn{app, c})
				}
			}
		}
	}
	for _, c := range out {
		x.drop(c.app, c.user, c.resource, c.revision)
	}
	return out
}

// size counts connections.
func (x *index) size() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.total
}

package session

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// subject is what connections listen on: a user, a group or a room of an app.
type subject struct {
	app  ident.AppKey
	kind busv1.Kind
	name string
}

func userSubject(u ident.User) subject {
	return subject{u.App, busv1.Kind_KIND_USER, string(u.ID)}
}

// String returns the NATS subject.
func (s subject) String() string { return bus.DeliverySubject(string(s.app), s.kind, s.name) }

// viewer returns the user whose devices are shown what comes on the subject;
// empty for many users, who are all shown the same.
func (s subject) viewer() ident.UserID {
	if s.kind == busv1.Kind_KIND_USER {
		return ident.UserID(s.name)
	}
	return ""
}

// shard takes in the pushes of a part of the subjects. Its channel is bounded:
// when it is full NATS drops, says so, and all connections are checked.
type shard struct {
	srv *Server
	ch  chan *natsx.Msg

	mu        sync.RWMutex
	listeners map[string]*listener // by NATS subject
}

// listener is the subscription of one subject, shared by the connections on it.
type listener struct {
	subject subject
	sub     *natsx.Subscription
	// conns grows in place, and taking one out makes a new list: a push goes on
	// with the list that it found.
	conns []*conn
}

func newShard(s *Server) *shard {
	return &shard{srv: s, ch: make(chan *natsx.Msg, shardBuffer), listeners: make(map[string]*listener)}
}

func (s *Server) shardOf(natsSubject string) *shard {
	return s.shards[xxhash.Sum64String(natsSubject)%uint64(len(s.shards))]
}

// join enters a connection on a subject. On a user's an older connection of the
// same device is taken out and returned.
func (sh *shard) join(c *conn, on subject, name string) (old *conn, err error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	l := sh.listeners[name]
	if l == nil {
		sub, err := sh.srv.deps.NATS.SubscribeChan(name, sh.ch)
		if err != nil {
			return nil, err
		}
		l = &listener{subject: on, sub: sub}
		sh.listeners[name] = l
	}
	if on.kind == busv1.Kind_KIND_USER {
		if i := slices.IndexFunc(l.conns, func(x *conn) bool { return x.resource == c.resource }); i >= 0 {
			old = l.conns[i]
			l.conns = slices.Delete(slices.Clone(l.conns), i, i+1)
		}
	}
	l.conns = append(l.conns, c)
	return old, nil
}

// leave takes a connection off a subject, and ends the subscription with the
// last one.
func (sh *shard) leave(c *conn, name string) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	l := sh.listeners[name]
	if l == nil {
		return
	}
	i := slices.Index(l.conns, c)
	if i < 0 {
		return // replaced
	}
	if len(l.conns) > 1 {
		l.conns = slices.Delete(slices.Clone(l.conns), i, i+1)
		return
	}
	delete(sh.listeners, name)
	if err := l.sub.Unsubscribe(); err != nil {
		sh.srv.logger.Debug("a subscription was not ended", obs.KeyError, err)
	}
}

// listening returns a subject and the connections on it.
func (sh *shard) listening(name string) (subject, []*conn) {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if l := sh.listeners[name]; l != nil {
		return l.subject, l.conns
	}
	return subject{}, nil
}

func (sh *shard) run(ctx context.Context) {
	for {
		select {
		case m := <-sh.ch:
			sh.push(m)
		case <-ctx.Done():
			return
		}
	}
}

// subscriptions are the subjects that a connection is on.
type subscriptions struct {
	mu sync.Mutex
	on []subject
	// ended: the connection is closing and takes no more.
	ended bool
}

var errClosing = errors.New("the connection is closing")

// subscribe puts the connection on a subject; what is pushed there reaches it
// once Deps.NATS is flushed. An older connection of the same device that this
// one takes the place of is returned.
func (c *conn) subscribe(on subject) (old *conn, err error) {
	c.subs.mu.Lock()
	defer c.subs.mu.Unlock()
	switch {
	case c.subs.ended:
		return nil, errClosing
	case slices.Contains(c.subs.on, on):
		return nil, nil
	}
	name := on.String()
	if old, err = c.srv.shardOf(name).join(c, on, name); err == nil {
		c.subs.on = append(c.subs.on, on)
	}
	return old, err
}

// unsubscribe takes the connection off a subject. A push that is on its way to it
// may still arrive.
func (c *conn) unsubscribe(from subject) {
	c.subs.mu.Lock()
	defer c.subs.mu.Unlock()
	if i := slices.Index(c.subs.on, from); i >= 0 {
		c.subs.on = slices.Delete(c.subs.on, i, i+1)
		c.leaveSubject(from)
	}
}

// follow has the device shown a conversation with many members: what comes on its
// subject from now on, and what lies before that, from the user's place in it. As
// after a login the connection is subscribed first, and then the archive is asked.
func (c *conn) follow(ctx context.Context, on subject) error {
	if _, err := c.subscribe(on); err != nil {
		return err
	}
	if err := c.srv.deps.NATS.Flush(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checkRouted(c.srv.now())
	name := ident.ConversationID(on.name)
	if _, asked := c.holes[name]; !asked && !c.closed {
		c.ask(name, hole{kind: on.kind, peer: on.name})
	}
	return nil
}

// unsubscribeAll takes the connection off everything, for good.
func (c *conn) unsubscribeAll() {
	c.subs.mu.Lock()
	defer c.subs.mu.Unlock()
	was := c.subs.on
	c.subs.on, c.subs.ended = nil, true
	for _, s := range was {
		c.leaveSubject(s)
	}
}

func (c *conn) leaveSubject(s subject) {
	name := s.String()
	c.srv.shardOf(name).leave(c, name)
}

// subscribed reports whether the connection is on any subject.
func (c *conn) subscribed() bool {
	c.subs.mu.Lock()
	defer c.subs.mu.Unlock()
	return len(c.subs.on) > 0
}

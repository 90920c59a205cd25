package session

import (
	"context"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/names"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// shard takes in the pushes of a part of the users. Its channel is bounded:
// when it is full NATS drops, says so, and all connections are checked.
type shard struct {
	srv *Server
	ch  chan *natsx.Msg

	mu    sync.RWMutex
	users map[string]*listener // by subject
}

// listener is the interest in one user, shared by the user's devices. Its list
// is replaced, never changed.
type listener struct {
	sub   *natsx.Subscription
	conns []*conn
}

func newShard(s *Server, buffer int) *shard {
	return &shard{srv: s, ch: make(chan *natsx.Msg, buffer), users: make(map[string]*listener)}
}

func (s *Server) shardOf(subject string) *shard {
	return s.shards[xxhash.Sum64String(subject)%uint64(len(s.shards))]
}

// join enters a connection and declares interest in its user. An older
// connection of the same device is taken out and returned.
func (sh *shard) join(c *conn) (old *conn, err error) {
	subject := bus.UserSubject(c.appKey, c.user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	l := sh.users[subject]
	if l == nil {
		sub, err := sh.srv.deps.NATS.SubscribeChan(subject, sh.ch)
		if err != nil {
			return nil, err
		}
		l = &listener{sub: sub}
		sh.users[subject] = l
	}
	conns := make([]*conn, 0, len(l.conns)+1)
	for _, x := range l.conns {
		if x.resource == c.resource {
			old = x
		} else {
			conns = append(conns, x)
		}
	}
	l.conns = append(conns, c)
	return old, nil
}

// leave takes a connection out, and the interest with the last one.
func (sh *shard) leave(c *conn) {
	subject := bus.UserSubject(c.appKey, c.user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	l := sh.users[subject]
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
	delete(sh.users, subject)
	if err := l.sub.Unsubscribe(); err != nil {
		sh.srv.logger.Debug("interest was not withdrawn", obs.KeyError, err)
	}
}

func (sh *shard) conns(subject string) []*conn {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if l := sh.users[subject]; l != nil {
		return l.conns
	}
	return nil
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

// push hands one push to the user's connections.
func (sh *shard) push(m *natsx.Msg) {
	conns := sh.conns(m.Subject)
	if len(conns) == 0 {
		return
	}
	if d, ok := deliveryOf(m.Data); ok {
		sh.srv.metrics.delivered.Inc()
		deliver(conns, d)
		return
	}
	var p busv1.Push
	if err := proto.Unmarshal(m.Data, &p); err != nil {
		sh.srv.metrics.pushes.WithLabelValues("malformed").Inc()
		sh.srv.logger.Error("push is unreadable", obs.KeyError, err)
		return
	}
	switch what := p.GetWhat().(type) {
	case *busv1.Push_Delivery:
		sh.srv.metrics.delivered.Inc()
		deliver(conns, what.Delivery)
	case *busv1.Push_Disconnect:
		sh.srv.metrics.pushes.WithLabelValues("disconnect").Inc()
		disconnect(conns, what.Disconnect)
	case *busv1.Push_Notice:
		sh.srv.metrics.pushes.WithLabelValues("notice").Inc()
		notify(conns, what.Notice)
	default:
		sh.srv.metrics.pushes.WithLabelValues("unknown").Inc()
	}
}

// deliver shows an entry to the devices of one user. It is encoded once, when
// the first of them is to see it.
func deliver(conns []*conn, d *busv1.Delivery) {
	var meta []byte
	for _, c := range conns {
		if !c.visible(d) {
			c.take(d, nil)
			continue
		}
		if meta == nil {
			meta = encodeMeta(c.appKey, d)
		}
		c.take(d, meta)
	}
}

// notify shows an event to the devices of one user.
func notify(conns []*conn, n *busv1.Notice) {
	var meta []byte
	for _, c := range conns {
		if !c.in.Load() || n.GetExceptResource() != "" && n.GetExceptResource() == c.resource {
			continue
		}
		if meta == nil {
			meta = encodeEvent(c.appKey, n.GetNs(), uint64(n.GetId()), n.GetFrom(), c.user, n.GetTimestamp(), n.GetPayload()) //nolint:gosec // IDs are positive
		}
		c.sendDirect(meta)
	}
}

// take takes one live entry; meta is nil when the device is not to see it.
func (c *conn) take(d *busv1.Delivery, meta []byte) {
	if meta != nil && (d.GetOnlineOnly() || d.GetSeq() == 0) {
		// Never offered again, so it goes past the queue.
		if c.in.Load() {
			c.sendDirect(meta)
		}
		meta = nil
	}
	if d.GetSeq() == 0 {
		return
	}
	now := c.srv.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	if c.renewed(d) {
		c.reopen()
	}
	q := c.queues[d.GetConversation()]
	if q == nil {
		if q = c.begin(d); q == nil {
			return
		}
	}
	q.used = now
	q.logged = max(q.logged, d.GetLogPlace())
	before := q.confirmed
	if !q.offer(d.GetSeq(), meta, c.srv.limits) {
		return
	}
	c.note(q, before)
	c.advance(q, now)
}

// begin makes a queue that begins with a live entry, if nothing before that is
// missing. Otherwise it notes that the archive is to be asked, or does nothing
// when the entry is none that the device still has to be shown.
func (c *conn) begin(d *busv1.Delivery) *queue {
	if c.reach.places == nil {
		c.noteHole(d)
		return nil
	}
	p := c.reach.partition(c.appKey, d.GetConversation())
	if c.reach.covers(p, d.GetLogPlace()) {
		return nil
	}
	if _, ok := c.holes[d.GetConversation()]; ok || !c.reach.begins(p, d.GetLogPlace(), d.GetLogPrevious()) {
		c.noteHole(d)
		return nil
	}
	q := c.newQueue(d.GetConversation(), d.GetKind(), peerOf(d, c.user))
	if q != nil {
		q.confirmed = d.GetSeq() - 1
		q.tailFrom, q.last = q.confirmed, q.confirmed
	}
	return q
}

// peerOf is what the device calls a conversation.
func peerOf(d *busv1.Delivery, user string) string {
	if d.GetKind() == busv1.Kind_KIND_GROUP || d.GetKind() == busv1.Kind_KIND_ROOM {
		return d.GetTo()
	}
	return names.Peer(d.GetConversation(), user)
}

// newQueue makes room for a queue and enters it. It gives nil when the
// connection holds as many as it may and all have something waiting: then the
// entry stays in the archive, and a later check finds it.
func (c *conn) newQueue(conversation string, kind busv1.Kind, peer string) *queue {
	if len(c.queues) >= c.srv.cfg.CleanQueues && !c.evict() && len(c.queues) >= c.srv.cfg.MaxQueues {
		soon(&c.checkAt, c.srv.now()+c.srv.cfg.ConfirmTimeout.Milliseconds())
		return nil
	}
	if c.queues == nil {
		c.queues = make(map[string]*queue)
	}
	q := &queue{conversation: conversation, jid: queueJID(c.appKey, peer, domainOf(kind)), mem: &c.srv.memory}
	c.queues[conversation] = q
	return q
}

// evict drops the clean queue that was used least recently, out of a few.
func (c *conn) evict() bool {
	const sample = 16
	var oldest *queue
	n := 0
	for _, q := range c.queues {
		if q.pending() || q.phase == answering || q.owed > 0 {
			continue
		}
		if oldest == nil || q.used < oldest.used {
			oldest = q
		}
		if n++; n == sample {
			break
		}
	}
	if oldest == nil {
		return false
	}
	c.reach.dropped(c.reach.partition(c.appKey, oldest.conversation), oldest.logged)
	if c.asking {
		// The answer may be older than what was confirmed of it.
		if c.gone == nil {
			c.gone = make(map[string]int64)
		}
		c.gone[oldest.conversation] = oldest.confirmed
	}
	delete(c.queues, oldest.conversation)
	return true
}

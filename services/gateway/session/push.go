package session

import (
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/msync"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// push hands one push to the connections on its subject.
func (sh *shard) push(m *natsx.Msg) {
	on, conns := sh.listening(m.Subject)
	if len(conns) == 0 {
		return
	}
	if d, ok := deliveryOf(m.Data); ok {
		sh.srv.metrics.delivered.Inc()
		sh.srv.deliver(on, conns, d)
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
		sh.srv.deliver(on, conns, what.Delivery)
	case *busv1.Push_Disconnect:
		sh.srv.metrics.pushes.WithLabelValues("disconnect").Inc()
		disconnect(conns, what.Disconnect)
	case *busv1.Push_Notice:
		sh.srv.metrics.pushes.WithLabelValues("notice").Inc()
		sh.srv.notify(on, conns, what.Notice)
	default:
		sh.srv.metrics.pushes.WithLabelValues("unknown").Inc()
	}
}

// deliver shows an entry to the connections on a subject. It is encoded once,
// when the first of them is to see it.
func (s *Server) deliver(on subject, conns []*conn, d *busv1.Delivery) {
	var meta []byte
	encoded := false
	for _, c := range conns {
		if !c.visible(d) {
			c.take(d, nil)
			continue
		}
		if !encoded {
			meta, encoded = s.entryMeta(on.app, on.viewer(), d), true
		}
		c.take(d, meta)
	}
}

// entryMeta returns an entry as devices are shown it; nil for one that they are
// not told of, or that cannot be told.
func (s *Server) entryMeta(app ident.AppKey, viewer ident.UserID, d *busv1.Delivery) []byte {
	meta, err := msync.EntryMeta(app, viewer, d)
	if err != nil {
		s.untold(app, err)
	}
	return meta
}

// untold notes that devices are not told of an event.
func (s *Server) untold(app ident.AppKey, err error) {
	s.metrics.pushes.WithLabelValues("untold").Inc()
	s.logger.Error("an event cannot be told to clients and is left out; is this gateway older than the other services?", obs.KeyApp, app, obs.KeyError, err)
}

// notify shows an event to the connections on a subject.
func (s *Server) notify(on subject, conns []*conn, n *busv1.Notice) {
	meta, err := msync.NoticeMeta(on.app, on.viewer(), n)
	if err != nil {
		s.untold(on.app, err)
	}
	if meta == nil {
		return
	}
	for _, c := range conns {
		if c.loggedIn.Load() && (n.GetExceptResource() == "" || n.GetExceptResource() != c.resource) {
			c.sendDirect(meta)
		}
	}
}

// take takes one live entry; meta is nil when the device is not to see it.
func (c *conn) take(d *busv1.Delivery, meta []byte) {
	if meta != nil && (d.GetOnlineOnly() || d.GetSeq() == 0) {
		// Never offered again, so it goes past the queue.
		if c.loggedIn.Load() {
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
	q := c.queues[conversationOf(d)]
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
	p := c.reach.partition(c.user.App, conversationOf(d))
	if c.reach.covers(p, d.GetLogPlace()) {
		return nil
	}
	if _, ok := c.holes[conversationOf(d)]; ok || !c.reach.begins(p, d.GetLogPlace(), d.GetLogPrevious()) {
		c.noteHole(d)
		return nil
	}
	q := c.newQueue(conversationOf(d), d.GetKind(), peerOf(d, c.user.ID))
	if q != nil {
		q.confirmed = d.GetSeq() - 1
		q.tailFrom, q.last = q.confirmed, q.confirmed
	}
	return q
}

// peerOf is what the device calls a conversation.
func peerOf(d *busv1.Delivery, user ident.UserID) string {
	if d.GetKind() == busv1.Kind_KIND_GROUP || d.GetKind() == busv1.Kind_KIND_ROOM {
		return d.GetTo()
	}
	return string(conversationOf(d).Peer(user))
}

func conversationOf(d *busv1.Delivery) ident.ConversationID {
	return ident.ConversationID(d.GetConversation())
}

// newQueue makes room for a queue and enters it. It gives nil when the
// connection holds as many as it may and all have something waiting: then the
// entry stays in the archive, and a later check finds it.
func (c *conn) newQueue(conversation ident.ConversationID, kind busv1.Kind, peer string) *queue {
	if len(c.queues) >= c.srv.cfg.CleanQueues && !c.evict() && len(c.queues) >= c.srv.cfg.MaxQueues {
		soon(&c.checkAt, c.srv.now()+c.srv.cfg.ConfirmTimeout.Milliseconds())
		return nil
	}
	if c.queues == nil {
		c.queues = make(map[ident.ConversationID]*queue)
	}
	q := &queue{conversation: conversation, jid: msync.JID(c.user.App, peer, msync.Domain(kind)), mem: &c.srv.memory}
	c.queues[conversation] = q
	return q
}

// evict drops the clean queue that was used least recently, out of a few.
func (c *conn) evict() bool {
	const sample = 16
	var oldest *queue
	n := 0
	for _, q := range c.queues {
		if q.pending() || q.phase == pulling || q.owed > 0 {
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
	c.reach.dropped(c.reach.partition(c.user.App, oldest.conversation), oldest.logged)
	if c.asking {
		// The answer may be older than what was confirmed of it.
		if c.gone == nil {
			c.gone = make(positions)
		}
		c.gone[oldest.conversation] = oldest.confirmed
	}
	delete(c.queues, oldest.conversation)
	return true
}

package session

import (
	"strings"
	"time"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/msync"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// An archive that is behind what was pushed is asked again after a short wait,
// a few times; after that the device is notified again later.
const (
	archiveTries = 6
	archiveWait  = 20 * time.Millisecond
	// maxSkips bounds the archive pages without anything to show that one pull
	// reads.
	maxSkips = 64
)

// sync takes a SYNC frame: a meta that the device sends, or a pull. A pull for
// history carries a meta too, which is no message, and so does nothing else that
// names a queue.
func (c *conn) sync(ul msync.SyncUL) {
	switch {
	case ul.Roam:
		// There is no history to be had this way: an answer that says so ends the
		// pull.
		jid := msync.JID(c.user.App, ul.QueueName, ul.QueueDomain)
		if ul.QueueName == "" {
			jid = c.srv.directJID
		}
		c.send(msync.AppendRoamEnd(make([]byte, 0, 64), jid, c.srv.now()))
		c.srv.metrics.sends.WithLabelValues("roam").Inc()
	case ul.QueueName == "":
		if ul.HasMeta {
			c.upstream(ul.Meta)
		}
	default:
		if ul.HasMeta {
			head, ok := msync.ParseMetaHead(ul.Meta)
			if !ok {
				c.shutdown(closeInvalidData, "malformed frame")
				return
			}
			c.refuse(head.ID, msyncv1.Status_FAIL, "a pull carries no message")
		}
		c.pull(ul)
	}
}

// unread answers a heartbeat. While it is not known yet what is unread the
// answer waits for that, but not for long.
func (c *conn) unread() {
	now := c.srv.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = true
	c.owedUnread++
	if c.reach.places != nil {
		c.answerUnread(now)
		return
	}
	if c.owedUnread == 1 {
		c.unreadSince = now
	}
	soon(&c.queuesAt, c.unreadSince+c.srv.cfg.UnreadWait.Milliseconds())
}

// answerUnread answers every question for what is unread that is owed an answer.
// The caller holds c.mu.
func (c *conn) answerUnread(now int64) {
	for ; c.owedUnread > 0; c.owedUnread-- {
		c.sendUnread(now)
	}
}

// sendUnread lists all queues with something unconfirmed.
func (c *conn) sendUnread(now int64) {
	list := make([]byte, 0, 64)
	for _, q := range c.queues {
		if !q.pending() {
			continue
		}
		list = msync.AppendUnreadQueue(list, q.jid, uint64(q.last-q.confirmed)) // positive
		if q.phase != pulling {
			q.enter(notified, now)
		}
	}
	c.send(msync.AppendUnread(make([]byte, 0, len(list)+32), list, now))
}

// find gives the queue that the device names.
func (c *conn) find(ul msync.SyncUL) *queue {
	if !strings.Contains(ul.QueueDomain, "conference") {
		var buf [2*ident.MaxUserID + 1]byte // most names fit, and then nothing is allocated
		key := ident.AppendUserConversation(buf[:0], string(c.user.ID), string(ident.FoldUser(ul.QueueName)))
		if q := c.queues[ident.ConversationID(key)]; q != nil {
			return q
		}
	}
	return c.queues[ident.ConversationID(ul.QueueName)]
}

// pull answers a pull or takes a confirmation.
func (c *conn) pull(ul msync.SyncUL) {
	now := c.srv.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.find(ul)
	if q == nil {
		// Nothing is known of it, so nothing waits in it.
		c.sendEmpty(msync.JID(c.user.App, ul.QueueName, ul.QueueDomain), now)
		return
	}
	q.used = now
	known, pulled := false, false
	if ul.Key != 0 {
		before := q.confirmed
		known, pulled = q.confirm(ul.Key)
		c.note(q, before)
	}
	if known && !pulled && !q.underWay() && q.owed == 0 {
		// It was sent without a pull: no answer, but more if there is more.
		if q.phase == pushed {
			q.enter(idle, now)
			c.advance(q, now)
		}
		return
	}
	if !known || pulled {
		q.owe()
	}
	// One page is under way at a time: other pulls of the queue wait until it is
	// confirmed. Were they given the same again, two pulls would go on for ever.
	if !q.underWay() {
		c.serve(q)
	}
}

// serve answers the pulls of a queue that are owed an answer: one with a page,
// if there is something, and then the others when that is confirmed.
func (c *conn) serve(q *queue) {
	for q.owed > 0 && !q.underWay() && !c.closed {
		c.answer(q)
		q.owed--
	}
}

// answer sends the next page of a queue, or says that there is none. It lets go
// of the lock while it reads the archive.
func (c *conn) answer(q *queue) {
	tries := 0
	for range maxSkips {
		now := c.srv.now()
		if c.closed {
			return
		}
		if !q.pending() {
			q.enter(idle, now)
			c.sendEmpty(q.jid, now)
			return
		}
		if !q.inArchive() {
			entries, through := q.tailPage(c.srv.limits)
			c.sendPage(q, entries, through, true, now)
			return
		}
		q.enter(pulling, now)
		before := q.confirmed
		entries, through, last, err := c.read(q.conversation, before)
		now = c.srv.now()
		if err != nil {
			c.srv.logger.Warn("archive was not read", obs.KeyApp, c.user.App, obs.KeyUser, c.user.ID, obs.KeyError, err)
			break
		}
		page, through := q.archivePage(entries, through, last, c.srv.limits)
		c.note(q, before)
		if len(page) > 0 {
			c.sendPage(q, page, through, true, now)
			return
		}
		if q.confirmed > before || !q.pending() {
			continue
		}
		if tries++; tries == archiveTries || !c.pause(time.Duration(tries)*archiveWait) {
			break
		}
	}
	// Nothing to be had now. The pull ends; the sweeper tells the device again.
	now := c.srv.now()
	q.enter(idle, now)
	c.sendEmpty(q.jid, now)
	soon(&c.queuesAt, now+c.srv.cfg.SweepInterval.Milliseconds())
}

// read reads what comes after a place from the archive, without the lock.
func (c *conn) read(conversation ident.ConversationID, after int64) ([]entry, int64, int64, error) {
	c.mu.Unlock()
	defer c.mu.Lock()
	ctx, cancel := c.srv.callContext()
	defer cancel()
	resp, err := c.srv.syncs.PullConversation(ctx, &messagingv1.PullConversationRequest{
		Org: c.org, App: c.app, User: string(c.user.ID), Resource: c.resource,
		Conversation: string(conversation), AfterSeq: after, Limit: int32(c.srv.cfg.PageEntries), // a constant
	})
	if err != nil {
		return nil, 0, 0, err
	}
	entries := make([]entry, 0, len(resp.GetEntries()))
	for _, d := range resp.GetEntries() {
		if !c.visible(d) || d.GetOnlineOnly() {
			continue
		}
		if meta := c.srv.entryMeta(c.user.App, c.viewerOf(d), d); meta != nil {
			entries = append(entries, entry{d.GetSeq(), meta})
		}
	}
	return entries, resp.GetThroughSeq(), resp.GetLastSeq(), nil
}

// pause waits without the lock; false means that the server stops.
func (c *conn) pause(d time.Duration) bool {
	c.mu.Unlock()
	defer c.mu.Lock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.srv.ctx.Done():
		return false
	}
}

// visible tells whether this device is to be shown an entry: not what it sent
// itself, and what the user sent elsewhere only if the sender wants it.
func (c *conn) visible(d *busv1.Delivery) bool {
	return ident.UserID(d.GetFrom()) != c.user.ID || d.GetSyncSender() && d.GetFromResource() != c.resource
}

// note hands a moved position on.
func (c *conn) note(q *queue, before int64) {
	if q.confirmed > before {
		c.srv.flusher.put(c.device(), q.conversation, mark{c.reach.epoch(c.user.App, q.conversation), q.confirmed})
	}
}

func (c *conn) device() ident.Device { return c.user.Device(c.resource) }

// viewerOf is subject.viewer for an entry from the archive.
func (c *conn) viewerOf(d *busv1.Delivery) ident.UserID {
	if d.GetKind() == busv1.Kind_KIND_GROUP || d.GetKind() == busv1.Kind_KIND_ROOM {
		return ""
	}
	return c.user.ID
}

// advance pushes what waits in an idle queue, or notifies the device of it.
func (c *conn) advance(q *queue, now int64) {
	if q.phase != idle || !c.live || !q.pending() {
		return
	}
	if q.inArchive() {
		c.sendNotice(q, now)
		return
	}
	entries, through := q.tailPage(c.srv.limits)
	c.sendPage(q, entries, through, false, now)
}

// timeouts notifies the device again of queues whose pages it did not confirm in
// time, and of those that wait for the archive.
func (c *conn) timeouts(now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	limit := c.srv.cfg.ConfirmTimeout.Milliseconds()
	var next int64
	for _, q := range c.queues {
		if !q.pending() {
			if q.phase == pushed || q.phase == notified {
				q.phase = idle
			}
			continue
		}
		switch q.phase {
		case idle:
			c.advance(q, now)
		case pulling, pushed:
			if now-q.since >= limit {
				q.outToken = 0 // whoever asks now gets it again
				c.sendNotice(q, now)
				continue
			}
			if at := q.since + limit; next == 0 || at < next {
				next = at
			}
		case notified:
			// The next heartbeat lists it.
		}
	}
	if next != 0 {
		soon(&c.queuesAt, next)
	}
	if c.owedUnread > 0 {
		if at := c.unreadSince + c.srv.cfg.UnreadWait.Milliseconds(); now < at {
			soon(&c.queuesAt, at)
		} else {
			c.answerUnread(now)
		}
	}
}

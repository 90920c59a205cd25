package session

import (
	"errors"
	"maps"
	"slices"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

// What a connection may show rests on what it knows of the archive.
//
// It is subscribed to pushes first, and the NATS server of the gateway knows
// that before anything is asked. Then the messaging service is asked for what
// is unread, and lists all that was acknowledged before the question: every entry
// up to the list's places in the log is in the list, or is nothing that the device
// still has to be shown. Until that list is there nothing is shown at all, however
// long it takes, and pushes only leave a note.
//
// Other servers of a NATS cluster hear of the subscription a moment after the
// gateway's own, and what is published at them in between does not arrive. So the
// list is read once more when that moment is over.
//
// Afterwards a push may begin a queue if the list reaches the conversation's
// entry before it, which each push names: then nothing before it is missing.
// Else there is a hole, and the archive is asked for that conversation first.
// Positions therefore never rest on a guess.

// reach is how far a connection's list goes.
type reach struct {
	// places are the list's, by partition; nil until there is one.
	places []uint64
	// cut: the list does not hold everything that is unread, so that what is
	// missing in it means nothing.
	cut bool
	// evicted are the places, by partition, of the newest entries of queues that
	// were dropped since; nil while none was. What is pushed again from there
	// must not begin a queue.
	evicted []uint64
}

// partition returns where a conversation lives.
func (r *reach) partition(app ident.AppKey, conversation ident.ConversationID) int {
	return bus.Partition(string(app), string(conversation), len(r.places))
}

// epoch returns the epoch of the log in which the list holds a conversation.
func (r *reach) epoch(app ident.AppKey, conversation ident.ConversationID) int64 {
	if r.places == nil {
		return 0
	}
	return bus.LogEpoch(r.places[r.partition(app, conversation)])
}

// outdated reports whether places of a later list are of a later epoch: what was
// pushed and not archived before that is no more, and other entries have its
// places.
func (r *reach) outdated(places []uint64) bool {
	for p := range r.places {
		if bus.LogEpoch(places[p]) > bus.LogEpoch(r.places[p]) {
			return true
		}
	}
	return false
}

// covers reports whether an entry of a conversation that is not known is one
// that the list would hold if the device still had to be shown it.
func (r *reach) covers(partition int, place uint64) bool {
	return !r.cut && place != 0 && place <= r.places[partition]
}

// begins reports whether nothing before an entry is missing, so that a queue
// may begin with it.
func (r *reach) begins(partition int, place, previous uint64) bool {
	return !r.cut && place != 0 && previous <= r.places[partition] && (r.evicted == nil || place > r.evicted[partition])
}

// dropped notes that a queue is not known any more.
func (r *reach) dropped(partition int, place uint64) {
	if r.evicted == nil {
		r.evicted = make([]uint64, len(r.places))
	}
	r.evicted[partition] = max(r.evicted[partition], place)
}

// hole is what is known of a conversation in which entries were pushed that
// could not be shown: the first and the last of them.
type hole struct {
	kind            busv1.Kind
	peer            string
	first, previous uint64 // places of the first, and of the entry before it
	firstSeq        int64
	last            uint64
	lastSeq         int64
}

const (
	// maxHoles bounds those of a connection; beyond it the whole list is read
	// again.
	maxHoles = 256
	// maxAsked bounds the conversations that are asked for at once.
	maxAsked = 64
)

// noteHole keeps that a push of a conversation was not shown. The caller holds
// c.mu.
func (c *conn) noteHole(d *busv1.Delivery) {
	name := conversationOf(d)
	h, ok := c.holes[name]
	if !ok {
		h = hole{kind: d.GetKind(), peer: peerOf(d, c.user.ID), first: d.GetLogPlace(), previous: d.GetLogPrevious(), firstSeq: d.GetSeq()}
	}
	if d.GetSeq() >= h.lastSeq {
		h.last, h.lastSeq = d.GetLogPlace(), d.GetSeq()
	}
	if d.GetSeq() < h.firstSeq {
		h.first, h.previous, h.firstSeq = d.GetLogPlace(), d.GetLogPrevious(), d.GetSeq()
	}
	c.ask(name, h)
}

// ask has the archive asked for a conversation, or for the whole list when that
// are too many. The caller holds c.mu.
func (c *conn) ask(name ident.ConversationID, h hole) {
	if _, ok := c.holes[name]; !ok && len(c.holes) >= maxHoles {
		c.relist = true
	} else {
		if c.holes == nil {
			c.holes = make(map[ident.ConversationID]hole)
		}
		c.holes[name] = h
	}
	if c.reach.places != nil {
		c.srv.opener.add(c) // else it is in line already
	}
}

// question is what a connection asks the archive: for conversations, or for the
// list of everything when there are none. places are those of an answer that
// was pending.
type question struct {
	conversations []string
	places        []uint64
}

// wants reports whether the connection has something to ask.
func (c *conn) wants() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closed && c.loggedIn.Load() && (c.reach.places == nil || c.relist || len(c.holes) > 0)
}

// nextQuestion returns what to ask: what was left pending, or something new.
func (c *conn) nextQuestion() (q question, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return question{}, false
	}
	defer func() { c.asking, c.gone = ok, nil }()
	if c.pending != nil {
		return *c.pending, true
	}
	if c.reach.places == nil || c.relist {
		c.relist = false
		return question{}, true
	}
	for name := range c.holes {
		if q.conversations = append(q.conversations, string(name)); len(q.conversations) == maxAsked {
			break
		}
	}
	return q, len(q.conversations) > 0
}

// errEpoch says that positions have to be stored before a list can be used.
var errEpoch = errors.New("what was confirmed in an earlier epoch of the log is not stored yet")

// unstored returns what the device confirmed and is not handed on yet, or was not
// when the archive was asked, which counts as confirmed. Places that are of an
// earlier epoch than the answer tell nothing: entries that were lost gave theirs
// to others, and the messaging service has to say how far they hold.
func (c *conn) unstored(before marks, places []uint64) (positions, error) {
	var out positions
	for _, all := range [...]marks{before, c.srv.flusher.waiting(c.device())} {
		for conversation, at := range all {
			if at.epoch < bus.LogEpoch(places[bus.Partition(string(c.user.App), string(conversation), len(places))]) {
				c.srv.flusher.hurry()
				return nil, errEpoch
			}
			out = out.merge(positions{conversation: at.seq})
		}
	}
	return out, nil
}

// errPending says that the archive is behind what was acknowledged.
var errPending = errors.New("the archive is behind the log")

// consult asks the archive once and goes on by its answer. An error means that
// the same must be asked again.
func (c *conn) consult() error {
	q, ok := c.nextQuestion()
	if !ok {
		return nil
	}
	c.takeOver()
	waiting := c.srv.flusher.waiting(c.device())
	ctx, cancel := c.srv.callContext()
	defer cancel()
	resp, err := c.srv.syncs.OpenDevice(ctx, &messagingv1.OpenDeviceRequest{
		Org: c.org, App: c.app, User: string(c.user.ID), Resource: c.resource, Conversations: q.conversations, LogPlaces: q.places,
		Since: c.opened,
	})
	switch {
	case err != nil:
	case resp.GetPending():
		q.places, err = resp.GetLogPlaces(), errPending
	case len(resp.GetLogPlaces()) == 0:
		err = errors.New("the list does not say how far it goes")
	}
	if err != nil {
		c.mu.Lock()
		c.pending, c.asking = &q, false
		c.mu.Unlock()
		return err
	}
	confirmed, err := c.unstored(waiting, resp.GetLogPlaces())
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.pending, c.asking = &question{conversations: q.conversations}, false
		return err
	}
	c.pending, c.asking = nil, false
	if c.reach.outdated(resp.GetLogPlaces()) {
		c.reopen()
		return nil
	}
	confirmed = confirmed.merge(c.gone)
	if c.gone = nil; c.closed {
		return nil
	}
	if len(q.conversations) > 0 {
		if c.reach.places == nil {
			return nil // all is asked anew
		}
		c.filled(q.conversations, resp, confirmed)
		return nil
	}
	c.listed(resp, confirmed)
	return nil
}

// listed takes the list of what is unread. The caller holds c.mu.
func (c *conn) listed(resp *messagingv1.OpenDeviceResponse, confirmed positions) {
	now := c.srv.now()
	opening := c.reach.places == nil
	c.reach.places = slices.Clone(resp.GetLogPlaces())
	c.reach.cut = resp.GetMore()
	for _, d := range resp.GetQueues() {
		name := ident.ConversationID(d.GetConversation())
		through := max(d.GetConfirmedSeq(), confirmed[name])
		if c.queues[name] == nil && through >= d.GetLastSeq() {
			continue
		}
		if c.learn(name, d.GetKind(), d.GetPeer(), through, d.GetLastSeq(), now) == nil {
			c.reach.cut = true // what does not fit is found by a later list
		}
	}
	for name, h := range c.holes {
		p := c.reach.partition(c.user.App, name)
		switch {
		case c.queues[name] != nil:
			c.learn(name, h.kind, h.peer, 0, h.lastSeq, now)
		case c.reach.covers(p, h.last):
		case h.first > c.reach.places[p] && c.reach.begins(p, h.first, h.previous):
			c.learn(name, h.kind, h.peer, h.firstSeq-1, h.lastSeq, now)
		default:
			continue // asked for by itself
		}
		delete(c.holes, name)
	}
	if resp.GetMore() {
		soon(&c.checkAt, now+c.srv.cfg.CheckSpread.Milliseconds())
	}
	if c.fresh {
		c.checkRouted(now)
	}
	c.fresh = false
	if opening && c.owedUnread > 0 {
		c.answerUnread(now)
	}
	for _, q := range c.queues {
		c.advance(q, now)
	}
}

// checkRouted has the list read once more when the other servers of a NATS
// cluster have heard of a subscription.
func (c *conn) checkRouted(now int64) {
	if c.srv.deps.NATS.Routed() {
		soon(&c.checkAt, now+c.srv.cfg.RouteDelay.Milliseconds()+jitter(c.srv.cfg.RouteDelay/2))
	}
}

// filled takes the answer to a question for some conversations. The caller
// holds c.mu.
func (c *conn) filled(asked []string, resp *messagingv1.OpenDeviceResponse, confirmed positions) {
	now := c.srv.now()
	for _, d := range resp.GetQueues() {
		name := ident.ConversationID(d.GetConversation())
		h, ok := c.holes[name]
		if !ok {
			continue
		}
		delete(c.holes, name)
		through := max(d.GetConfirmedSeq(), confirmed[name])
		if q := c.learn(name, d.GetKind(), d.GetPeer(), through, max(d.GetLastSeq(), h.lastSeq), now); q != nil {
			q.logged = max(q.logged, h.last)
			c.advance(q, now)
		}
	}
	for _, conversation := range asked {
		name := ident.ConversationID(conversation)
		// The user is not in it, or not any more.
		if h, ok := c.holes[name]; ok && h.last <= resp.GetLogPlaces()[c.reach.partition(c.user.App, name)] {
			delete(c.holes, name)
		}
	}
}

// renewed reports whether the log has begun a new epoch since the list was read.
// What was pushed and not archived before that is no more, and other entries
// have its places.
func (c *conn) renewed(d *busv1.Delivery) bool {
	if c.reach.places == nil || d.GetLogPlace() == 0 {
		return false
	}
	p := c.reach.partition(c.user.App, conversationOf(d))
	return bus.LogEpoch(d.GetLogPlace()) > bus.LogEpoch(c.reach.places[p])
}

// reopen forgets what is known of all conversations and has the list read again,
// as after a login. The caller holds c.mu.
func (c *conn) reopen() {
	c.forget()
	c.reach, c.gone = reach{}, nil
	c.srv.opener.add(c)
}

// learn makes or corrects a queue by what the archive knows. It returns nil when
// there is no room for it. The caller holds c.mu.
func (c *conn) learn(name ident.ConversationID, kind busv1.Kind, peer string, confirmed, last, now int64) *queue {
	q := c.queues[name]
	if q == nil {
		if q = c.newQueue(name, kind, peer); q == nil {
			return nil
		}
		last = max(last, confirmed)
		q.confirmed, q.tailFrom, q.last, q.used = confirmed, last, last, now
		return q
	}
	before := q.confirmed
	q.known(confirmed, last)
	c.note(q, before)
	if q.inArchive() && q.phase == pushed && !q.underWay() {
		q.enter(idle, now)
	}
	return q
}

// forget drops all that waits for the device. The caller holds c.mu.
func (c *conn) forget() {
	for q := range maps.Values(c.queues) {
		q.dropTail(q.last)
	}
	c.queues, c.holes, c.pending = nil, nil, nil
}

// asked counts and logs how a question went.
func (c *conn) asked(err error) {
	switch {
	case err == nil:
		c.srv.metrics.checks.WithLabelValues("ok").Inc()
	case errors.Is(err, errPending), errors.Is(err, errEpoch):
		c.srv.metrics.checks.WithLabelValues("pending").Inc()
	default:
		c.srv.metrics.checks.WithLabelValues("failed").Inc()
	}
	if err != nil {
		c.srv.logger.Debug("archive was not read for a connection, which is tried again", obs.KeyApp, c.user.App, obs.KeyUser, c.user.ID, obs.KeyError, err)
	}
}

package session

import (
	"math/rand/v2"
	"time"

	"github.com/chappe-im/chappe/pkg/obs"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

// longList is the length from which a list of unread conversations may have been
// cut off, so that the rest is asked for soon.
const longList = 256

// open asks the archive where the device stands and corrects the queues by it.
// What was confirmed but not handed on yet counts as confirmed.
func (c *conn) open() error {
	began := c.srv.now()
	positions := c.srv.flusher.waiting(c.device())
	ctx, cancel := c.srv.callContext()
	defer cancel()
	resp, err := c.srv.syncs.OpenDevice(ctx, &messagingv1.OpenDeviceRequest{Org: c.org, App: c.app, User: c.user, Resource: c.resource})
	if err != nil {
		return err
	}
	for conversation, seq := range c.srv.flusher.waiting(c.device()) {
		if positions == nil {
			positions = make(map[string]int64)
		}
		positions[conversation] = max(positions[conversation], seq)
	}
	c.merge(resp.GetQueues(), positions)
	c.checked.Store(began)
	return nil
}

func (c *conn) merge(listed []*messagingv1.DeviceQueue, positions map[string]int64) {
	now := c.srv.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range listed {
		if c.closed {
			return
		}
		confirmed := max(d.GetConfirmedSeq(), positions[d.GetConversation()])
		q := c.queues[d.GetConversation()]
		switch {
		case q == nil:
			if confirmed >= d.GetLastSeq() {
				continue
			}
			if q = c.newQueue(d.GetConversation(), d.GetKind(), d.GetPeer()); q == nil {
				return // what does not fit is found by a later check
			}
			q.confirmed, q.tailFrom, q.last = confirmed, d.GetLastSeq(), d.GetLastSeq()
			q.used = now
		case q.assumed:
			c.verify(q, confirmed)
			q.known(confirmed, d.GetLastSeq())
		default:
			before := q.confirmed
			q.known(confirmed, d.GetLastSeq())
			c.note(q, before)
		}
		if q.inArchive() && q.phase == offered {
			q.enter(idle, now)
		}
		c.advance(q, now)
	}
	if len(listed) >= longList {
		soon(&c.checkAt, now+c.srv.cfg.CheckSpread.Milliseconds())
	}
}

// verify looks whether a queue that began with a live entry had missed any
// before it. It lets go of the lock while it reads the archive.
func (c *conn) verify(q *queue, confirmed int64) {
	after, missed := confirmed, false
	for after < q.assumedFrom && !missed {
		entries, through, _, err := c.read(q.conversation, after)
		if err != nil {
			return // still assumed
		}
		missed = len(entries) > 0 && entries[0].seq <= q.assumedFrom
		if through == after {
			break
		}
		after = through
	}
	if missed {
		q.missed(confirmed)
		return
	}
	q.assumed = false
	c.note(q, q.assumedFrom)
}

// settleAssumptions accepts the queues that began with a live entry long enough
// ago, or all of them, unless a push may have been lost since the connection was
// last compared with the archive. It reports whether some must wait for that.
func (c *conn) settleAssumptions(now int64, all bool) (wait bool) {
	// The archive is a little behind the pushes: a comparison right after the
	// loss proves nothing yet.
	loss := c.srv.lastLoss.Load()
	doubt := loss != 0 && c.checked.Load() < loss+c.srv.cfg.CheckSpread.Milliseconds()
	for _, q := range c.queues {
		if !q.assumed {
			continue
		}
		if left := q.born + c.srv.cfg.VerifyDelay.Milliseconds() - now; left > 0 && !all {
			soon(&c.queuesAt, now+left)
			continue
		}
		if doubt {
			wait = true
			continue
		}
		q.assumed = false
		c.note(q, q.assumedFrom)
	}
	return wait
}

// check compares the connection's view with the archive.
func (c *conn) check() {
	err := c.open()
	if err == nil {
		c.srv.metrics.checks.WithLabelValues("ok").Inc()
		return
	}
	c.srv.metrics.checks.WithLabelValues("failed").Inc()
	c.srv.logger.Warn("connection was not compared with the archive", obs.KeyApp, c.appKey, obs.KeyUser, c.user, obs.KeyError, err)
	soon(&c.checkAt, c.srv.now()+c.srv.cfg.CheckSpread.Milliseconds())
}

func (s *Server) runChecks() {
	for {
		select {
		case c := <-s.checks:
			c.check()
			soon(&c.checkAt, s.now()+s.cfg.CheckInterval.Milliseconds()+jitter(s.cfg.CheckInterval/4))
			c.checking.Store(false)
		case <-s.ctx.Done():
			return
		}
	}
}

// jitter is up to d in milliseconds.
func jitter(d time.Duration) int64 {
	if d < time.Millisecond {
		return 0
	}
	return rand.Int64N(d.Milliseconds()) //nolint:gosec // spreads load only
}

// sweep looks for timeouts of all connections, in place of timers of each.
func (s *Server) sweep() {
	t := time.NewTicker(s.cfg.SweepInterval)
	defer t.Stop()
	var all []*conn
	for {
		select {
		case <-t.C:
		case <-s.ctx.Done():
			return
		}
		s.mu.Lock()
		all = append(all, s.conns...)
		s.mu.Unlock()
		lost := s.lost.Swap(false)
		if lost {
			s.metrics.losses.Inc()
			s.logger.Warn("pushes may have been lost: all connections are checked", "connections", len(all))
		}
		now := s.now()
		for _, c := range all {
			s.sweepOne(c, now, lost)
		}
		clear(all)
		all = all[:0]
	}
}

func (s *Server) sweepOne(c *conn, now int64, lost bool) {
	if !c.in.Load() {
		if now-c.opened >= s.cfg.LoginTimeout.Milliseconds() {
			c.shutdown(closePolicy, "no login in time")
		}
		if lost {
			soon(&c.checkAt, now+s.cfg.LoginTimeout.Milliseconds())
		}
		return
	}
	idle := s.cfg.IdleTimeout.Milliseconds()
	silent := now - c.seen.Load()
	switch {
	case silent >= idle:
		c.shutdown(closeGoingAway, "silent for too long")
		return
	case silent < idle/2:
		c.pinged = false
	case !c.pinged:
		c.pinged = true
		c.enqueue(finPing, nil, false)
	}
	if c.expires != 0 && now >= c.expires {
		s.metrics.kicks.WithLabelValues("token_expired").Inc()
		c.shutdown(closeNormal, "token expired")
		return
	}
	if !s.deps.Auth.KeyHolds(c.org, c.app, c.keyID) {
		s.metrics.kicks.WithLabelValues("token_void").Inc()
		c.shutdown(closeNormal, "token is void")
		return
	}
	if at := c.queuesAt.Load(); at != 0 && now >= at && c.queuesAt.CompareAndSwap(at, 0) {
		c.timeouts(now)
	}
	if lost {
		soon(&c.checkAt, now+jitter(s.cfg.CheckSpread))
	}
	at := c.checkAt.Load()
	if at == 0 || now < at || !c.checking.CompareAndSwap(false, true) {
		return
	}
	// Cleared before the check begins: what it asks for must not be cleared.
	c.checkAt.CompareAndSwap(at, 0)
	select {
	case s.checks <- c:
	default: // the next sweep tries again
		soon(&c.checkAt, at)
		c.checking.Store(false)
	}
}

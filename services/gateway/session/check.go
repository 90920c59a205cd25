package session

import (
	"math/rand/v2"
	"time"

	"github.com/chappe-im/chappe/pkg/obs"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

// assumedTries is how many checks that do not list a conversation are taken as
// proof that nothing was missed in it.
const assumedTries = 3

// open asks the archive where the device stands and corrects the queues by it.
// What was confirmed but not handed on yet counts as confirmed.
func (c *conn) open() error {
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
	return nil
}

func (c *conn) merge(listed []*messagingv1.DeviceQueue, positions map[string]int64) {
	now := c.srv.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	for _, d := range listed {
		confirmed := max(d.GetConfirmedSeq(), positions[d.GetConversation()])
		q := c.queues[d.GetConversation()]
		if q == nil {
			if confirmed >= d.GetLastSeq() {
				continue
			}
			if q = c.newQueue(d.GetConversation(), d.GetKind(), d.GetPeer()); q == nil {
				break // what does not fit is found by the next check
			}
			q.confirmed, q.tailFrom, q.last = confirmed, d.GetLastSeq(), d.GetLastSeq()
			q.used = now
		} else {
			before := q.confirmed
			assumed := q.assumed
			q.known(confirmed, d.GetLastSeq())
			if assumed {
				before = min(before, confirmed) // it was held back until now
			}
			c.note(q, before)
			if q.inArchive() && q.phase == offered {
				q.enter(idle, now)
			}
		}
		c.advance(q, now)
	}
	for _, q := range c.queues {
		if !q.assumed {
			continue
		}
		// The archive can be behind the push; then it lists it the next time.
		if q.assumedTry++; q.assumedTry < assumedTries {
			soon(&c.checkAt, now+c.srv.cfg.VerifyDelay.Milliseconds())
			continue
		}
		q.assumed = false
		c.note(q, q.assumedFrom)
	}
}

// heldBack reports whether positions wait for a check.
func (c *conn) heldBack() bool {
	for _, q := range c.queues {
		if q.assumed && q.confirmed > q.assumedFrom {
			return true
		}
	}
	return false
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
		for c := range s.conns {
			all = append(all, c)
		}
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
	select {
	case s.checks <- c:
		c.checkAt.CompareAndSwap(at, 0)
	default: // the next sweep tries again
		c.checking.Store(false)
	}
}

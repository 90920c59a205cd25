package session

import (
	"context"
	"math/rand/v2"
	"time"
)

// jitter is up to d in milliseconds.
func jitter(d time.Duration) int64 {
	if d < time.Millisecond {
		return 0
	}
	return rand.Int64N(d.Milliseconds()) // spreads load only
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
		lost := s.pushesLost(len(all))
		now := s.now()
		for _, c := range all {
			s.sweepOne(c, now, lost)
		}
		clear(all)
		all = all[:0]
	}
}

// pushesLost reports whether all connections must be compared with the archive.
// After a loss every subscription has to be made again before that helps, so it
// waits for the bus to say so.
func (s *Server) pushesLost(connections int) bool {
	if !s.lost.Swap(false) {
		return false
	}
	ctx, cancel := context.WithTimeout(s.ctx, flushWait)
	defer cancel()
	if err := s.deps.NATS.Flush(ctx); err != nil {
		s.lost.Store(true)
		return false
	}
	s.metrics.losses.Inc()
	s.logger.Warn("pushes may have been lost: all connections are compared with the archive", "connections", connections)
	return true
}

// flushWait bounds how long a sweep waits for the bus.
const flushWait = time.Second

func (s *Server) sweepOne(c *conn, now int64, lost bool) {
	if !c.loggedIn.Load() {
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
	if !s.deps.Auth.KeyHolds(c.user.App, c.keyID) {
		s.metrics.kicks.WithLabelValues("token_void").Inc()
		c.shutdown(closeNormal, "token is void")
		return
	}
	if at := c.queuesAt.Load(); at != 0 && now >= at && c.queuesAt.CompareAndSwap(at, 0) {
		c.timeouts(now)
	}
	if lost {
		c.mu.Lock()
		c.fresh = true
		c.mu.Unlock()
		soon(&c.checkAt, now+jitter(s.cfg.CheckSpread))
	}
	if s.memory.scarce() {
		c.shed(now)
	}
	at := c.checkAt.Load()
	if at == 0 || now < at || !c.checkAt.CompareAndSwap(at, 0) {
		return
	}
	soon(&c.checkAt, now+checkInterval.Milliseconds()+jitter(checkInterval/4))
	c.mu.Lock()
	c.relist = true
	c.mu.Unlock()
	s.opener.add(c)
}

// shedAfter is how long a device may leave a page unconfirmed, in milliseconds,
// before its share of scarce memory is taken.
const shedAfter = 1000

// shed leaves to the archive what waits behind pages that the device does not
// confirm.
func (c *conn) shed(now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range c.queues {
		if len(q.tail) > 0 && q.phase != idle && now-q.since >= shedAfter {
			q.dropTail(q.last)
			c.srv.metrics.shed.Inc()
		}
	}
}

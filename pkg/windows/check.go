package windows

import (
	"github.com/chappe-im/chappe/pkg/rate"
	"github.com/chappe-im/chappe/pkg/tier"
)

// Call is what asks to be admitted.
type Call struct {
	Rule string
	// IP is the client's address, or empty to leave it out.
	IP string
	// User is for rules that count by user.
	User string
	// Cost is in units of the rule, at least 1.
	Cost int64
}

// bucketOf names the bucket of a call. Calls without a rule each have their
// own.
func bucketOf(rule *tier.Rule, id string) (bucket string, hash uint64) {
	if rule.ID == "" {
		return id, tier.BucketHash(id)
	}
	return rule.Bucket, rule.Hash
}

// ruleID names the rule of a call by a string that may be kept.
func ruleID(rule *tier.Rule, id string) string {
	if rule.ID == "" {
		return id
	}
	return rule.ID
}

// maxCharged is how many windows of users and addresses a call can have
// without an allocation.
const maxCharged = 8

// Check asks every window of a call and charges all of them or none. It
// returns the verdict of the tightest and the time of the decision.
func (b *Buckets) Check(app int64, rule *tier.Rule, c *Call) (rate.Verdict, int64) {
	bucket, hash := bucketOf(rule, c.Rule)
	s, hash := b.find(app, hash)
	s.mu.Lock()
	// Read under the lock, so that a shard's log is written in order of time.
	now := b.clock()
	g := s.group(now, hash, app, bucket, rule)
	var v rate.Verdict
	if perIP := rule.PerIP && c.IP != ""; len(rule.Limits) == 1 && !perIP && !rule.Limits[0].PerUser {
		// Most calls have but one window.
		limit := &rule.Limits[0]
		cost := limit.Cost(c.Cost)
		if v = g.log.Peek(now, limit.Limit, cost); v.OK {
			g.log.Take(now, cost)
		}
	} else {
		v = g.check(now, rule, c, perIP)
	}
	if t := g.count(rule, c.Rule); v.OK {
		t.admitted++
	} else {
		t.throttled++
	}
	s.counts.add(v)
	s.mu.Unlock()
	return v, now
}

// check is Check for a rule with several windows, or with windows for each
// user or address.
func (g *group) check(now int64, rule *tier.Rule, c *Call, perIP bool) rate.Verdict {
	// What was found by user and by address, for the second pass.
	var logs [maxCharged]*rate.Log
	tightest := rate.Verdict{OK: true, Remaining: tier.Unlimited}
	n := 0
	for i := range rule.Limits {
		limit, w := &rule.Limits[i], g.keyed(i, false)
		cost := limit.Cost(c.Cost)
		var v rate.Verdict
		if limit.PerUser {
			// A limit per user has no twin per address: it would cut off the
			// users behind one.
			var l *rate.Log
			l, v = w.byUser().peek(now, c.User, limit.Limit, cost)
			n = note(&logs, n, l)
		} else {
			v = g.appLog(i).Peek(now, limit.Limit, cost)
			if perIP {
				l, byIP := w.byIP().peek(now, c.IP, rate.Limit{Units: limit.IPUnits, Window: limit.Window}, cost)
				n = note(&logs, n, l)
				if rate.Tighter(byIP, v) {
					v = byIP
				}
			}
		}
		if rate.Tighter(v, tightest) {
			tightest = v
		}
	}
	if !tightest.OK {
		return tightest
	}
	n = 0
	for i := range rule.Limits {
		limit := &rule.Limits[i]
		cost := limit.Cost(c.Cost)
		if limit.PerUser {
			n = charge(&logs, n, &g.keyed(i, true).users, now, c.User, cost)
			continue
		}
		g.appLog(i).Take(now, cost)
		if perIP {
			n = charge(&logs, n, &g.keyed(i, true).ips, now, c.IP, cost)
		}
	}
	return tightest
}

func (w *window) byUser() *keyed {
	if w == nil {
		return nil
	}
	return w.users
}

func (w *window) byIP() *keyed {
	if w == nil {
		return nil
	}
	return w.ips
}

func note(logs *[maxCharged]*rate.Log, n int, l *rate.Log) int {
	if n < maxCharged {
		logs[n] = l
	}
	return n + 1
}

// charge spends on the n-th log that was found, or on a new one. A key enters
// memory only here, when it is admitted: refused calls leave nothing behind.
func charge(logs *[maxCharged]*rate.Log, n int, k **keyed, now int64, id string, cost int64) int {
	var l *rate.Log
	if n < maxCharged {
		l = logs[n]
	} else if *k != nil {
		l, _ = (*k).get(id)
	}
	if l == nil {
		l = add(k, now, id)
	}
	l.Take(now, cost)
	return n + 1
}

// Throttle counts a refusal that no window made.
func (b *Buckets) Throttle(app int64, id string, rule *tier.Rule) {
	bucket, hash := bucketOf(rule, id)
	s, hash := b.find(app, hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.group(b.clock(), hash, app, bucket, rule).count(rule, id).throttled++
}

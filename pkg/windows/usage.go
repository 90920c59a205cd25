package windows

import (
	"slices"
	"strings"

	"github.com/chappe-im/chappe/pkg/tier"
)

// Scopes of a use.
const (
	scopeApp  = "app"
	scopeUser = "user"
	scopeIP   = "ip"
)

// maxLooked bounds how many users or addresses are looked at for the one with
// the highest use.
const maxLooked = 4096

// Use is how much of one limit is used.
type Use struct {
	Rule string
	// Scope is app, or user or ip for the user or address with the highest
	// use.
	Scope     string
	Limit     int64
	WindowNs  int64
	Used      int64
	Admitted  int64
	Throttled int64
}

// Usage reads the windows of one rule. It makes no group and charges nothing.
func (b *Buckets) Usage(app int64, id string, rule *tier.Rule) []Use {
	bucket, hash := bucketOf(rule, id)
	out := make([]Use, len(rule.Limits))
	for i, l := range rule.Limits {
		out[i] = Use{Rule: id, Scope: scopeApp, Limit: l.Units, WindowNs: l.Window}
		if l.PerUser {
			out[i].Scope = scopeUser
		}
	}
	past := b.kept(app, id)
	s, hash := b.find(app, hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := b.clock()
	if g := s.get(hash, app, bucket); g != nil {
		g.counts(func(counted string, t total) {
			if counted == id {
				past.admitted += t.admitted
				past.throttled += t.throttled
			}
		})
		if len(g.rule.Limits) == len(rule.Limits) {
			for i := range g.rule.Limits {
				out = append(out, g.use(i, now, &out[i])...)
			}
		}
	}
	for i := range out {
		out[i].Admitted, out[i].Throttled = past.admitted, past.throttled
	}
	return out
}

// use fills in what is used of the i-th window, and adds the address with the
// highest use if any is known.
func (g *group) use(i int, now int64, u *Use) []Use {
	limit, w := &g.rule.Limits[i], g.keyed(i, false)
	if limit.PerUser {
		if w != nil {
			u.Used = w.users.highest(now, u.WindowNs)
		}
		return nil
	}
	u.Used = g.appLog(i).Used(now, u.WindowNs)
	if w == nil || w.ips == nil || w.ips.len() == 0 {
		return nil
	}
	byIP := *u
	byIP.Scope, byIP.Limit, byIP.Used = scopeIP, limit.IPUnits, w.ips.highest(now, u.WindowNs)
	return []Use{byIP}
}

func (k *keyed) highest(now, window int64) (most int64) {
	if k == nil {
		return 0
	}
	looked := 0
	for _, l := range k.young {
		if looked++; looked > maxLooked {
			return most
		}
		most = max(most, l.Used(now, window))
	}
	for _, l := range k.old {
		if looked++; looked > maxLooked {
			return most
		}
		most = max(most, l.Used(now, window))
	}
	return most
}

// Unlisted finds the calls without a rule that an app made lately.
func (b *Buckets) Unlisted(app int64, t *tier.Compiled) []string {
	var ids []string
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		for j := range s.groups {
			if g := &s.groups[j]; g.app == app && !strings.HasPrefix(g.bucket, "shared:") && t.Rule(g.bucket).ID == "" {
				ids = append(ids, g.bucket)
			}
		}
		s.mu.Unlock()
	}
	slices.Sort(ids)
	return ids
}

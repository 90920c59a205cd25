package limiter

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/obs"
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

// RuleUse is how much of one limit is used.
type RuleUse struct {
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

// QuotaUse is how much of a quota is used; a nil limit is unlimited.
type QuotaUse struct {
	Quota string
	Limit *int64
	Used  int64
}

// Usage is what an app uses of its limits.
type Usage struct {
	Rules   []RuleUse
	Quotas  []QuotaUse
	Backlog int64
}

// Usage reads what an app uses. The error is an unknown app. A service that
// does not answer is logged, and its quotas are left out.
func (s *Service) usage(ctx context.Context, org, name string) (Usage, error) {
	app, ok := s.deps.Catalog.App(org, name)
	if !ok {
		return Usage{}, errs.AppNotFound(org, name)
	}
	u := Usage{Backlog: s.budgets.waiting(app.Number, s.deps.Clock())}
	rules := app.Tier.Rules()
	for _, id := range slices.Sorted(maps.Keys(rules)) {
		u.Rules = append(u.Rules, s.buckets.usage(app.Number, id, rules[id])...)
	}
	for _, id := range s.buckets.unlisted(app.Number, app.Tier) {
		u.Rules = append(u.Rules, s.buckets.usage(app.Number, id, app.Tier.Rule(id))...)
	}
	u.Quotas = s.quotas(ctx, app)
	return u, nil
}

func (s *Service) quotas(ctx context.Context, app *catalog.App) []QuotaUse {
	used := make(map[string]int64)
	for _, r := range s.deps.Quotas {
		m, err := r.QuotaUsage(ctx, app.Org, app.Name)
		if err != nil {
			s.deps.Logger.WarnContext(ctx, "a service does not tell its use of quotas", obs.KeyApp, app.Key, obs.KeyError, err)
			continue
		}
		maps.Copy(used, m)
	}
	var out []QuotaUse
	for _, name := range slices.Sorted(maps.Keys(used)) {
		out = append(out, QuotaUse{Quota: name, Limit: app.Tier.QuotaLimit(name), Used: used[name]})
	}
	return out
}

// usage reads the windows of one rule. It makes no group and charges nothing.
func (b *buckets) usage(app int64, id string, rule *tier.Rule) []RuleUse {
	bucket, hash := bucketOf(rule, id)
	out := make([]RuleUse, len(rule.Limits))
	for i, l := range rule.Limits {
		out[i] = RuleUse{Rule: id, Scope: scopeApp, Limit: l.Units, WindowNs: l.Window}
		if l.PerUser {
			out[i].Scope = scopeUser
		}
	}
	past := b.kept(app, id)
	s := b.shard(app, hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := b.clock()
	g, ok := s.young[groupKey{app, bucket}]
	if !ok {
		g, ok = s.old[groupKey{app, bucket}]
	}
	if ok {
		for _, t := range g.totals {
			if t.rule == id {
				past.admitted += t.admitted
				past.throttled += t.throttled
			}
		}
		if len(g.windows) == len(rule.Limits) {
			for i := range g.windows {
				out = append(out, g.windows[i].use(now, &out[i])...)
			}
		}
	}
	for i := range out {
		out[i].Admitted, out[i].Throttled = past.admitted, past.throttled
	}
	return out
}

// use fills in what is used of a window, and adds the address with the highest
// use if any is known.
func (w *window) use(now int64, u *RuleUse) []RuleUse {
	if w.limit.PerUser {
		u.Used = w.users.highest(now, u.WindowNs)
		return nil
	}
	u.Used = w.app.Used(now, u.WindowNs)
	if w.ips == nil || w.ips.len() == 0 {
		return nil
	}
	byIP := *u
	byIP.Scope, byIP.Limit, byIP.Used = scopeIP, w.limit.IPUnits, w.ips.highest(now, u.WindowNs)
	return []RuleUse{byIP}
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

// unlisted finds the calls without a rule that an app made lately.
func (b *buckets) unlisted(app int64, t *tier.Compiled) []string {
	var ids []string
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		for _, half := range []map[groupKey]*group{s.young, s.old} {
			for key := range half {
				if key.app == app && !strings.HasPrefix(key.bucket, "shared:") && t.Rule(key.bucket).ID == "" {
					ids = append(ids, key.bucket)
				}
			}
		}
		s.mu.Unlock()
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

package limiter

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/obs"
	"github.com/chappe-im/chappe/pkg/tier"
	"github.com/chappe-im/chappe/pkg/windows"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	quotav1 "github.com/chappe-im/chappe/proto/gen/chappe/quota/v1"
)

// quotaTimeout bounds how long one service may take to tell its quotas.
const quotaTimeout = 2 * time.Second

// GetUsage returns what an app uses of its limits. A service that does not
// answer is logged, and its quotas are left out.
func (s *Service) GetUsage(ctx context.Context, req *limiterv1.GetUsageRequest) (*limiterv1.GetUsageResponse, error) {
	if o, ok := s.owner(ctx, req.GetOrg(), req.GetApp()); ok {
		return o.GetUsage(ctx, req)
	}
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	rules := app.Tier.Rules()
	var uses []windows.Use
	for _, id := range slices.Sorted(maps.Keys(rules)) {
		uses = append(uses, s.buckets.Usage(app.Number, id, rules[id])...)
	}
	for _, id := range s.buckets.Unlisted(app.Number, app.Tier) {
		uses = append(uses, s.buckets.Usage(app.Number, id, app.Tier.Rule(id))...)
	}
	resp := &limiterv1.GetUsageResponse{Backlog: s.budgets.waiting(app.Number, s.deps.Clock()), Quotas: s.quotas(ctx, app)}
	for _, u := range uses {
		resp.Rules = append(resp.Rules, &limiterv1.RuleUsage{
			Rule: u.Rule, Scope: u.Scope, Limit: u.Limit, WindowMs: u.WindowNs / 1e6, Used: u.Used,
			AdmittedTotal: u.Admitted, ThrottledTotal: u.Throttled,
		})
	}
	return resp, nil
}

// quotas asks every service that counts for what an app uses.
func (s *Service) quotas(ctx context.Context, app *catalog.App) []*limiterv1.QuotaUsage {
	used := make(map[string]*limiterv1.QuotaUsage)
	for service, client := range s.deps.Quotas {
		qctx, cancel := context.WithTimeout(ctx, quotaTimeout)
		r, err := client.GetQuotaUsage(qctx, &quotav1.GetQuotaUsageRequest{Service: service, Org: app.Org, App: app.Name})
		cancel()
		if err != nil {
			s.deps.Logger.WarnContext(ctx, "a service does not tell what an app uses of its quotas; they are left out",
				obs.KeyService, service, obs.KeyApp, app.Key, obs.KeyError, err)
			continue
		}
		for name, n := range r.GetUsed() {
			used[name] = &limiterv1.QuotaUsage{Quota: name, Limit: limitOf(app, name), Used: n, Owner: r.GetOwners()[name]}
		}
	}
	var out []*limiterv1.QuotaUsage
	for _, name := range slices.Sorted(maps.Keys(used)) {
		out = append(out, used[name])
	}
	return out
}

// limitOf returns the bound on what a service counts: a quota, or a size that is
// summed up over the app.
func limitOf(app *catalog.App, name string) *int64 {
	if !slices.Contains(tier.Sizes(), name) {
		return app.Tier.QuotaLimit(name)
	}
	if n := app.Tier.Size(name); n != tier.Unlimited {
		return &n
	}
	return nil
}

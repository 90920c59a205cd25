package limiter

import (
	"context"
	"maps"
	"slices"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/obs"
	"github.com/chappe-im/chappe/pkg/tier"
	"github.com/chappe-im/chappe/pkg/windows"
)

// QuotaUse is how much of a quota is used; a nil limit is unlimited.
type QuotaUse struct {
	Quota string
	Limit *int64
	Used  int64
	// Owner is the user with the highest use, of a quota that each user has.
	Owner string
}

// Usage is what an app uses of its limits.
type Usage struct {
	Rules   []windows.Use
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
		u.Rules = append(u.Rules, s.buckets.Usage(app.Number, id, rules[id])...)
	}
	for _, id := range s.buckets.Unlisted(app.Number, app.Tier) {
		u.Rules = append(u.Rules, s.buckets.Usage(app.Number, id, app.Tier.Rule(id))...)
	}
	u.Quotas = s.quotas(ctx, app)
	return u, nil
}

func (s *Service) quotas(ctx context.Context, app *catalog.App) []QuotaUse {
	used := make(map[string]QuotaUse)
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
		q := used[name]
		q.Quota, q.Limit = name, limitOf(app, name)
		out = append(out, q)
	}
	return out
}

// limitOf gives the bound on what a service counts: a quota, or a size that is
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

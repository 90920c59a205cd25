package run

import (
	"context"

	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
	"github.com/chappe-im/chappe/services/limiter"
)

// accountQuotas and presenceQuotas ask the services that count for what an app
// uses, so that the limiter can show it beside the limits.
type accountQuotas struct{ client accountv1.UserServiceClient }

// QuotaUsage implements limiter.QuotaReader.
func (q accountQuotas) QuotaUsage(ctx context.Context, org, app string) (map[string]limiter.QuotaUse, error) {
	r, err := q.client.GetQuotaUsage(ctx, &accountv1.GetQuotaUsageRequest{Org: org, App: app})
	return uses(r.GetUsed(), r.GetOwners()), err
}

func uses(used map[string]int64, owners map[string]string) map[string]limiter.QuotaUse {
	out := make(map[string]limiter.QuotaUse, len(used))
	for name, n := range used {
		out[name] = limiter.QuotaUse{Used: n, Owner: owners[name]}
	}
	return out
}

type presenceQuotas struct {
	client presencev1.ConnectionServiceClient
}

// QuotaUsage implements limiter.QuotaReader.
func (q presenceQuotas) QuotaUsage(ctx context.Context, org, app string) (map[string]limiter.QuotaUse, error) {
	r, err := q.client.GetQuotaUsage(ctx, &presencev1.GetQuotaUsageRequest{Org: org, App: app})
	return uses(r.GetUsed(), nil), err
}

func (s *Server) quotaReaders() ([]limiter.QuotaReader, error) {
	accounts, err := s.Conn(TargetAccount)
	if err != nil {
		return nil, err
	}
	presences, err := s.Conn(TargetPresence)
	if err != nil {
		return nil, err
	}
	return []limiter.QuotaReader{
		accountQuotas{accountv1.NewUserServiceClient(accounts)},
		presenceQuotas{presencev1.NewConnectionServiceClient(presences)},
	}, nil
}

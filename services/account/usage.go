package account

import (
	"context"

	"github.com/chappe-im/chappe/pkg/quota"
	"github.com/chappe-im/chappe/pkg/tier"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

// GetQuotaUsage implements accountv1.UserServiceServer. Quotas per user are
// not among what it tells: there are as many as users.
func (s *Service) GetQuotaUsage(ctx context.Context, req *accountv1.GetQuotaUsageRequest) (*accountv1.GetQuotaUsageResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	used := make(map[string]int64)
	for _, name := range []string{tier.QuotaRegisteredUsers, tier.SizeUserAttributesPerApp} {
		if used[name], err = quota.Used(ctx, s.db.Read(), app.Number, name, ""); err != nil {
			return nil, err
		}
	}
	return &accountv1.GetQuotaUsageResponse{Used: used}, nil
}

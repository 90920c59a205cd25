package presence

import (
	"context"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/tier"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// GetQuotaUsage implements presencev1.ConnectionServiceServer.
func (s *Service) GetQuotaUsage(_ context.Context, req *presencev1.GetQuotaUsageRequest) (*presencev1.GetQuotaUsageResponse, error) {
	app, ok := s.deps.Apps.App(req.GetOrg(), req.GetApp())
	if !ok {
		return nil, errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	return &presencev1.GetQuotaUsageResponse{Used: map[string]int64{tier.QuotaOnlineUsers: s.index.usersOnline(app.Key)}}, nil
}

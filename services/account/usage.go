package account

import (
	"context"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/quota"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/tier"
	quotav1 "github.com/chappe-im/chappe/proto/gen/chappe/quota/v1"
)

// GetQuotaUsage returns what an app uses; of what each user may have, the
// highest use.
func (s *Service) GetQuotaUsage(ctx context.Context, req *quotav1.GetQuotaUsageRequest) (*quotav1.GetQuotaUsageResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	resp := &quotav1.GetQuotaUsageResponse{Used: make(map[string]int64), Owners: make(map[string]string)}
	for _, name := range []string{tier.QuotaRegisteredUsers, tier.SizeUserAttributesPerApp} {
		if resp.Used[name], err = quota.Used(ctx, s.db.Read(), app.Number, name, ""); err != nil {
			return nil, err
		}
	}
	for name, highest := range map[string]func(context.Context, *catalog.App) (string, int64, error){
		tier.QuotaContactsPerUser: func(ctx context.Context, app *catalog.App) (string, int64, error) {
			return quota.Highest(ctx, s.db.Read(), app.Number, tier.QuotaContactsPerUser)
		},
		tier.SizeUserAttributesPerUser: s.mostAttributes,
	} {
		owner, used, err := highest(ctx, app)
		if err != nil {
			return nil, err
		}
		resp.Used[name] = used
		if owner != "" {
			resp.Owners[name] = owner
		}
	}
	return resp, nil
}

// mostAttributes finds the user with the most bytes of attributes.
func (s *Service) mostAttributes(ctx context.Context, app *catalog.App) (owner string, bytes int64, err error) {
	_, err = store.Row(ctx, s.db.Read(), `SELECT username, bytes FROM attributes WHERE app = $1
		ORDER BY bytes DESC LIMIT 1`, []any{app.Number}, &owner, &bytes)
	return owner, bytes, err
}

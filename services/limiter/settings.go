package limiter

import (
	"context"
	"fmt"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/etcdx"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// SetAppSettings implements limiter.v1.
func (s *Service) SetAppSettings(ctx context.Context, req *limiterv1.SetAppSettingsRequest) (*limiterv1.SetAppSettingsResponse, error) {
	a, err := s.editApp(ctx, req.GetOrg(), req.GetApp(), req.GetActor(), func(r *catalog.Record) ([]string, []etcdx.Condition, error) {
		var details []string
		set := func(name string, setting, value *bool) {
			if value == nil || *value == *setting {
				return
			}
			details = append(details, fmt.Sprintf("%s: %t -> %t", name, *setting, *value))
			*setting = *value
		}
		set("rest_send_checks", &r.Settings.RESTSendChecks, req.RestSendChecks)
		return details, nil, nil
	})
	if err != nil {
		return nil, err
	}
	return &limiterv1.SetAppSettingsResponse{App: appProto(a)}, nil
}

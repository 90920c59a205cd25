package limiter

import (
	"context"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// CreateApp implements limiter.v1.
func (s *Service) CreateApp(ctx context.Context, req *limiterv1.CreateAppRequest) (*limiterv1.CreateAppResponse, error) {
	a, secret, err := s.createApp(ctx, NewApp{
		Org: req.GetOrg(), App: req.GetApp(), Tier: req.GetTier(), Registration: req.GetRegistration(), Actor: req.GetActor(),
	})
	if err != nil {
		return nil, err
	}
	return &limiterv1.CreateAppResponse{App: appProto(a), ClientSecret: secret}, nil
}

// ListApps implements limiter.v1.
func (s *Service) ListApps(context.Context, *limiterv1.ListAppsRequest) (*limiterv1.ListAppsResponse, error) {
	resp := &limiterv1.ListAppsResponse{}
	for _, a := range s.deps.Catalog.Apps() {
		resp.Apps = append(resp.Apps, appProto(a))
	}
	return resp, nil
}

// GetApp implements limiter.v1.
func (s *Service) GetApp(_ context.Context, req *limiterv1.GetAppRequest) (*limiterv1.GetAppResponse, error) {
	a, ok := s.deps.Catalog.App(req.GetOrg(), req.GetApp())
	if !ok {
		return nil, errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	return &limiterv1.GetAppResponse{App: appProto(a)}, nil
}

// SetAppTier implements limiter.v1.
func (s *Service) SetAppTier(ctx context.Context, req *limiterv1.SetAppTierRequest) (*limiterv1.SetAppTierResponse, error) {
	a, err := s.setAppTier(ctx, req.GetOrg(), req.GetApp(), req.GetTier(), req.GetActor())
	if err != nil {
		return nil, err
	}
	return &limiterv1.SetAppTierResponse{App: appProto(a)}, nil
}

// SetAppOverrides implements limiter.v1.
func (s *Service) SetAppOverrides(ctx context.Context, req *limiterv1.SetAppOverridesRequest) (*limiterv1.SetAppOverridesResponse, error) {
	a, err := s.setAppOverrides(ctx, req.GetOrg(), req.GetApp(), req.GetOverrides(), req.GetActor())
	if err != nil {
		return nil, err
	}
	return &limiterv1.SetAppOverridesResponse{App: appProto(a)}, nil
}

// RotateAppSecret implements limiter.v1.
func (s *Service) RotateAppSecret(ctx context.Context, req *limiterv1.RotateAppSecretRequest) (*limiterv1.RotateAppSecretResponse, error) {
	a, secret, err := s.rotateSecret(ctx, req.GetOrg(), req.GetApp(), req.GetActor(), req.GetRevokeTokens())
	if err != nil {
		return nil, err
	}
	return &limiterv1.RotateAppSecretResponse{App: appProto(a), ClientSecret: secret}, nil
}

// ListTiers implements limiter.v1.
func (s *Service) ListTiers(context.Context, *limiterv1.ListTiersRequest) (*limiterv1.ListTiersResponse, error) {
	resp := &limiterv1.ListTiersResponse{}
	for _, t := range s.tiers() {
		resp.Tiers = append(resp.Tiers, tierProto(t))
	}
	return resp, nil
}

// GetTier implements limiter.v1.
func (s *Service) GetTier(ctx context.Context, req *limiterv1.GetTierRequest) (*limiterv1.GetTierResponse, error) {
	doc, revision, err := s.storedTier(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return &limiterv1.GetTierResponse{Tier: tierProto(StoredTier{doc.Name, doc, revision})}, nil
}

// PutTier implements limiter.v1.
func (s *Service) PutTier(ctx context.Context, req *limiterv1.PutTierRequest) (*limiterv1.PutTierResponse, error) {
	t, changes, err := s.putTier(ctx, req.GetName(), req.GetDocument(), req.GetActor(), req.GetDryRun())
	if err != nil {
		return nil, err
	}
	return &limiterv1.PutTierResponse{Tier: tierProto(t), Changes: changes}, nil
}

// DeleteTier implements limiter.v1.
func (s *Service) DeleteTier(ctx context.Context, req *limiterv1.DeleteTierRequest) (*limiterv1.DeleteTierResponse, error) {
	if err := s.deleteTier(ctx, req.GetName(), req.GetActor()); err != nil {
		return nil, err
	}
	return &limiterv1.DeleteTierResponse{}, nil
}

// ListChanges implements limiter.v1.
func (s *Service) ListChanges(ctx context.Context, req *limiterv1.ListChangesRequest) (*limiterv1.ListChangesResponse, error) {
	if !validSubject(req.GetSubject()) {
		return nil, errs.Invalid("subject must be tier/NAME, app/ORG/APP or empty")
	}
	changes, err := s.changes(ctx, req.GetSubject(), int(req.GetLimit()))
	if err != nil {
		return nil, err
	}
	resp := &limiterv1.ListChangesResponse{}
	for _, c := range changes {
		resp.Changes = append(resp.Changes, &limiterv1.Change{
			Timestamp: c.Timestamp, Actor: c.Actor, Subject: c.Subject, Details: c.Details,
		})
	}
	return resp, nil
}

func appProto(a *catalog.App) *limiterv1.App {
	return &limiterv1.App{
		Org: a.Org, App: a.Name, Tier: a.TierName, Uuid: a.UUID, ClientId: a.ClientID, Registration: a.Registration,
		Created: a.Created.UnixMilli(), Overrides: a.Overrides, TokenTtlSeconds: int64(a.TokenTTL.Seconds()),
		Settings: &limiterv1.AppSettings{RestSendChecks: a.Settings.RESTSendChecks},
	}
}

func tierProto(t StoredTier) *limiterv1.Tier {
	return &limiterv1.Tier{Name: t.Name, Document: string(t.Document.JSON()), Revision: t.Revision}
}

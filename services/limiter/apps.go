package limiter

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/tier"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// seenTimeout is how long a change waits to be in force here before it is
// answered anyway.
const seenTimeout = time.Second

func appExists(org, app string) error {
	return errs.New(codes.AlreadyExists, errs.ReasonDuplicate, "the app "+org+"/"+app+" exists already")
}

func errBusy() error {
	return errs.New(codes.Aborted, errs.ReasonUnavailable, "too many changes at once, please try again")
}

// ListApps returns all apps.
func (s *Service) ListApps(context.Context, *limiterv1.ListAppsRequest) (*limiterv1.ListAppsResponse, error) {
	resp := &limiterv1.ListAppsResponse{}
	for _, a := range s.deps.Catalog.Apps() {
		resp.Apps = append(resp.Apps, appProto(a))
	}
	return resp, nil
}

// GetApp returns one app.
func (s *Service) GetApp(_ context.Context, req *limiterv1.GetAppRequest) (*limiterv1.GetAppResponse, error) {
	a, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	return &limiterv1.GetAppResponse{App: appProto(a)}, nil
}

func appProto(a *catalog.App) *limiterv1.App {
	return &limiterv1.App{
		Org: a.Org, App: a.Name, Tier: a.TierName, Uuid: a.UUID, ClientId: a.ClientID, Registration: a.Registration,
		Created: a.Created.UnixMilli(), Overrides: a.Overrides, TokenTtlSeconds: int64(a.TokenTTL.Seconds()),
		Settings: &limiterv1.AppSettings{RestSendChecks: a.Settings.RESTSendChecks},
	}
}

// seen waits until what was written at a revision is in force in this process
// and gives the app. What is stored but not yet seen is no failure: the caller
// may hold the only copy of a new secret.
func (s *Service) seen(ctx context.Context, r *catalog.Record, revision int64) *catalog.App {
	ctx, cancel := context.WithTimeout(ctx, seenTimeout)
	defer cancel()
	var app *catalog.App
	err := s.deps.Catalog.Wait(ctx, func(c *catalog.Catalog) bool {
		a, ok := c.App(r.Org, r.App)
		app = a
		return ok && a.Revision >= revision
	})
	if err != nil {
		return catalog.NewApp(r, revision, nil)
	}
	return app
}

// editApp changes a stored app. edit returns what it changed, in words; with
// nothing changed nothing is written. conds are further conditions of the
// write.
func (s *Service) editApp(ctx context.Context, org, app, actor string,
	edit func(*catalog.Record) (details []string, conds []etcdx.Condition, err error),
) (*catalog.App, error) {
	key := catalog.AppKey(org, app)
	for range attempts {
		kv, err := s.deps.Etcd.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		if kv == nil {
			return nil, errs.AppNotFound(org, app)
		}
		record, err := s.deps.Catalog.Decode(kv.Value)
		if err != nil {
			return nil, errs.Internal(fmt.Errorf("%s: %w", key, err))
		}
		details, conds, err := edit(record)
		if err != nil {
			return nil, err
		}
		if len(details) == 0 {
			return s.seen(ctx, record, kv.Revision), nil
		}
		value, err := s.deps.Catalog.Encode(record)
		if err != nil {
			return nil, errs.Internal(err)
		}
		change, err := s.change(actor, appSubject(org, app), details)
		if err != nil {
			return nil, err
		}
		ok, written, err := s.deps.Etcd.Commit(ctx,
			append(conds, etcdx.Condition{Key: key, Revision: kv.Revision}),
			[]etcdx.Write{{Key: key, Value: value}, change})
		if err != nil {
			return nil, err
		}
		if ok {
			return s.seen(ctx, record, written), nil
		}
	}
	return nil, errBusy()
}

// SetAppTier moves an app to another tier, which its overrides must fit.
func (s *Service) SetAppTier(ctx context.Context, req *limiterv1.SetAppTierRequest) (*limiterv1.SetAppTierResponse, error) {
	name := req.GetTier()
	a, err := s.editApp(ctx, req.GetOrg(), req.GetApp(), req.GetActor(), func(r *catalog.Record) ([]string, []etcdx.Condition, error) {
		doc, revision, err := s.storedTier(ctx, name)
		if err != nil {
			return nil, nil, err
		}
		if _, err := tier.Merge(doc, r.Overrides); err != nil {
			return nil, nil, invalidDocument("the app's overrides do not fit the tier", err)
		}
		if r.Tier == name {
			return nil, nil, nil
		}
		details := []string{"tier: " + r.Tier + " -> " + name}
		r.Tier = name
		return details, []etcdx.Condition{{Key: catalog.TierKey(name), Revision: revision}}, nil
	})
	if err != nil {
		return nil, err
	}
	return &limiterv1.SetAppTierResponse{App: appProto(a)}, nil
}

// SetAppOverrides puts a partial tier document over an app's tier; empty takes
// the overrides away.
func (s *Service) SetAppOverrides(ctx context.Context, req *limiterv1.SetAppOverridesRequest) (*limiterv1.SetAppOverridesResponse, error) {
	overrides := strings.TrimSpace(req.GetOverrides())
	a, err := s.editApp(ctx, req.GetOrg(), req.GetApp(), req.GetActor(), func(r *catalog.Record) ([]string, []etcdx.Condition, error) {
		doc, revision, err := s.storedTier(ctx, r.Tier)
		if err != nil {
			return nil, nil, err
		}
		after, err := tier.Merge(doc, []byte(overrides))
		if err != nil {
			return nil, nil, invalidDocument("the overrides are not valid", err)
		}
		before, err := tier.Merge(doc, r.Overrides)
		if err != nil {
			// What was there did not fit; all of it goes.
			before = doc
		}
		details := tier.Diff(before, after)
		if len(details) == 0 && string(r.Overrides) == overrides {
			return nil, nil, nil
		}
		if len(details) == 0 {
			details = []string{"overrides written anew, no limit changed"}
		}
		r.Overrides = nil
		if overrides != "" {
			r.Overrides = json.RawMessage(overrides)
		}
		return details, []etcdx.Condition{{Key: catalog.TierKey(r.Tier), Revision: revision}}, nil
	})
	if err != nil {
		return nil, err
	}
	return &limiterv1.SetAppOverridesResponse{App: appProto(a)}, nil
}

// RotateAppSecret sets a new secret of an app and returns it; the old one is
// void at once. Tokens issued so far stay valid unless they are to be revoked.
func (s *Service) RotateAppSecret(ctx context.Context, req *limiterv1.RotateAppSecretRequest) (*limiterv1.RotateAppSecretResponse, error) {
	secret := credential(secretBytes)
	a, err := s.editApp(ctx, req.GetOrg(), req.GetApp(), req.GetActor(), func(r *catalog.Record) ([]string, []etcdx.Condition, error) {
		r.SecretHash = catalog.HashSecret(secret)
		details := []string{"client_secret: rotated"}
		if req.GetRevokeTokens() {
			newest := r.Keys[0].ID
			for _, k := range r.Keys {
				newest = max(newest, k.ID)
			}
			if newest == math.MaxUint32 {
				newest = 0
			}
			r.Keys = []catalog.RecordKey{{ID: newest + 1, Secret: random(signingKeyBytes)}}
			details = append(details, "tokens: revoked")
		}
		return details, nil, nil
	})
	if err != nil {
		return nil, err
	}
	return &limiterv1.RotateAppSecretResponse{App: appProto(a), ClientSecret: secret}, nil
}

// invalidDocument is the answer to a document with faults.
func invalidDocument(what string, err error) error {
	return errs.Invalid(what + ":\n" + err.Error())
}

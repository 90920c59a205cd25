package limiter

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/tier"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// ListTiers returns the tiers in force.
func (s *Service) ListTiers(context.Context, *limiterv1.ListTiersRequest) (*limiterv1.ListTiersResponse, error) {
	resp := &limiterv1.ListTiersResponse{}
	for _, t := range s.deps.Catalog.Tiers() {
		resp.Tiers = append(resp.Tiers, tierProto(t.Document(), t.Revision))
	}
	return resp, nil
}

// GetTier returns one tier as it is stored.
func (s *Service) GetTier(ctx context.Context, req *limiterv1.GetTierRequest) (*limiterv1.GetTierResponse, error) {
	doc, revision, err := s.storedTier(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return &limiterv1.GetTierResponse{Tier: tierProto(doc, revision)}, nil
}

func tierProto(doc *tier.Document, revision int64) *limiterv1.Tier {
	return &limiterv1.Tier{Name: doc.Name, Document: string(doc.JSON()), Revision: revision}
}

// storedTier reads a tier from etcd.
func (s *Service) storedTier(ctx context.Context, name string) (*tier.Document, int64, error) {
	kv, err := s.deps.Etcd.Get(ctx, catalog.TierKey(name))
	if err != nil {
		return nil, 0, err
	}
	if kv == nil {
		return nil, 0, noTier(name)
	}
	d, err := tier.Parse(kv.Value)
	if err != nil {
		return nil, 0, errs.New(codes.FailedPrecondition, errs.ReasonIllegalArgument,
			fmt.Sprintf("the stored document of tier %s is not valid:\n%v", name, err))
	}
	return d, kv.Revision, nil
}

func noTier(name string) error {
	return errs.New(codes.NotFound, errs.ReasonNotFound, fmt.Sprintf("there is no tier %q", name))
}

// PutTier checks a document and, unless it is a dry run, puts it in force. It
// returns what differs from the document before.
func (s *Service) PutTier(ctx context.Context, req *limiterv1.PutTierRequest) (*limiterv1.PutTierResponse, error) {
	doc, err := tier.Parse([]byte(req.GetDocument()))
	if err != nil {
		return nil, invalidDocument("the tier document is not valid", err)
	}
	if name := req.GetName(); name != "" && doc.Name != name {
		return nil, errs.Invalidf("the document is of tier %s, not of %s", doc.Name, name)
	}
	key := catalog.TierKey(doc.Name)
	for range attempts {
		kv, err := s.deps.Etcd.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		details, revision := differences(kv, doc), int64(0)
		if kv != nil {
			revision = kv.Revision
		}
		if err := s.fitsApps(ctx, doc); err != nil {
			return nil, err
		}
		if req.GetDryRun() || len(details) == 0 {
			return &limiterv1.PutTierResponse{Tier: tierProto(doc, revision), Changes: details}, nil
		}
		change, err := s.change(req.GetActor(), tierSubject(doc.Name), details)
		if err != nil {
			return nil, err
		}
		ok, written, err := s.deps.Etcd.Commit(ctx, []etcdx.Condition{{Key: key, Revision: revision}},
			[]etcdx.Write{{Key: key, Value: doc.JSON()}, change})
		if err != nil {
			return nil, err
		}
		if ok {
			s.tierSeen(ctx, doc.Name, written)
			return &limiterv1.PutTierResponse{Tier: tierProto(doc, written), Changes: details}, nil
		}
	}
	return nil, errBusy()
}

// differences says in words what a document changes.
func differences(kv *etcdx.KV, doc *tier.Document) []string {
	if kv == nil {
		return []string{"created"}
	}
	before, err := tier.Parse(kv.Value)
	if err != nil {
		return []string{"replaces an invalid document"}
	}
	return tier.Diff(before, doc)
}

// fitsApps checks that no app's overrides stop fitting their tier: they would
// silently stay as they were.
func (s *Service) fitsApps(ctx context.Context, doc *tier.Document) error {
	kvs, _, err := s.deps.Etcd.List(ctx, catalog.AppsPrefix)
	if err != nil {
		return err
	}
	var bad []string
	for _, kv := range kvs {
		r, err := s.deps.Catalog.Decode(kv.Value)
		if err != nil || r.Tier != doc.Name || len(r.Overrides) == 0 {
			continue
		}
		if _, err := tier.Merge(doc, r.Overrides); err != nil {
			bad = append(bad, r.Org+"/"+r.App+": "+err.Error())
		}
	}
	if len(bad) > 0 {
		return errs.New(codes.FailedPrecondition, errs.ReasonIllegalArgument,
			"overrides of these apps would not fit the tier any more:\n"+strings.Join(bad, "\n"))
	}
	return nil
}

func (s *Service) tierSeen(ctx context.Context, name string, revision int64) {
	ctx, cancel := context.WithTimeout(ctx, seenTimeout)
	defer cancel()
	_ = s.deps.Catalog.Wait(ctx, func(c *catalog.Catalog) bool {
		t, ok := c.Tier(name)
		return ok && t.Revision >= revision
	})
}

// DeleteTier removes a tier that no app is set to.
func (s *Service) DeleteTier(ctx context.Context, req *limiterv1.DeleteTierRequest) (*limiterv1.DeleteTierResponse, error) {
	name := req.GetName()
	for range attempts {
		kv, err := s.deps.Etcd.Get(ctx, catalog.TierKey(name))
		if err != nil {
			return nil, err
		}
		if kv == nil {
			return nil, noTier(name)
		}
		apps, _, err := s.deps.Etcd.List(ctx, catalog.AppsPrefix)
		if err != nil {
			return nil, err
		}
		for _, a := range apps {
			if r, err := s.deps.Catalog.Decode(a.Value); err == nil && r.Tier == name {
				return nil, errs.New(codes.FailedPrecondition, errs.ReasonIllegalArgument,
					fmt.Sprintf("the app %s/%s has the tier %s", r.Org, r.App, name))
			}
		}
		change, err := s.change(req.GetActor(), tierSubject(name), []string{"deleted"})
		if err != nil {
			return nil, err
		}
		ok, _, err := s.deps.Etcd.Commit(ctx, []etcdx.Condition{{Key: kv.Key, Revision: kv.Revision}},
			[]etcdx.Write{{Key: kv.Key, Delete: true}, change})
		if err != nil {
			return nil, err
		}
		if ok {
			return &limiterv1.DeleteTierResponse{}, nil
		}
	}
	return nil, errBusy()
}

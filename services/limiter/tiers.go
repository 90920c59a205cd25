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
)

// StoredTier is a tier document and its revision in etcd.
type StoredTier struct {
	Name     string
	Document *tier.Document
	Revision int64
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

// putTier checks a document and, unless dryRun, puts it in force. It returns
// what differs from the document before.
func (s *Service) putTier(ctx context.Context, name, document, actor string, dryRun bool) (StoredTier, []string, error) {
	doc, err := tier.Parse([]byte(document))
	if err != nil {
		return StoredTier{}, nil, invalidDocument("the tier document is not valid", err)
	}
	if name != "" && doc.Name != name {
		return StoredTier{}, nil, errs.Invalidf("the document is of tier %s, not of %s", doc.Name, name)
	}
	key := catalog.TierKey(doc.Name)
	for range attempts {
		kv, err := s.deps.Etcd.Get(ctx, key)
		if err != nil {
			return StoredTier{}, nil, err
		}
		details, revision := differences(kv, doc), int64(0)
		if kv != nil {
			revision = kv.Revision
		}
		if err := s.fitsApps(ctx, doc); err != nil {
			return StoredTier{}, nil, err
		}
		if dryRun || len(details) == 0 {
			return StoredTier{doc.Name, doc, revision}, details, nil
		}
		change, err := s.change(actor, tierSubject(doc.Name), details)
		if err != nil {
			return StoredTier{}, nil, err
		}
		ok, written, err := s.deps.Etcd.Commit(ctx, []etcdx.Condition{{Key: key, Revision: revision}},
			[]etcdx.Write{{Key: key, Value: doc.JSON()}, change})
		if err != nil {
			return StoredTier{}, nil, err
		}
		if ok {
			s.tierSeen(ctx, doc.Name, written)
			return StoredTier{doc.Name, doc, written}, details, nil
		}
	}
	return StoredTier{}, nil, errBusy()
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

// deleteTier removes a tier that no app is set to.
func (s *Service) deleteTier(ctx context.Context, name, actor string) error {
	for range attempts {
		kv, err := s.deps.Etcd.Get(ctx, catalog.TierKey(name))
		if err != nil {
			return err
		}
		if kv == nil {
			return noTier(name)
		}
		apps, _, err := s.deps.Etcd.List(ctx, catalog.AppsPrefix)
		if err != nil {
			return err
		}
		for _, a := range apps {
			if r, err := s.deps.Catalog.Decode(a.Value); err == nil && r.Tier == name {
				return errs.New(codes.FailedPrecondition, errs.ReasonIllegalArgument,
					fmt.Sprintf("the app %s/%s has the tier %s", r.Org, r.App, name))
			}
		}
		change, err := s.change(actor, tierSubject(name), []string{"deleted"})
		if err != nil {
			return err
		}
		ok, _, err := s.deps.Etcd.Commit(ctx, []etcdx.Condition{{Key: kv.Key, Revision: kv.Revision}},
			[]etcdx.Write{{Key: kv.Key, Delete: true}, change})
		if err != nil {
			return err
		}
		if ok {
			return nil
		}
	}
	return errBusy()
}

// tiers lists the tiers in force.
func (s *Service) tiers() []StoredTier {
	var out []StoredTier
	for _, t := range s.deps.Catalog.Tiers() {
		out = append(out, StoredTier{t.Name, t.Document(), t.Revision})
	}
	return out
}

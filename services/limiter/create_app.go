package limiter

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strconv"

	"github.com/google/uuid"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/ident"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

const (
	// appCounter holds the last app number given out.
	appCounter = "/counters/app"
	// credentialPrefix begins every client ID and secret.
	credentialPrefix = "YXA6"
	idBytes          = 16
	secretBytes      = 24
	signingKeyBytes  = 32

	// defaultTokenTTL is 60 days, in seconds.
	defaultTokenTTL = 60 * 24 * 3600

	// attempts bounds how often a write is tried anew when another came in
	// between.
	attempts = 20
)

// CreateApp makes an app and returns it with its secret, which is not stored.
func (s *Service) CreateApp(ctx context.Context, req *limiterv1.CreateAppRequest) (*limiterv1.CreateAppResponse, error) {
	registration := req.GetRegistration()
	if registration == "" {
		registration = catalog.RegistrationAuthorized
	}
	switch {
	case !ident.ValidOrg(req.GetOrg()):
		return nil, errs.Invalid("org must be 1 to 64 letters, digits, _ or -")
	case !ident.ValidApp(req.GetApp()):
		return nil, errs.Invalid("app must be 1 to 32 lower-case letters, digits or -")
	case registration != catalog.RegistrationOpen && registration != catalog.RegistrationAuthorized:
		return nil, errs.Invalid("registration must be open or authorized")
	}
	id, err := timeUUID()
	if err != nil {
		return nil, errs.Internal(err)
	}
	secret := credential(secretBytes)
	record := &catalog.Record{
		Org: req.GetOrg(), App: req.GetApp(), UUID: id, Tier: req.GetTier(),
		ClientID: credential(idBytes), SecretHash: catalog.HashSecret(secret),
		Keys:         []catalog.RecordKey{{ID: 1, Secret: random(signingKeyBytes)}},
		Registration: registration, TokenTTLSeconds: defaultTokenTTL, Created: s.deps.Now().UnixMilli(),
	}
	change, err := s.change(req.GetActor(), appSubject(req.GetOrg(), req.GetApp()),
		[]string{"created with tier " + req.GetTier() + ", registration " + registration})
	if err != nil {
		return nil, err
	}
	key := catalog.AppKey(req.GetOrg(), req.GetApp())
	for range attempts {
		tierRevision, err := s.tierRevision(ctx, req.GetTier())
		if err != nil {
			return nil, err
		}
		if old, err := s.deps.Etcd.Get(ctx, key); err != nil {
			return nil, err
		} else if old != nil {
			return nil, appExists(req.GetOrg(), req.GetApp())
		}
		last, revision, err := s.lastNumber(ctx)
		if err != nil {
			return nil, err
		}
		record.Number = last + 1
		value, err := s.deps.Catalog.Encode(record)
		if err != nil {
			return nil, errs.Internal(err)
		}
		ok, written, err := s.deps.Etcd.Commit(ctx,
			[]etcdx.Condition{{Key: key}, {Key: appCounter, Revision: revision}, {Key: catalog.TierKey(req.GetTier()), Revision: tierRevision}},
			[]etcdx.Write{{Key: key, Value: value}, {Key: appCounter, Value: strconv.AppendInt(nil, record.Number, 10)}, change})
		if err != nil {
			return nil, err
		}
		if ok {
			return &limiterv1.CreateAppResponse{App: appProto(s.seen(ctx, record, written)), ClientSecret: secret}, nil
		}
	}
	return nil, errBusy()
}

func (s *Service) lastNumber(ctx context.Context) (last, revision int64, err error) {
	kv, err := s.deps.Etcd.Get(ctx, appCounter)
	if err != nil || kv == nil {
		return 0, 0, err
	}
	last, err = strconv.ParseInt(string(kv.Value), 10, 64)
	if err != nil || last < 0 {
		return 0, 0, errs.Internal(errors.New("the counter of apps is not a number"))
	}
	return last, kv.Revision, nil
}

// tierRevision is the revision of a tier that exists.
func (s *Service) tierRevision(ctx context.Context, name string) (int64, error) {
	if name == "" {
		return 0, errs.Invalid("tier must be set")
	}
	kv, err := s.deps.Etcd.Get(ctx, catalog.TierKey(name))
	if err != nil {
		return 0, err
	}
	if kv == nil {
		return 0, errs.Invalidf("there is no tier %q", name)
	}
	return kv.Revision, nil
}

func credential(n int) string {
	return credentialPrefix + base64.RawURLEncoding.EncodeToString(random(n))
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: the program ends instead
	return b
}

// timeUUID makes a time-based UUID with a random node, so that it does not
// give away the machine's address.
func timeUUID() (string, error) {
	id, err := uuid.NewUUID()
	if err != nil {
		return "", err
	}
	copy(id[10:], random(6))
	id[10] |= 1 // multicast: not a machine's address
	return id.String(), nil
}

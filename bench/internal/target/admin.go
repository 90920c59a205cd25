package target

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/secrets"
	"github.com/chappe-im/chappe/pkg/tier"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// TierName is the tier of the measured app: the largest of the seeded ones
// with rates that no load reaches. Every check is still made.
const TierName = "bench"

const (
	baseTier = "enterprise"
	// rate per rule and window.
	rate = 100_000_000
	// 10,000 times 1,000 deliveries a second.
	downstreamFactor = 10_000
	downstreamBase   = 1_000
)

// raise lifts all rates and quotas of a tier out of the way.
func raise(d *tier.Document) *tier.Document {
	d = d.Clone()
	d.Name, d.Title = TierName, "load tests"
	lift := func(limits []tier.LimitDocument) []tier.LimitDocument {
		out := make([]tier.LimitDocument, len(limits))
		for i, l := range limits {
			l.Count = rate
			out[i] = l
		}
		return out
	}
	for id, r := range d.Rules {
		if r.Bucket == "" {
			r.Limits = lift(r.Limits)
		}
		r.Alternative = nil
		d.Rules[id] = r
	}
	for name, b := range d.SharedBuckets {
		d.SharedBuckets[name] = tier.Bucket{Limits: lift(b.Limits)}
	}
	d.RateCounting.Default.Count = rate
	for name := range d.Quotas {
		d.Quotas[name] = nil
	}
	factor := int64(downstreamFactor)
	d.Downstream.Factor, d.Downstream.Base = &factor, downstreamBase
	return d
}

// CreateApp puts the tier in force and makes an app of it through the
// administration service at grpcAddr, whose secret is in secretFile. It returns
// how to address the app.
func CreateApp(ctx context.Context, grpcAddr, secretFile, url, org, app string) (Config, error) {
	secret, err := secrets.Read(secretFile)
	if err != nil {
		return Config{}, err
	}
	conn, err := grpcx.Dial(grpcAddr, grpcx.SecretAccess(secret))
	if err != nil {
		return Config{}, err
	}
	defer func() { _ = conn.Close() }()
	admin := limiterv1.NewAdminServiceClient(conn)
	base, err := admin.GetTier(ctx, &limiterv1.GetTierRequest{Name: baseTier})
	if err != nil {
		return Config{}, fmt.Errorf("tier %s: %w", baseTier, err)
	}
	doc, err := tier.Parse([]byte(base.GetTier().GetDocument()))
	if err != nil {
		return Config{}, fmt.Errorf("tier %s: %w", baseTier, err)
	}
	_, err = admin.PutTier(ctx, &limiterv1.PutTierRequest{Name: TierName, Document: string(raise(doc).JSON()), Actor: "chappe-bench"})
	if err != nil {
		return Config{}, fmt.Errorf("tier %s: %w", TierName, err)
	}
	created, err := admin.CreateApp(ctx, &limiterv1.CreateAppRequest{Org: org, App: app, Tier: TierName})
	if err != nil {
		return Config{}, fmt.Errorf("app %s/%s: %w", org, app, err)
	}
	return Config{
		URL: url, App: org + "/" + app,
		ClientID: created.GetApp().GetClientId(), ClientSecret: created.GetClientSecret(),
	}, nil
}

// Await is New for an app that was created just now: it waits until the
// gateway has heard of it.
func Await(ctx context.Context, cfg Config) (*Target, error) {
	for {
		t, err := New(ctx, cfg)
		var status *statusError
		if !errors.As(err, &status) || status.status != http.StatusNotFound {
			return t, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

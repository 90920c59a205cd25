package limiter

import (
	"context"
	"time"

	"github.com/chappe-im/chappe/pkg/errs"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// maxBatch bounds the checks of one request.
const maxBatch = 10_000

// owner gives the way to the owner of an app if that is another limiter. The
// batches of pkg/cluster come to the owner by themselves; this is for all who
// do not know the owners.
func (s *Service) owner(ctx context.Context, org, app string) (limiterv1.LimiterServiceClient, bool) {
	if s.deps.Elsewhere == nil {
		return nil, false
	}
	return s.deps.Elsewhere(ctx, org, app)
}

// Check implements limiter.v1.
func (s *Service) Check(ctx context.Context, req *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error) {
	if o, ok := s.owner(ctx, req.GetOrg(), req.GetApp()); ok {
		return o.Check(ctx, req)
	}
	resp := &limiterv1.CheckResponse{}
	if err := s.check(req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}

// BatchCheck implements limiter.v1. It decides itself: who sends batches knows
// the owners.
func (s *Service) BatchCheck(_ context.Context, req *limiterv1.BatchCheckRequest) (*limiterv1.BatchCheckResponse, error) {
	checks := req.GetChecks()
	if len(checks) > maxBatch {
		return nil, errs.Invalidf("at most %d checks in one request", maxBatch)
	}
	// One block for all answers.
	block := make([]limiterv1.CheckResponse, len(checks))
	resp := &limiterv1.BatchCheckResponse{Results: make([]*limiterv1.CheckResponse, len(checks))}
	for i, c := range checks {
		resp.Results[i] = &block[i]
		if err := s.check(c, &block[i]); err != nil {
			block[i].Reason = ReasonInvalid
			if errs.Is(err, errs.ReasonAppNotFound) {
				block[i].Reason = ReasonUnknownApp
			}
		}
	}
	return resp, nil
}

// Reserve implements limiter.v1.
func (s *Service) Reserve(ctx context.Context, req *limiterv1.ReserveRequest) (*limiterv1.ReserveResponse, error) {
	if o, ok := s.owner(ctx, req.GetOrg(), req.GetApp()); ok {
		return o.Reserve(ctx, req)
	}
	const maxMillis = int64(24 * time.Hour / time.Millisecond)
	wait := time.Duration(min(req.GetMaxDelayMs(), maxMillis)) * time.Millisecond
	g, err := s.reserve(req.GetOrg(), req.GetApp(), req.GetCost(), wait)
	if err != nil {
		return nil, err
	}
	return &limiterv1.ReserveResponse{
		Granted:   g.Deliveries,
		DelayUs:   int64((g.Delay + time.Microsecond - 1) / time.Microsecond),
		Unlimited: g.Unlimited,
	}, nil
}

// ReportBacklog implements limiter.v1.
func (s *Service) ReportBacklog(ctx context.Context, req *limiterv1.ReportBacklogRequest) (*limiterv1.ReportBacklogResponse, error) {
	if o, ok := s.owner(ctx, req.GetOrg(), req.GetApp()); ok {
		return o.ReportBacklog(ctx, req)
	}
	if err := s.reportBacklog(req.GetOrg(), req.GetApp(), req.GetReporter(), req.GetDeliveries()); err != nil {
		return nil, err
	}
	return &limiterv1.ReportBacklogResponse{}, nil
}

// GetUsage implements limiter.v1.
func (s *Service) GetUsage(ctx context.Context, req *limiterv1.GetUsageRequest) (*limiterv1.GetUsageResponse, error) {
	if o, ok := s.owner(ctx, req.GetOrg(), req.GetApp()); ok {
		return o.GetUsage(ctx, req)
	}
	u, err := s.usage(ctx, req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	resp := &limiterv1.GetUsageResponse{Backlog: u.Backlog}
	for _, r := range u.Rules {
		resp.Rules = append(resp.Rules, &limiterv1.RuleUsage{
			Rule: r.Rule, Scope: r.Scope, Limit: r.Limit, WindowMs: r.WindowNs / 1e6, Used: r.Used,
			AdmittedTotal: r.Admitted, ThrottledTotal: r.Throttled,
		})
	}
	for _, q := range u.Quotas {
		resp.Quotas = append(resp.Quotas, &limiterv1.QuotaUsage{Quota: q.Quota, Limit: q.Limit, Used: q.Used, Owner: q.Owner})
	}
	return resp, nil
}

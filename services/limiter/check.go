package limiter

import (
	"context"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/rate"
	"github.com/chappe-im/chappe/pkg/windows"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// Why a check is refused.
const (
	// ReasonRate is a window that is full.
	ReasonRate = "rate"
	// ReasonBacklog is a send while too many deliveries wait.
	ReasonBacklog = "backlog"
	// ReasonTooCostly is a cost above what a window ever holds.
	ReasonTooCostly = "too_costly"
	// ReasonInvalid and ReasonUnknownApp answer, in a batch, a check that by
	// itself would be an error.
	ReasonInvalid    = "invalid"
	ReasonUnknownApp = "unknown_app"
)

const (
	// maxNameBytes bounds the strings of a check.
	maxNameBytes = 256
	// maxBatch bounds the checks of one request.
	maxBatch = 10_000
)

// owner returns the way to the owner of an app if that is another limiter. The
// batches of the limiter's client come to the owner by themselves; this is for
// callers that do not know the owners.
func (s *Service) owner(ctx context.Context, org, app string) (limiterv1.LimiterServiceClient, bool) {
	if s.deps.OwnerClient == nil {
		return nil, false
	}
	return s.deps.OwnerClient(ctx, org, app)
}

// Check decides on a call; the app's owner does.
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

// BatchCheck decides on several calls here, whose apps' owner its caller knows
// to be this limiter.
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

// check decides on a call, charges all its windows if it is admitted, and fills
// in the answer. The error is illegal_argument or an unknown app.
func (s *Service) check(req *limiterv1.CheckRequest, resp *limiterv1.CheckResponse) error {
	c := windows.Call{Rule: req.GetRule(), IP: req.GetIp(), User: req.GetUser(), Cost: req.GetCost()}
	if c.Cost < 1 {
		return errs.Invalid("cost must be at least 1")
	}
	if c.Rule == "" || len(c.Rule) > maxNameBytes || len(c.IP) > maxNameBytes || len(c.User) > maxNameBytes {
		return errs.Invalid("rule must be set, and rule, ip and user must not be longer than 256 bytes")
	}
	app, ok := s.deps.Catalog.App(req.GetOrg(), req.GetApp())
	if !ok {
		return errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	rule := app.Tier.Rule(c.Rule)
	if rule.Backlogged {
		if v, late := s.budgets.late(app.Number, s.deps.Clock, app.Tier.Downstream()); late {
			s.buckets.Throttle(app.Number, c.Rule, rule)
			s.metrics.backlog.Inc()
			fill(resp, &v)
			resp.Reason = ReasonBacklog
			return nil
		}
	}
	v, at := s.buckets.Check(app.Number, rule, &c)
	fill(resp, &v)
	switch {
	case v.OK:
		if s.recorder != nil {
			s.recorder(app.Key, c.Rule, c.Cost, at)
		}
	case v.TooCostly:
		resp.Reason = ReasonTooCostly
	default:
		resp.Reason = ReasonRate
	}
	return nil
}

// fill writes the verdict of the tightest window.
func fill(resp *limiterv1.CheckResponse, v *rate.Verdict) {
	resp.Allowed = v.OK
	resp.Limit, resp.Remaining = v.Limit, v.Remaining
	resp.RetryAfterMs, resp.ResetAfterMs = rate.CeilMillis(v.RetryAfter), rate.CeilMillis(v.ResetAfter)
}

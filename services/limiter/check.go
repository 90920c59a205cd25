package limiter

import (
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

// maxNameBytes bounds the strings of a check.
const maxNameBytes = 256

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

package limiter

import (
	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/rate"
	"github.com/chappe-im/chappe/pkg/windows"
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

// Call is what asks to be admitted.
type Call struct {
	Org, App string
	windows.Call
}

// Decision is what becomes of a call. The verdict is that of the tightest
// window.
type Decision struct {
	rate.Verdict
	Reason string
}

// Check decides on a call and, if it is admitted, charges all its windows. The
// error is illegal_argument or an unknown app.
func (s *Service) check(c Call) (Decision, error) {
	if c.Cost < 1 {
		return Decision{}, errs.Invalid("cost must be at least 1")
	}
	if c.Rule == "" || len(c.Rule) > maxNameBytes || len(c.IP) > maxNameBytes || len(c.User) > maxNameBytes {
		return Decision{}, errs.Invalid("rule must be set, and rule, ip and user must not be longer than 256 bytes")
	}
	app, ok := s.deps.Catalog.App(c.Org, c.App)
	if !ok {
		return Decision{}, errs.AppNotFound(c.Org, c.App)
	}
	return s.decide(app, c), nil
}

func (s *Service) decide(app *catalog.App, c Call) Decision {
	rule := app.Tier.Rule(c.Rule)
	if rule.Backlogged {
		if d, late := s.budgets.late(app.Number, s.deps.Clock(), app.Tier.Downstream()); late {
			s.buckets.Throttle(app.Number, c.Rule, rule)
			s.metrics.backlog.Inc()
			return d
		}
	}
	v, at := s.buckets.Check(app.Number, rule, c.Call)
	switch {
	case v.OK:
		if s.recorder != nil {
			s.recorder(app.Key, c.Rule, c.Cost, at)
		}
		return Decision{Verdict: v}
	case v.TooCostly:
		return Decision{Verdict: v, Reason: ReasonTooCostly}
	default:
		return Decision{Verdict: v, Reason: ReasonRate}
	}
}

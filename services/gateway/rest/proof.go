package rest

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/obs"
	"github.com/chappe-im/chappe/services/gateway/guard"
	"github.com/chappe-im/chappe/services/gateway/routes"
)

// Kinds of credentials that calls carry, and how their checks end: labels of a
// metric.
const (
	kindPassword = "password"
	kindSecret   = "secret"

	checkRight   = "right"
	checkWrong   = "wrong"
	checkOther   = "undecided"
	checkDelayed = "delayed"
)

// guardLogEvery is how often delayed tries are logged at most.
const guardLogEvery = time.Minute

// prove makes a call that carries a credential of its own. Wrong ones are
// counted by the guard and cost the app nothing of its rate: anybody can send
// them. Calls that change nothing are admitted once they have succeeded, others
// before.
func (h *Handler) prove(ctx context.Context, c *call, p routes.Proof, route *routes.Route, m proto.Message, invoke func(context.Context) error) error {
	admit := func() error { return c.admit(ctx, route.RuleFor(m), route.CostOf(m)) }
	address := h.addresses.ClientIP(c.req)
	kind := kindSecret
	var try *guard.Try
	if p.User != "" {
		kind = kindPassword
		var wait time.Duration
		if try, wait = h.guard.Begin(guard.User{App: c.access.App.Number, ID: p.User}, address); try == nil {
			return h.delayed(c, kind, address, wait)
		}
	}
	result := guard.Undecided
	if try != nil {
		// Also when the call panics, or a try would stay under way for ever.
		defer func() { try.End(result) }()
	}
	if p.Changes {
		if err := admit(); err != nil {
			return err
		}
	}
	c.admitted = true // nothing else is to charge the call
	err := invoke(ctx)
	switch {
	case err == nil:
		result = guard.Right
		h.metrics.credentials.WithLabelValues(kind, checkRight).Inc()
		if p.Changes {
			return nil
		}
		return admit()
	case !errs.Is(err, errs.ReasonInvalidGrant) && !errs.Is(err, errs.ReasonUnauthorized):
		h.metrics.credentials.WithLabelValues(kind, checkOther).Inc()
		return err
	}
	result = guard.Wrong
	if try == nil {
		if wait := h.guard.WrongSecret(address); wait > 0 {
			return h.delayed(c, kind, address, wait)
		}
	}
	h.metrics.credentials.WithLabelValues(kind, checkWrong).Inc()
	return err
}

// delayed is the answer to a try that comes too early.
func (h *Handler) delayed(c *call, kind, address string, wait time.Duration) error {
	h.metrics.credentials.WithLabelValues(kind, checkDelayed).Inc()
	if h.guardLog.pass(time.Now(), guardLogEvery) {
		h.logger.Warn("wrong credentials come so often that further tries are delayed; if this is the address of a proxy, name it with --trusted-proxies",
			obs.KeyApp, c.access.App.Key, "kind", kind, "ip", address)
	}
	return errs.RateLimited(wait)
}

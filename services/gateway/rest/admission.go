package rest

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/fullstorydev/grpchan"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/obs"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	"github.com/chappe-im/chappe/services/gateway/routes"
)

// SourceKey is the gRPC metadata key that tells a service where a send comes
// from, SourceREST its value on everything that came in here.
const (
	SourceKey  = "chappe-source"
	SourceREST = "rest"
)

// Why the limiter refuses, as far as it makes a difference here.
const refusedTooCostly = "too_costly"

// checked returns a connection whose calls are authorized and admitted first, by
// the entry of their RPC. The caller has been authenticated by then.
func (h *Handler) checked(conn grpc.ClientConnInterface) grpc.ClientConnInterface {
	return grpchan.InterceptClientConn(conn, h.check, nil)
}

// noFilter lets a query set all fields that the entry of the call names.
var noFilter = utilities.NewDoubleArray(nil)

func (h *Handler) check(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	c, route := callFrom(ctx), h.table[method]
	m, ok := req.(proto.Message)
	if c == nil || route == nil || !ok {
		return errs.Internal(fmt.Errorf("rest: %s was called outside of a request", method))
	}
	c.message = m
	if len(c.form) > 0 {
		if err := runtime.PopulateQueryParameters(m, c.form, noFilter); err != nil {
			return c.charge(ctx, errs.Invalid(errs.MessageInvalidRequest))
		}
	}
	if route.Authorize != nil {
		if err := route.Authorize(&c.access, m); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, h.cfg.CallTimeout)
	defer cancel()
	if route.Proves != nil {
		if p, ok := route.Proves(&c.access, m); ok {
			return h.prove(ctx, c, p, route, m, func(ctx context.Context) error { return invoke(ctx, method, req, reply, cc, opts...) })
		}
	}
	if err := c.admit(ctx, route.RuleFor(m), route.CostOf(m)); err != nil {
		return err
	}
	if route.Send {
		ctx = metadata.NewOutgoingContext(ctx, h.fromREST)
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// admit asks the limiter, once for each call. A limiter that does not answer
// stops nobody: being limited exactly matters less than being served.
func (c *call) admit(ctx context.Context, rule string, cost int64) error {
	c.admitted = true
	h := c.h
	if h.limiterRemote {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, h.cfg.AdmissionTimeout)
		defer cancel()
	}
	resp, err := h.limiter.Check(ctx, &limiterv1.CheckRequest{
		Org: c.access.App.Org, App: c.access.App.Name, Rule: rule,
		Ip: h.addresses.ClientIP(c.req), User: string(c.user), Cost: cost,
	})
	switch {
	case err != nil:
		h.metrics.unlimited.Inc()
		h.limiterDown.log(c.h.logger, err)
		return nil
	case resp.GetAllowed():
		return nil
	case resp.GetReason() == refusedTooCostly:
		return errs.Invalid("the call costs more than its limit ever allows")
	}
	retry := time.Duration(resp.GetRetryAfterMs()) * time.Millisecond
	e := errs.RateLimited(retry)
	if c.access.App.Tier.Rule(rule).CountsMessages() {
		e = errs.SendRateLimited(retry)
	}
	return e.With(metaLimit, strconv.FormatInt(resp.GetLimit(), 10)).
		With(metaRemaining, strconv.FormatInt(resp.GetRemaining(), 10)).
		With(metaReset, strconv.FormatInt(resp.GetResetAfterMs(), 10))
}

// charge spends a unit for a call that fails before it reaches its service, so
// that nonsense is limited like sense. The error is that of the limit, if it
// is reached, else e. Nonsense of nobody in particular is not charged, as it is
// not where a token is asked for: the rate is the app's.
func (c *call) charge(ctx context.Context, e *errs.Error) *errs.Error {
	if c.admitted || c.endpoint == nil || c.access.App == nil {
		return e
	}
	if c.endpoint.route.Policy == routes.Open && c.access.Principal.Kind == 0 {
		return e
	}
	if err := c.admit(ctx, c.endpoint.route.RuleFor(nil), 1); err != nil {
		return errs.From(err)
	}
	return e
}

// limiterDown is logged at most once in this time.
const limiterDownEvery = 5 * time.Second

func (t *throttle) log(logger logger, err error) {
	if t.pass(time.Now(), limiterDownEvery) {
		logger.Warn("the limiter does not answer, calls pass unlimited", obs.KeyError, err)
	}
}

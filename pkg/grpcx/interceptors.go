package grpcx

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/obs"
)

// DefaultTimeout is the deadline of a unary call whose caller set none.
const DefaultTimeout = 15 * time.Second

// Interceptors are what every server runs around its handlers.
type Interceptors struct {
	logger  *slog.Logger
	failed  *prometheus.CounterVec
	latency *prometheus.HistogramVec
	// observers are the latency's, by method: looking one up by its label costs
	// more than a short call.
	observers sync.Map
}

// NewInterceptors makes the interceptors of a process, once.
func NewInterceptors(logger *slog.Logger, reg prometheus.Registerer) *Interceptors {
	in := &Interceptors{
		logger: logger,
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_grpc_errors_total", Help: "Calls that ended in an error, by method and code.",
		}, []string{"method", "code"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "chappe_grpc_duration_seconds", Help: "Duration of unary calls.", Buckets: obs.LatencyBuckets,
		}, []string{"method"}),
	}
	reg.MustRegister(in.failed, in.latency)
	return in
}

// Unary wraps unary handlers.
func (in *Interceptors) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	began := time.Now()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
	}
	defer func() {
		if p := recover(); p != nil {
			err = errs.Internal(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
		if err != nil {
			resp, err = nil, in.report(ctx, info.FullMethod, err)
		}
		in.observer(info.FullMethod).Observe(time.Since(began).Seconds())
	}()
	return handle(ctx, req)
}

// observer gives the latency of a method. Methods are those of registered
// services, so there are not many.
func (in *Interceptors) observer(method string) prometheus.Observer {
	if o, ok := in.observers.Load(method); ok {
		return o.(prometheus.Observer) //nolint:forcetypeassert // nothing else is stored
	}
	o := in.latency.WithLabelValues(method)
	in.observers.Store(method, o)
	return o
}

// Stream wraps streaming handlers.
func (in *Interceptors) Stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	method := info.FullMethod
	if srv == nil {
		// A service that is not here: its name is the caller's invention and must
		// not become a label.
		method = "unknown"
	}
	defer func() {
		if p := recover(); p != nil {
			err = errs.Internal(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
		if err != nil {
			err = in.report(ss.Context(), method, err)
		}
	}()
	return handle(srv, ss)
}

// report counts an error, logs it once if it is ours, and gives it the form in
// which it travels.
func (in *Interceptors) report(ctx context.Context, method string, err error) error {
	e := errs.From(err)
	in.failed.WithLabelValues(method, e.Code.String()).Inc()
	switch e.Code {
	case codes.Internal, codes.Unknown, codes.Unavailable, codes.DeadlineExceeded:
		level := slog.LevelError
		if e.Code != codes.Internal && e.Code != codes.Unknown {
			level = slog.LevelWarn
		}
		in.logger.Log(ctx, level, "call failed", obs.KeyMethod, method, "code", e.Code.String(), obs.KeyError, e.Error())
	}
	return e
}

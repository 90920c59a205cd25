package grpcx_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/testkit"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

type key struct{}

type limiter struct {
	limiterv1.UnimplementedLimiterServiceServer
	check func(context.Context, *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error)
}

func (l *limiter) Check(ctx context.Context, req *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error) {
	return l.check(ctx, req)
}

func TestChannel(t *testing.T) {
	t.Parallel()
	ch := grpcx.NewChannel(grpcx.NewInterceptors(testkit.Logger(t), prometheus.NewRegistry()))
	svc := &limiter{}
	limiterv1.RegisterLimiterServiceServer(ch, svc)
	client := limiterv1.NewLimiterServiceClient(ch.Conn())

	t.Run("copies, deadline, metadata and nothing else travel", func(t *testing.T) {
		kept := &limiterv1.CheckResponse{Allowed: true}
		var seen *limiterv1.CheckRequest
		svc.check = func(ctx context.Context, req *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error) {
			seen = req
			require.Nil(t, ctx.Value(key{}))
			md, _ := metadata.FromIncomingContext(ctx)
			require.Equal(t, metadata.Pairs("a", "b"), md)
			out, _ := metadata.FromOutgoingContext(ctx)
			require.Empty(t, out, "metadata goes one hop")
			_, ok := ctx.Deadline()
			require.True(t, ok)
			return kept, nil
		}
		ctx := metadata.NewOutgoingContext(context.WithValue(t.Context(), key{}, "x"), metadata.Pairs("a", "b"))
		req := &limiterv1.CheckRequest{Rule: "r"}
		resp, err := client.Check(ctx, req)
		require.NoError(t, err)
		require.True(t, resp.GetAllowed())
		require.NotSame(t, kept, resp)
		require.NotSame(t, req, seen)
		require.Equal(t, "r", seen.GetRule())
	})
	t.Run("errors are whole", func(t *testing.T) {
		svc.check = func(context.Context, *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error) {
			return nil, errs.RateLimited(time.Second).With("limit", "7")
		}
		_, err := client.Check(t.Context(), &limiterv1.CheckRequest{})
		var e *errs.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, time.Second, e.RetryAfter)
		require.Equal(t, "7", e.Metadata["limit"])
	})
	t.Run("others are internal, so are panics", func(t *testing.T) {
		for _, f := range []func(context.Context, *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error){
			func(context.Context, *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error) {
				return nil, errors.New("x")
			},
			func(context.Context, *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error) { panic("x") },
		} {
			svc.check = f
			_, err := client.Check(t.Context(), &limiterv1.CheckRequest{})
			require.True(t, errs.Is(err, errs.ReasonInternal), "%v", err)
		}
	})
	t.Run("a call that is over before it begins", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		svc.check = func(context.Context, *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error) {
			require.Fail(t, "called")
			return nil, nil
		}
		_, err := client.Check(ctx, &limiterv1.CheckRequest{})
		require.Error(t, err)
	})
	t.Run("unknown methods", func(t *testing.T) {
		_, err := limiterv1.NewAdminServiceClient(ch.Conn()).ListApps(t.Context(), &limiterv1.ListAppsRequest{})
		require.True(t, errs.Is(err, errs.ReasonUnsupported), "%v", err)
		_, err = ch.Conn().NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/no/stream")
		require.Error(t, err)
	})
}

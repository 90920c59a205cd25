package limiterclient

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// Conn is the client as a connection, for those who make their own
// limiterv1 clients: each call goes to the owner of the app that it names, and
// administration to any limiter.
func (c *Client) Conn() grpc.ClientConnInterface { return conn{c} }

type conn struct{ c *Client }

// Invoke makes a call.
func (x conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	switch req := args.(type) {
	case *limiterv1.CheckRequest:
		return x.check(ctx, req, reply)
	case *limiterv1.BatchCheckRequest:
		return answer(reply)(x.c.BatchCheck(ctx, req, opts...))
	case *limiterv1.ReserveRequest:
		return answer(reply)(x.c.Reserve(ctx, req, opts...))
	case *limiterv1.ReportBacklogRequest:
		return answer(reply)(x.c.ReportBacklog(ctx, req, opts...))
	case *limiterv1.GetUsageRequest:
		return answer(reply)(x.c.GetUsage(ctx, req, opts...))
	}
	if !strings.HasPrefix(method, "/"+limiterv1.AdminService_ServiceDesc.ServiceName+"/") {
		return errs.Internal(fmt.Errorf("limiterclient: %s is no call of the limiter", method))
	}
	if self := x.c.deps.SelfConn; self != nil {
		return self.Invoke(ctx, method, args, reply, opts...)
	}
	for _, p := range x.c.view.Load().peers {
		if !p.down.Load() {
			if err := p.conn.Invoke(ctx, method, args, reply, opts...); err != nil {
				return errs.From(err)
			}
			return nil
		}
	}
	return errNone()
}

// NewStream is not used: no call of the limiter streams.
func (x conn) NewStream(_ context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errs.Internal(fmt.Errorf("limiterclient: no streams, but %s was called", method))
}

// check is the one call that every request makes: it copies field by field.
func (x conn) check(ctx context.Context, req *limiterv1.CheckRequest, reply any) error {
	into, ok := reply.(*limiterv1.CheckResponse)
	if !ok {
		return errs.Internal(fmt.Errorf("limiterclient: the reply is a %T", reply))
	}
	r, err := x.c.Check(ctx, req)
	if err != nil {
		return err
	}
	into.Allowed, into.Reason = r.GetAllowed(), r.GetReason()
	into.Limit, into.Remaining = r.GetLimit(), r.GetRemaining()
	into.RetryAfterMs, into.ResetAfterMs = r.GetRetryAfterMs(), r.GetResetAfterMs()
	return nil
}

// answer copies a reply to where the caller wants it.
func answer(into any) func(proto.Message, error) error {
	return func(m proto.Message, err error) error {
		if err != nil {
			return err
		}
		dst, ok := into.(proto.Message)
		if !ok {
			return errs.Internal(fmt.Errorf("limiterclient: the reply is a %T", into))
		}
		proto.Reset(dst)
		proto.Merge(dst, m)
		return nil
	}
}

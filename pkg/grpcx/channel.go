// Package grpcx makes gRPC servers and connections with the interceptors that
// every service has: recovery, deadlines, errors, metrics and logs. Services in
// one process call each other through a Channel, which runs the same
// interceptors without a socket.
package grpcx

import (
	"context"
	"fmt"
	"sync"

	"github.com/fullstorydev/grpchan"
	"github.com/fullstorydev/grpchan/inprocgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
)

// Channel carries calls between services of one process. It is a registrar for
// the services and a connection for their callers.
type Channel struct {
	unary   sync.Map // full method name to unaryMethod
	streams *inprocgrpc.Channel
	conn    channelConn
	// intercept is the interceptors' Unary.
	intercept grpc.UnaryServerInterceptor
}

// unaryMethod is a handler and the service it belongs to.
type unaryMethod struct {
	service any
	handle  grpc.MethodHandler
}

// NewChannel makes a channel whose calls run through the interceptors.
func NewChannel(in *Interceptors) *Channel {
	streams := &inprocgrpc.Channel{}
	streams.WithCloner(cloner{})
	streams.WithServerStreamInterceptor(in.Stream)
	c := &Channel{streams: streams, intercept: in.Unary}
	c.conn = channelConn{c: c, streams: grpchan.InterceptClientConn(streams, nil, clientStream)}
	return c
}

// RegisterService makes a service callable through the channel.
func (c *Channel) RegisterService(desc *grpc.ServiceDesc, impl any) {
	c.streams.RegisterService(desc, impl)
	for _, m := range desc.Methods {
		c.unary.Store("/"+desc.ServiceName+"/"+m.MethodName, unaryMethod{service: impl, handle: m.Handler})
	}
}

// Conn gives the callers' side. Errors of unary calls are *errs.Error.
func (c *Channel) Conn() grpc.ClientConnInterface { return c.conn }

// channelConn is the callers' side of a Channel.
type channelConn struct {
	c       *Channel
	streams grpc.ClientConnInterface
}

// Invoke runs the handler in the caller's goroutine: handing the call to
// another one and waiting for it costs more than all the rest. A handler that
// does not heed its context therefore holds its caller. Neither side sees the
// other's messages, only copies, nor do values of the caller's context reach
// the handler; its deadline and outgoing metadata do. Headers and trailers do
// not travel.
func (x channelConn) Invoke(ctx context.Context, method string, req, reply any, _ ...grpc.CallOption) error {
	found, ok := x.c.unary.Load(method)
	if !ok {
		return errs.From(status.Errorf(codes.Unimplemented, "method %s not implemented", method))
	}
	if err := ctx.Err(); err != nil {
		return errs.From(err)
	}
	server := context.Context(noValues{ctx})
	if md, ok := metadata.FromOutgoingContext(ctx); ok {
		server = metadata.NewIncomingContext(server, md)
	}
	m := found.(unaryMethod) //nolint:forcetypeassert // nothing else is stored
	resp, err := m.handle(m.service, server, func(in any) error { return cloner{}.Copy(in, req) }, x.c.intercept)
	if err != nil {
		return errs.From(err)
	}
	return cloner{}.Copy(reply, resp)
}

// NewStream begins a streaming call.
func (x channelConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return x.streams.NewStream(ctx, desc, method, opts...)
}

// noValues hides the values of a context.
type noValues struct{ context.Context }

// Value finds nothing.
func (noValues) Value(any) any { return nil }

// AfterFunc spares contexts that are made from this one a goroutine each: they
// cannot see that the library could end them, as its values are hidden.
func (x noValues) AfterFunc(f func()) (stop func() bool) { return context.AfterFunc(x.Context, f) }

// cloner copies messages between caller and service. The library's own looks
// for older kinds of messages first, which costs more than the copy.
type cloner struct{}

func (cloner) Copy(out, in any) error {
	to, ok1 := out.(proto.Message)
	from, ok2 := in.(proto.Message)
	if !ok1 || !ok2 {
		return fmt.Errorf("grpcx: %T and %T are not both messages", out, in)
	}
	proto.Reset(to)
	proto.Merge(to, from)
	return nil
}

func (cloner) Clone(in any) (any, error) {
	from, ok := in.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("grpcx: %T is no message", in)
	}
	return proto.Clone(from), nil
}

// Registrars registers services with several registrars at once.
type Registrars []grpc.ServiceRegistrar

// RegisterService registers with all of them.
func (r Registrars) RegisterService(desc *grpc.ServiceDesc, impl any) {
	for _, x := range r {
		x.RegisterService(desc, impl)
	}
}

// Intercept puts unary interceptors in front of a connection; the first runs
// first.
func Intercept(conn grpc.ClientConnInterface, unary ...grpc.UnaryClientInterceptor) grpc.ClientConnInterface {
	for i := len(unary) - 1; i >= 0; i-- {
		conn = grpchan.InterceptClientConn(conn, unary[i], nil)
	}
	return conn
}

// clientUnary makes the server's error the *errs.Error it was, see fromServer.
func clientUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if err := invoke(ctx, method, req, reply, cc, opts...); err != nil {
		return fromServer(err)
	}
	return nil
}

func clientStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, fromServer(err)
	}
	return s, nil
}

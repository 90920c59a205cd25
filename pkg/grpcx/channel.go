// Package grpcx makes gRPC servers and connections with the interceptors that
// every service has: recovery, deadlines, errors, metrics and logs. Services in
// one process call each other through a Channel, which runs the same
// interceptors without a socket.
package grpcx

import (
	"context"
	"fmt"

	"github.com/fullstorydev/grpchan"
	"github.com/fullstorydev/grpchan/inprocgrpc"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
)

// Channel carries calls between services of one process. It is a registrar for
// the services and a connection for their callers.
type Channel struct {
	ch   *inprocgrpc.Channel
	conn grpc.ClientConnInterface
}

// NewChannel makes a channel whose calls run through the interceptors.
func NewChannel(in *Interceptors) *Channel {
	ch := &inprocgrpc.Channel{}
	ch.WithCloner(cloner{})
	ch.WithServerUnaryInterceptor(in.Unary)
	ch.WithServerStreamInterceptor(in.Stream)
	return &Channel{ch: ch, conn: grpchan.InterceptClientConn(ch, clientUnary, clientStream)}
}

// RegisterService makes a service callable through the channel.
func (c *Channel) RegisterService(desc *grpc.ServiceDesc, impl any) {
	c.ch.RegisterService(desc, impl)
}

// Conn gives the callers' side. Errors of unary calls are *errs.Error.
func (c *Channel) Conn() grpc.ClientConnInterface { return c.conn }

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

// clientUnary makes the server's error the *errs.Error it was.
func clientUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if err := invoke(ctx, method, req, reply, cc, opts...); err != nil {
		return errs.From(err)
	}
	return nil
}

func clientStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, errs.From(err)
	}
	return s, nil
}

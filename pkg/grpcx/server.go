package grpcx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/resolver/dns"
)

// MaxMessageBytes bounds gRPC messages both ways.
const MaxMessageBytes = 8 << 20

// Server is a gRPC server on a listener, with health and reflection.
type Server struct {
	*grpc.Server
	health *health.Server
	lis    net.Listener
	done   chan error
}

// NewServer makes a server. tlsConfig nil serves plaintext.
func NewServer(in *Interceptors, tlsConfig *tls.Config) *Server {
	opts := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(in.Unary),
		grpc.ChainStreamInterceptor(in.Stream),
		grpc.MaxRecvMsgSize(MaxMessageBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
	if tlsConfig != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(tlsConfig)))
	}
	s := &Server{Server: grpc.NewServer(opts...), health: health.NewServer(), done: make(chan error, 1)}
	healthv1.RegisterHealthServer(s.Server, s.health)
	reflection.Register(s.Server)
	s.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	return s
}

// Start serves on a listener. Services must be registered before.
func (s *Server) Start(lis net.Listener) {
	s.lis = lis
	s.health.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
	go func() { s.done <- s.Serve(lis) }()
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.lis.Addr().String() }

// Stop lets calls finish until ctx ends, then breaks them off, and waits.
func (s *Server) Stop(ctx context.Context) error {
	s.health.Shutdown()
	graceful := make(chan struct{})
	go func() {
		s.GracefulStop()
		close(graceful)
	}()
	select {
	case <-graceful:
	case <-ctx.Done():
		s.Server.Stop()
		<-graceful
	}
	if err := <-s.done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("grpc server: %w", err)
	}
	return nil
}

// resolveOften has names looked up again within a second when no address
// answers: after a restart in a cluster a service has another one. Left alone,
// the client asks each 30 s at most.
var resolveOften = sync.OnceFunc(func() { dns.SetMinResolutionInterval(time.Second) })

// Dial makes a connection to a service at target ("dns:///chappe-account:9090",
// "127.0.0.1:9090"); calls spread over all addresses. tlsConfig nil connects in
// plaintext. Errors of unary calls are *errs.Error.
func Dial(target string, tlsConfig *tls.Config) (*grpc.ClientConn, error) {
	resolveOften()
	creds := insecure.NewCredentials()
	if tlsConfig != nil {
		creds = credentials.NewTLS(tlsConfig)
	}
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(creds),
		grpc.WithUnaryInterceptor(clientUnary),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", target, err)
	}
	return conn, nil
}

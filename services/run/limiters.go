package run

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/chappe-im/chappe/pkg/lifecycle"
	"github.com/chappe-im/chappe/pkg/limiterclient"
	"github.com/chappe-im/chappe/pkg/members"
)

// limiters is this process's part in a cluster of limiters: the limiter that
// it enters in the list, and the client that finds the owner of each app.
type limiters struct {
	id           string
	registration *members.Registration
	client       *limiterclient.Client
	gateways     atomic.Int64
	// timeout is how long an owner may take to answer; 0 is the default.
	timeout time.Duration
}

// clustered reports whether limiters find each other in etcd. With an embedded
// etcd there is only the one of this process.
func (s *Server) clustered() bool { return !s.embeddedEtcd() }

// limiterRegistration enters the limiter in the list once the process serves gRPC,
// and takes it off before it stops to.
func (s *Server) limiterRegistration() lifecycle.Part {
	return lifecycle.Part{
		Name: "limiter registration",
		Start: func(ctx context.Context) (err error) {
			s.limiters.registration, err = members.Register(ctx, s.etcd, s.logger, members.Limiters,
				members.Member{ID: s.limiters.id, Addr: s.advertised()})
			return err
		},
		Stop: func(context.Context) error { return s.limiters.registration.Stop() },
	}
}

// limiterConn gives a connection on which each call goes to its app's owner.
func (s *Server) limiterConn() (grpc.ClientConnInterface, error) {
	// While an owner is away, the gateways divide the limits among themselves.
	watch, err := members.Watch(context.Background(), s.etcd, s.logger, members.Gateways, func(live members.Members) {
		s.limiters.gateways.Store(int64(len(live)))
	})
	if err != nil {
		return nil, err
	}
	deps := limiterclient.Deps{
		Etcd: s.etcd, Apps: s.catalog, Access: s.access, Shares: func() int { return int(s.limiters.gateways.Load()) },
		Timeout: s.limiters.timeout, Logger: s.logger, Registerer: s.registry,
	}
	if s.cfg.Runs(TargetLimiter) {
		deps.Self, deps.SelfConn = s.limiters.id, s.channel.Conn()
	}
	client, err := limiterclient.NewClient(context.Background(), deps)
	if err != nil {
		watch.Stop()
		return nil, err
	}
	s.onStop("limiter client", func() {
		client.Stop()
		watch.Stop()
	})
	s.limiters.client = client
	return client.Conn(), nil
}

// newLimiterID names this process's limiter, anew at each start.
func newLimiterID() string { return uuid.NewString() }

// advertised is where other processes reach this one's gRPC: what the operator
// says, else the address that it listens on, else the machine's first address.
func (s *Server) advertised() string {
	if s.cfg.Advertise != "" {
		return s.cfg.Advertise
	}
	host, port, err := net.SplitHostPort(s.GRPCAddr())
	if err != nil {
		return s.GRPCAddr()
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
		return s.GRPCAddr()
	}
	return net.JoinHostPort(machineAddr(), port)
}

// machineAddr is the machine's first address that others can use.
func machineAddr() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "127.0.0.1"
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return "127.0.0.1"
}

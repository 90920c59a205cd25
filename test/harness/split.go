package harness

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/embed"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/seal"
	"github.com/chappe-im/chappe/pkg/secrets"
	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/services/run"
)

// Split is a server whose services run as if each were a process of its own.
type Split struct {
	// Server is the limiter's and the first gateway's side.
	*Server
	cfg     run.Config
	limiter string
	opts    []run.Option
	// proxies stand before parts that can be taken away, by their name.
	proxies map[string]*Proxy
}

// Names of what StartSplitBehindProxies can take away, besides targets.
const (
	PartNATS     = "nats"
	PartDatabase = "database"
)

// StartSplitBehindProxies is StartSplit with proxies before NATS, the database
// (where it is a server) and the services, for Part.
func StartSplitBehindProxies(t testing.TB, opts ...run.Option) *Split {
	t.Helper()
	return startSplit(t, map[string]*Proxy{}, opts...)
}

// Part gives the proxy before a part; nil if there is none.
func (s *Split) Part(name string) *Proxy { return s.proxies[name] }

// behind gives the address of a proxy before a server, or the server's own.
func (s *Split) behind(t testing.TB, name, addr string) string {
	if s.proxies == nil {
		return addr
	}
	p := StartProxy(t, addr)
	s.proxies[name] = p
	return p.Addr
}

// StartSplit runs the services as if each were a process of its own: they share
// nothing but an etcd, a NATS and a PostgreSQL server (SQLite files where there
// is none), and reach each other by gRPC over TCP.
//
// Options hold for every part within the test, not for processes.
func StartSplit(t testing.TB, opts ...run.Option) *Split {
	t.Helper()
	return startSplit(t, nil, opts...)
}

func startSplit(t testing.TB, proxies map[string]*Proxy, opts ...run.Option) *Split {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	natsToken := secrets.New()
	etcd, err := embed.StartEtcd(ctx, embed.EtcdConfig{Dir: dir, Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	t.Cleanup(etcd.Stop)
	nats, err := embed.StartNATS(embed.NATSConfig{Dir: dir, Listen: "127.0.0.1:0", Token: natsToken, Logger: testkit.Logger(t)})
	require.NoError(t, err)
	t.Cleanup(nats.Stop)

	s := &Split{cfg: config(""), opts: opts, proxies: proxies}
	cfg := &s.cfg
	cfg.Etcd = []string{etcd.Endpoint()}
	cfg.NATS = "nats://" + natsToken + "@" + s.behind(t, PartNATS, strings.TrimPrefix(nats.URL(), "nats://"))
	cfg.GRPCSecretFile, cfg.SealKeyFile = filepath.Join(dir, "grpc-secret"), filepath.Join(dir, "seal-key")
	require.NoError(t, errors.Join(secrets.Create(cfg.GRPCSecretFile), seal.Create(cfg.SealKeyFile)))
	if cfg.Database = testkit.Postgres(t); cfg.Database == "" {
		cfg.Database = "sqlite:" + dir
	} else {
		u, err := url.Parse(cfg.Database)
		require.NoError(t, err)
		u.Host = s.behind(t, PartDatabase, u.Host)
		cfg.Database = u.String()
	}
	s.limiter = s.behind(t, run.TargetLimiter, s.start(t, run.TargetLimiter).GRPCAddr())
	for _, target := range []string{run.TargetAccount, run.TargetPresence, run.TargetMessaging} {
		s.startPeer(t, target, true)
	}
	s.Server = s.Gateway(t)
	return s
}

// startPeer starts a service that those started from now on call, through a
// proxy if asked for.
func (s *Split) startPeer(t testing.TB, target string, proxied bool) {
	t.Helper()
	peers := map[string]string{} // those that run keep the map that they have
	maps.Copy(peers, s.cfg.Peers)
	peers[target] = s.start(t, target).GRPCAddr()
	if proxied {
		peers[target] = s.behind(t, target, peers[target])
	}
	s.cfg.Peers = peers
}

func (s *Split) start(t testing.TB, target string) *run.Server {
	t.Helper()
	cfg := s.cfg
	cfg.Targets = []string{target}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	server, err := run.New(cfg, nil, testkit.Logger(t).With("target", target), io.Discard, s.opts...)
	require.NoError(t, err)
	require.NoError(t, server.Start(ctx))
	t.Cleanup(func() { require.NoError(t, server.Stop(context.Background())) })
	return server
}

// Limiter starts a further limiter.
func (s *Split) Limiter(t testing.TB) {
	t.Helper()
	s.start(t, run.TargetLimiter)
}

// LimiterProcess starts a further limiter as a process of its own.
func (s *Split) LimiterProcess(t testing.TB) *Process {
	t.Helper()
	return s.process(t, run.TargetLimiter, func(t testing.TB, addrs []string) *Server {
		return connect(t, s.cfg, addrs[0], addrs[1], addrs[2])
	})
}

// Messaging starts a further messaging service. Gateways started from now on
// send to it.
func (s *Split) Messaging(t testing.TB) {
	t.Helper()
	s.startPeer(t, run.TargetMessaging, false)
}

// AtMessaging gives the server with gRPC connections going to messaging.
func (s *Split) AtMessaging(t testing.TB) *Server {
	t.Helper()
	at := *s.Server
	secret, err := secrets.Read(s.cfg.GRPCSecretFile)
	require.NoError(t, err)
	conn, err := grpcx.Dial(s.cfg.Peers[run.TargetMessaging], grpcx.SecretAccess(secret))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	at.conn = conn
	return &at
}

// Gateway starts a further gateway.
func (s *Split) Gateway(t testing.TB) *Server {
	t.Helper()
	server := s.start(t, run.TargetGateway)
	return connect(t, s.cfg, server.HTTPAddr(), s.limiter, server.OpsAddr())
}

// GatewayProcess starts a further gateway as a process of its own.
func (s *Split) GatewayProcess(t testing.TB) *Process {
	t.Helper()
	return s.process(t, run.TargetGateway, func(t testing.TB, addrs []string) *Server {
		return connect(t, s.cfg, addrs[0], s.limiter, addrs[2])
	})
}

func (s *Split) process(t testing.TB, target string, reach func(t testing.TB, addrs []string) *Server) *Process {
	t.Helper()
	cfg := s.cfg
	cfg.Targets = []string{target}
	raw, err := json.Marshal(cfg)
	require.NoError(t, err)
	return startProcess(t, partEnv+"="+string(raw), reach)
}

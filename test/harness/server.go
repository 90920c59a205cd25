// Package harness runs whole Chappe servers for black-box tests: within the
// test's process, or as a process of their own that can be killed.
package harness

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/chappe-im/chappe/pkg/embed"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/testkit"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	"github.com/chappe-im/chappe/services/run"
)

// embedded gives servers the etcd and NATS that they carry within themselves.
type embedded struct{}

func (embedded) Etcd(ctx context.Context, dir string) (*etcdx.Client, func(), error) {
	e, err := embed.StartEtcd(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	return etcdx.Wrap(e.Client(), ""), e.Stop, nil
}

func (embedded) NATS(dir, listen string, syncAlways bool, logger *slog.Logger) (natsx.InProcessServer, func(), error) {
	n, err := embed.StartNATS(embed.NATSConfig{Dir: dir, Listen: listen, SyncAlways: syncAlways, Logger: logger})
	if err != nil {
		return nil, nil, err
	}
	return n, n.Stop, nil
}

// config is that of a single node on ports of the system's choice.
func config(data string) run.Config {
	return run.Config{
		Targets: []string{run.TargetAll}, HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Ops: "127.0.0.1:0", Data: data,
		Durability: run.DurabilityProcess, BodyLimit: 1 << 20, DrainTimeout: 10 * time.Second,
		Partitions: 4, LogAge: 24 * time.Hour, LogReplicas: 1,
	}
}

// Server is a running server and the ways to it.
type Server struct {
	// HTTP is the base of REST calls, WS the address of client connections.
	HTTP string
	WS   string
	GRPC string
	Ops  string

	conn *grpc.ClientConn
}

// Start runs a server within the test, with its data in a directory of the
// test's own.
func Start(t testing.TB, opts ...run.Option) *Server {
	t.Helper()
	return StartIn(t, t.TempDir(), opts...)
}

// StartIn is Start with the data in a given directory.
func StartIn(t testing.TB, data string, opts ...run.Option) *Server {
	t.Helper()
	return start(t, config(data), opts...)
}

// StartOn is Start on a database other than SQLite files.
func StartOn(t testing.TB, database string, opts ...run.Option) *Server {
	t.Helper()
	cfg := config(t.TempDir())
	cfg.Database = database
	return start(t, cfg, opts...)
}

func start(t testing.TB, cfg run.Config, opts ...run.Option) *Server {
	t.Helper()
	s, err := run.New(cfg, embedded{}, testkit.Logger(t), io.Discard, opts...)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, s.Start(ctx))
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	return connect(t, s.HTTPAddr(), s.GRPCAddr(), s.OpsAddr())
}

// Refused starts a server with a changed configuration that does not start, and
// returns why.
func Refused(t testing.TB, data string, change func(*run.Config)) error {
	t.Helper()
	cfg := config(data)
	change(&cfg)
	s, err := run.New(cfg, embedded{}, testkit.Logger(t), io.Discard)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err = s.Start(ctx); err == nil {
		require.NoError(t, s.Stop(context.WithoutCancel(ctx)))
	}
	return err
}

func connect(t testing.TB, http, grpcAddr, ops string) *Server {
	conn, err := grpcx.Dial(grpcAddr, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &Server{HTTP: "http://" + http, WS: "ws://" + http + "/ws", GRPC: grpcAddr, Ops: "http://" + ops, conn: conn}
}

// Conn is a gRPC connection to the server.
func (s *Server) Conn() grpc.ClientConnInterface { return s.conn }

// Admin administers apps and tiers.
func (s *Server) Admin() limiterv1.AdminServiceClient { return limiterv1.NewAdminServiceClient(s.conn) }

package run

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/embed"
	"github.com/chappe-im/chappe/pkg/seal"
	"github.com/chappe-im/chappe/pkg/secrets"
	"github.com/chappe-im/chappe/pkg/testkit"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// Two processes with a limiter each, and one without, keep one limit.
func TestLimitersFindEachOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := filepath.Join(dir, "grpc-secret")
	require.NoError(t, secrets.Create(secret))
	files := testkit.NewAuthority(t).Issue()
	for name, access := range map[string]Config{
		"by a secret":     {GRPCSecretFile: secret},
		"by certificates": {GRPCTLSCert: files.Cert, GRPCTLSKey: files.Key, GRPCTLSCA: files.CA},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limitersFindEachOther(t, access)
		})
	}
}

// limitersFindEachOther runs the processes with a configuration of access to
// gRPC.
func limitersFindEachOther(t *testing.T, access Config) {
	logger := testkit.Logger(t)
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	natsToken := secrets.New()
	etcd, err := embed.StartEtcd(ctx, embed.EtcdConfig{Dir: dir, Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	t.Cleanup(etcd.Stop)
	nats, err := embed.StartNATS(embed.NATSConfig{Dir: dir, Listen: "127.0.0.1:0", Token: natsToken, Logger: logger})
	require.NoError(t, err)
	t.Cleanup(nats.Stop)

	require.NoError(t, seal.Create(filepath.Join(dir, "seal-key")))

	var clients []limiterv1.LimiterServiceClient
	var admin limiterv1.AdminServiceClient
	var all []*Server
	for i := range 3 {
		cfg := Config{
			GRPCSecretFile: access.GRPCSecretFile, GRPCTLSCert: access.GRPCTLSCert, GRPCTLSKey: access.GRPCTLSKey, GRPCTLSCA: access.GRPCTLSCA,
			Targets: []string{TargetLimiter}, HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Etcd: []string{etcd.Endpoint()}, NATS: strings.Replace(nats.URL(), "://", "://"+natsToken+"@", 1),
			SealKeyFile: filepath.Join(dir, "seal-key"),
			Durability:  DurabilityProcess, LogLevel: "info", LogFormat: "text", BodyLimit: 1 << 20, DrainTimeout: 10 * time.Second,
			Partitions: 1, LogAge: time.Hour, LogReplicas: 1,
		}
		if i == 2 {
			cfg.Targets, cfg.Data = []string{TargetPresence}, dir
			cfg.Peers = map[string]string{TargetAccount: "127.0.0.1:1"}
		}
		s, err := New(cfg, nil, logger, io.Discard, WithLimiterPatience(time.Minute))
		require.NoError(t, err)
		require.NoError(t, s.Start(ctx))
		t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
		conn, err := s.Conn(TargetLimiter)
		require.NoError(t, err)
		if i == 0 {
			admin = limiterv1.NewAdminServiceClient(conn)
		}
		clients = append(clients, limiterv1.NewLimiterServiceClient(conn))
		all = append(all, s)
	}
	require.Eventually(t, func() bool {
		for _, s := range all {
			if s.limiters.client.Limiters() != 2 {
				return false
			}
		}
		return true
	}, 20*time.Second, time.Millisecond)
	for _, app := range []string{"one", "two", "three", "four"} {
		_, err := admin.CreateApp(ctx, &limiterv1.CreateAppRequest{Org: "acme", App: app, Tier: "free"})
		require.NoError(t, err)
		for _, s := range all {
			require.Eventually(t, func() bool { _, ok := s.catalog.App("acme", app); return ok }, 20*time.Second, time.Millisecond)
		}
		admitted := 0
		for range 10 {
			for _, c := range clients {
				resp, err := c.Check(ctx, &limiterv1.CheckRequest{Org: "acme", App: app, Rule: "get_history_file", Cost: 1})
				require.NoError(t, err)
				if resp.GetAllowed() {
					admitted++
				}
			}
		}
		require.Equal(t, 10, admitted, "30 calls by three processes, 10 a minute are allowed")
		for _, s := range all[:2] {
			// Whoever asks any limiter is told what the owner knows.
			direct := limiterv1.NewLimiterServiceClient(s.channel.Conn())
			resp, err := direct.Check(ctx, &limiterv1.CheckRequest{Org: "acme", App: app, Rule: "get_history_file", Cost: 1})
			require.NoError(t, err)
			require.False(t, resp.GetAllowed())
			usage, err := direct.GetUsage(ctx, &limiterv1.GetUsageRequest{Org: "acme", App: app})
			require.NoError(t, err)
			for _, r := range usage.GetRules() {
				if r.GetRule() == "get_history_file" {
					require.Equal(t, int64(10), r.GetUsed())
				}
			}
		}
	}
}

func TestAdvertisedAddress(t *testing.T) {
	t.Parallel()
	require.NotEmpty(t, machineAddr())
	s := &Server{cfg: Config{Advertise: "limiter-0.example:9090"}}
	require.Equal(t, "limiter-0.example:9090", s.advertised())
}

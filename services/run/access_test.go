package run

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
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

func TestBeyondLoopback(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"127.0.0.1:9090": false, "127.8.9.10:9090": false, "[::1]:9090": false, "localhost:9090": false,
		"0.0.0.0:9090": true, "[::]:9090": true, ":9090": true, "10.1.2.3:9090": true, "[fe80::1%eth0]:9090": true,
		"chappe:9090": true, "localhost.example:9090": true, "127.0.0.1.example:9090": true, "[::ffff:10.1.2.3]:1": true, "[::ffff:127.0.0.1]:1": false,
	} {
		require.Equal(t, want, beyondLoopback(addr), addr)
	}
}

func TestBelowTheDataDirectory(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := &Server{cfg: Config{Data: data}}
	for path, want := range map[string]bool{
		filepath.Join(data, "x"): true, filepath.Join(data, "a", "x"): true, filepath.Join(data, "..", "x"): false, data + "-other/x": false,
		"/etc/x": false, filepath.Join(data, "a", "..", "..", "x"): false,
	} {
		require.Equal(t, want, s.below(path), path)
	}
	require.False(t, (&Server{}).below("x"), "without a data directory nothing is below it")
}

func TestShellQuote(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"@./data/demo-app.json": "@./data/demo-app.json", "a b": "'a b'", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "": "''", "a\nb": "'a\nb'",
	} {
		require.Equal(t, want, shellQuote(word))
	}
}

// A gateway with another secret than the accounts is an installation that is
// wired up wrong: its users must be told that it does not work, not that they
// are not who they say.
func TestGatewayWithAnotherSecret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	etcd, err := embed.StartEtcd(ctx, embed.EtcdConfig{Dir: dir, Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	t.Cleanup(etcd.Stop)
	token := secrets.New()
	nats, err := embed.StartNATS(embed.NATSConfig{Dir: dir, Listen: "127.0.0.1:0", Token: token, Logger: testkit.Logger(t)})
	require.NoError(t, err)
	t.Cleanup(nats.Stop)
	ours, theirs, sealKey := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs"), filepath.Join(dir, "seal-key")
	require.NoError(t, secrets.Create(ours))
	require.NoError(t, secrets.Create(theirs))
	require.NoError(t, seal.Create(sealKey))
	start := func(secret string, targets []string, account string) *Server {
		s, err := New(Config{
			Targets: targets, HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Data: dir, Etcd: []string{etcd.Endpoint()},
			NATS: strings.Replace(nats.URL(), "://", "://"+token+"@", 1), Durability: DurabilityProcess, BodyLimit: 1 << 20, DrainTimeout: 10 * time.Second,
			Partitions: 1, LogAge: time.Hour, LogReplicas: 1, GRPCSecretFile: secret, SealKeyFile: sealKey,
			Peers: map[string]string{TargetAccount: account, TargetPresence: account, TargetMessaging: account},
		}, nil, testkit.Logger(t), io.Discard, WithLimiterPatience(10*time.Second))
		require.NoError(t, err)
		require.NoError(t, s.Start(ctx))
		t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
		return s
	}
	accounts := start(ours, []string{TargetLimiter, TargetAccount, TargetPresence}, "127.0.0.1:1")
	made, err := limiterv1.NewAdminServiceClient(accounts.channel.Conn()).CreateApp(ctx,
		&limiterv1.CreateAppRequest{Org: "acme", App: "shop", Tier: "enterprise", Registration: "open"})
	require.NoError(t, err)
	body, err := json.Marshal(map[string]string{
		"grant_type": "client_credentials", "client_id": made.GetApp().GetClientId(), "client_secret": made.GetClientSecret(),
	})
	require.NoError(t, err)
	answer := func(s *Server) (int, string) {
		require.Eventually(t, func() bool { _, ok := s.catalog.App("acme", "shop"); return ok }, 20*time.Second, time.Millisecond)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.HTTPAddr()+"/acme/shop/token", strings.NewReader(string(body)))
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		raw, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(raw)
	}
	code, text := answer(start(theirs, []string{TargetGateway}, accounts.GRPCAddr()))
	require.Equal(t, http.StatusServiceUnavailable, code, text)
	require.NotContains(t, text, "secret", "how the parts are wired up is nobody's business outside")
	code, text = answer(start(ours, []string{TargetGateway}, accounts.GRPCAddr()))
	require.Equal(t, http.StatusOK, code, text)
}

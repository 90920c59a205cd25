package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/secrets"
	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/services/limiter"
	"github.com/chappe-im/chappe/services/run"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// remote is a server that the commands talk to.
type remote struct {
	addr string
	// data is its data directory.
	data string
}

// serve starts a limiter on a listener.
func serve(t *testing.T) remote {
	t.Helper()
	etcd := testkit.Etcd(t)
	require.NoError(t, catalog.Seed(t.Context(), etcd))
	reg, logger := prometheus.NewRegistry(), testkit.Logger(t)
	cat, err := catalog.Watch(t.Context(), etcd, testkit.SealKeys(t), logger, reg)
	require.NoError(t, err)
	t.Cleanup(cat.Stop)
	svc, err := limiter.New(limiter.DefaultConfig(), limiter.Deps{Etcd: etcd, Catalog: cat, Logger: logger, Registerer: reg})
	require.NoError(t, err)
	data := t.TempDir()
	set, err := secrets.ReadOrCreate(run.GRPCSecretPath(data, ""))
	require.NoError(t, err)
	server := grpcx.NewServer(grpcx.NewInterceptors(logger, reg), grpcx.SecretAccess(set))
	svc.Register(server)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server.Start(lis)
	t.Cleanup(func() { require.NoError(t, server.Stop(context.Background())) })
	return remote{addr: lis.Addr().String(), data: data}
}

// chappe runs a command line and returns what it printed.
func chappe(t *testing.T, server remote, stdin string, args ...string) (string, error) {
	t.Helper()
	root := &cobra.Command{Use: "chappe", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(Commands()...)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetIn(strings.NewReader(stdin))
	root.SetArgs(append([]string{args[0], "--server", server.addr, "--data", server.data}, args[1:]...))
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func object(t *testing.T, s string) map[string]any {
	t.Helper()
	m := map[string]any{}
	require.NoError(t, json.Unmarshal([]byte(s), &m), s)
	return m
}

func TestAppCommands(t *testing.T) {
	t.Parallel()
	server := serve(t)
	out, err := chappe(t, server, "", "app", "create", "acme/shop", "--tier", "enterprise", "--output", "json")
	require.NoError(t, err)
	app := object(t, out)
	require.Equal(t, "acme", app["org"])
	require.Equal(t, "shop", app["app"])
	require.Equal(t, "enterprise", app["tier"])
	require.Equal(t, "authorized", app["registration"])
	require.True(t, strings.HasPrefix(app["client_id"].(string), "YXA6"))
	secret := app["client_secret"].(string)
	require.True(t, strings.HasPrefix(secret, "YXA6"))

	out, err = chappe(t, server, "", "app", "show", "acme/shop")
	require.NoError(t, err)
	require.Contains(t, out, app["client_id"])
	require.NotContains(t, out, "secret")

	out, err = chappe(t, server, "", "app", "list")
	require.NoError(t, err)
	require.Contains(t, out, "acme/shop  enterprise  authorized")

	out, err = chappe(t, server, "", "app", "set-tier", "acme/shop", "free", "--actor", "eve", "-o", "json")
	require.NoError(t, err)
	require.Equal(t, "free", object(t, out)["tier"])

	out, err = chappe(t, server, "", "app", "set", "acme/shop", "--rest-send-checks", "-o", "json")
	require.NoError(t, err)
	require.Equal(t, true, object(t, out)["rest_send_checks"])
	out, err = chappe(t, server, "", "app", "set", "acme/shop", "--rest-send-checks=false", "-o", "json")
	require.NoError(t, err)
	require.Equal(t, false, object(t, out)["rest_send_checks"])
	_, err = chappe(t, server, "", "app", "set", "acme/shop")
	require.Error(t, err, "nothing to set")
	out, err = chappe(t, server, `{"quotas": {"groups": 3}}`, "app", "override", "acme/shop", "-f", "-", "-o", "json")
	require.NoError(t, err)
	require.Equal(t, map[string]any{"quotas": map[string]any{"groups": 3.0}}, object(t, out)["overrides"])
	out, err = chappe(t, server, "", "app", "override", "acme/shop", "--clear", "-o", "json")
	require.NoError(t, err)
	require.NotContains(t, object(t, out), "overrides")

	out, err = chappe(t, server, "", "app", "rotate-secret", "acme/shop", "--output", "json")
	require.NoError(t, err)
	require.NotEqual(t, secret, object(t, out)["client_secret"])

	out, err = chappe(t, server, "", "tier", "history", "acme/shop")
	require.NoError(t, err)
	require.Contains(t, out, "eve")
	require.Contains(t, out, "tier: enterprise -> free")
}

func TestTierCommands(t *testing.T) {
	t.Parallel()
	server := serve(t)
	out, err := chappe(t, server, "", "tier", "list")
	require.NoError(t, err)
	for _, name := range []string{"free", "basic", "advanced", "enterprise"} {
		require.Contains(t, out, name)
	}
	doc, err := chappe(t, server, "", "tier", "get", "basic")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "basic.json")
	edited := strings.Replace(doc, `"groups": 100000`, `"groups": 7`, 1)
	require.NoError(t, os.WriteFile(file, []byte(edited), 0o600))

	const change = "quotas.groups: 100000 -> 7"
	out, err = chappe(t, server, "", "tier", "diff", "basic", "-f", file)
	require.NoError(t, err)
	require.Equal(t, change+"\n", out)
	out, err = chappe(t, server, "", "tier", "put", "basic", "-f", file, "--dry-run")
	require.NoError(t, err)
	require.Contains(t, out, change)
	require.Contains(t, out, "nothing was written")
	out, err = chappe(t, server, edited, "tier", "put", "-f", "-", "-o", "json")
	require.NoError(t, err)
	require.Equal(t, []any{change}, object(t, out)["changes"])
	out, err = chappe(t, server, "", "tier", "put", "-f", file)
	require.NoError(t, err)
	require.Contains(t, out, "nothing changes")
	out, err = chappe(t, server, "", "tier", "diff", "free", "basic")
	require.NoError(t, err)
	require.Contains(t, out, "quotas.chatrooms: 0 -> 100")
	out, err = chappe(t, server, "", "tier", "history", "basic")
	require.NoError(t, err)
	require.Contains(t, out, change)
	out, err = chappe(t, server, strings.Replace(doc, `"name": "basic"`, `"name": "gold"`, 1), "tier", "put", "gold", "-f", "-")
	require.NoError(t, err)
	require.Contains(t, out, "tier gold is in force")
	_, err = chappe(t, server, "", "tier", "delete", "gold")
	require.NoError(t, err)
	out, err = chappe(t, server, "", "tier", "schema")
	require.NoError(t, err)
	require.Equal(t, "Chappe tier", object(t, out)["title"])
}

func TestLimitsShow(t *testing.T) {
	t.Parallel()
	server := serve(t)
	_, err := chappe(t, server, "", "app", "create", "acme/shop", "--tier", "free")
	require.NoError(t, err)
	out, err := chappe(t, server, "", "limits", "show", "acme/shop", "-o", "json")
	require.NoError(t, err)
	require.Len(t, object(t, out)["rules"], 125)
	out, err = chappe(t, server, "", "limits", "show", "acme/shop", "--all")
	require.NoError(t, err)
	require.Regexp(t, `send_message_users\s+app\s+0\s+6000\s+1m0s`, out)
}

func TestCommandsExplainFailures(t *testing.T) {
	t.Parallel()
	server := serve(t)
	for name, c := range map[string]struct {
		stdin string
		args  []string
		want  string
	}{
		"no slash":       {"", []string{"app", "show", "acme"}, "not of the form ORG/APP"},
		"unknown app":    {"", []string{"app", "show", "acme/nope"}, "Could not find application for acme/nope"},
		"unknown tier":   {"", []string{"app", "create", "acme/x", "--tier", "gold"}, `there is no tier "gold"`},
		"no tier":        {"", []string{"app", "create", "acme/x"}, `required flag(s) "tier" not set`},
		"bad output":     {"", []string{"app", "list", "-o", "xml"}, "--output must be table or json"},
		"bad document":   {`{"name":"free"}`, []string{"tier", "put", "-f", "-"}, "quotas: is missing\nrate_counting: is missing"},
		"no file":        {"", []string{"tier", "put"}, "name a file with -f"},
		"missing file":   {"", []string{"tier", "put", "-f", "/nonexistent.json"}, "no such file"},
		"unknown limits": {"", []string{"limits", "show", "acme/nope"}, "Could not find application"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := chappe(t, server, c.stdin, c.args...)
			require.ErrorContains(t, err, c.want)
		})
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := lis.Addr().String()
	require.NoError(t, lis.Close())
	_, err = chappe(t, remote{addr: nobody, data: server.data}, "", "app", "list")
	require.ErrorContains(t, err, "cannot reach the server at "+nobody)
}

func TestCommandsAreLetInByTheSecret(t *testing.T) {
	t.Parallel()
	server, other := serve(t), serve(t)
	file := filepath.Join(other.data, "grpc-secret")
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for name, c := range map[string]struct {
		at   remote
		more []string
		want string
	}{
		"no secret":      {remote{server.addr, t.TempDir()}, nil, "name the server's data directory with --data"},
		"another's":      {remote{server.addr, other.data}, nil, "does not know this secret"},
		"another's file": {server, []string{"--grpc-secret-file", file}, "does not know this secret"},
		"empty file":     {server, []string{"--grpc-secret-file", empty}, "has no secret in it"},
		"half of TLS":    {server, []string{"--grpc-tls-ca", file}, "all three or none"},
		"its file":       {remote{other.addr, t.TempDir()}, []string{"--grpc-secret-file", file}, ""},
	} {
		_, err := chappe(t, c.at, "", append([]string{"app", "list"}, c.more...)...)
		if c.want == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorContains(t, err, c.want, name)
	}
}

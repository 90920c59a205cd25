package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/testkit"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// stranger connects to gRPC as any program of the machine can.
func stranger(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// get makes a GET request with a bearer token, or without.
func get(t *testing.T, url, token string) int {
	t.Helper()
	return call(t, http.MethodGet, url, token, "", nil)
}

// call makes a request and decodes the answer into one.
func call(t *testing.T, method, url, token, body string, into any) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	if into != nil {
		require.NoError(t, json.Unmarshal(raw, into), "%s", raw)
	}
	return resp.StatusCode
}

// freeAddr returns a loopback address on which nobody listens at the moment.
func freeAddr(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = lis.Close() }()
	return lis.Addr().String()
}

// credentials are an app's, as the command line prints them.
type credentials struct {
	ID     string `json:"client_id"`
	Secret string `json:"client_secret"`
}

func (s *server) newApp(t *testing.T, name string) credentials {
	t.Helper()
	var c credentials
	require.NoError(t, json.Unmarshal([]byte(s.chappe("app", "create", name, "--tier", "enterprise", "-o", "json")), &c))
	return c
}

func (s *server) token(t *testing.T, app string, c credentials) (string, int) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"grant_type": "client_credentials", "client_id": c.ID, "client_secret": c.Secret})
	require.NoError(t, err)
	var answer struct {
		Token string `json:"access_token"`
	}
	code := call(t, http.MethodPost, "http://"+s.http+"/"+app+"/token", "", string(body), &answer)
	return answer.Token, code
}

func TestGRPCNeedsTheSecretOfTheDataDirectory(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	s := serve(t, data)
	conn := stranger(t, s.grpc)
	calls := map[string]func(ctx context.Context) error{
		"administration": func(ctx context.Context) error {
			_, err := limiterv1.NewAdminServiceClient(conn).ListApps(ctx, &limiterv1.ListAppsRequest{})
			return err
		},
		"accounts": func(ctx context.Context) error {
			_, err := accountv1.NewUserServiceClient(conn).GetUser(ctx, &accountv1.GetUserRequest{})
			return err
		},
		"limits": func(ctx context.Context) error {
			_, err := limiterv1.NewLimiterServiceClient(conn).Check(ctx, &limiterv1.CheckRequest{})
			return err
		},
	}
	for name, c := range calls {
		require.Equal(t, codes.Unauthenticated, status.Code(c(t.Context())), name)
		wrong := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+strings.Repeat("0", 64))
		require.Equal(t, codes.Unauthenticated, status.Code(c(wrong)), name)
		right := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+s.secret("grpc-secret"))
		require.NotEqual(t, codes.Unauthenticated, status.Code(c(right)), name)
	}
	_, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err, "probes have no secret")

	s.newApp(t, "acme/shop")
	out, err := command("app", "list", "--server", s.grpc, "--data", t.TempDir()).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "--data")

	t.Log("the secret is kept")
	before := s.secret("grpc-secret")
	s.stop()
	s = serve(t, data)
	require.Equal(t, before, s.secret("grpc-secret"))
	require.Contains(t, s.chappe("app", "list"), "acme/shop")
}

// An etcd or NATS on a unix socket would fail where the path is long.
func TestLongDataPath(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), strings.Repeat("long-", 30), strings.Repeat("longer-", 20))
	s := serve(t, data)
	s.newApp(t, "acme/shop")
}

func TestNothingIsReadableForOthers(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	s := serve(t, data, "--demo", "--nats-listen", "127.0.0.1:0")
	loose := func() (all []string) {
		require.NoError(t, filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if info.Mode().Perm()&0o077 != 0 {
				all = append(all, strings.TrimPrefix(path, data)+" "+info.Mode().String())
			}
			return nil
		}))
		return all
	}
	require.Empty(t, loose(), "while it runs")
	wal, err := filepath.Glob(filepath.Join(data, "sql", "*-wal"))
	require.NoError(t, err)
	require.Len(t, wal, 3, "SQLite's other files are among them")
	s.stop()
	require.Empty(t, loose(), "after it")

	t.Log("an older release left it open")
	open := []string{"", "etcd", "nats", "sql", "sql/account.db", "sql/messaging.db", "grpc-secret", "nats-token", "seal-key", "demo-app.json"}
	for _, name := range open {
		require.NoError(t, os.Chmod(filepath.Join(data, name), 0o777))
	}
	s = serve(t, data, "--demo", "--nats-listen", "127.0.0.1:0")
	require.Empty(t, loose())
	s.stop()
}

func TestSharedDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "like-tmp")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.Chmod(dir, 0o777|fs.ModeSticky))
	require.Contains(t, fails(t, "--data", dir), "shared by all users")
}

func TestBeyondLoopbackIsRefusedWithoutSecrets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"grpc":               {[]string{"--grpc", "0.0.0.0:0"}, []string{"--grpc-secret-file", "--grpc-tls-cert", "127.0.0.1"}},
		"grpc, every family": {[]string{"--grpc", ":0"}, []string{"--grpc-secret-file"}},
		"grpc, IPv6":         {[]string{"--grpc", "[::]:0"}, []string{"--grpc-secret-file"}},
		"grpc, a name":       {[]string{"--grpc", "chappe.example:9090"}, []string{"--grpc-secret-file"}},
		"ops":                {[]string{"--ops", "0.0.0.0:0"}, []string{"--ops-secret-file", "127.0.0.1"}},
		"both":               {[]string{"--grpc", "0.0.0.0:0", "--ops", "0.0.0.0:0"}, []string{"--grpc-secret-file", "--ops-secret-file"}},
		"no such file":       {[]string{"--grpc", "0.0.0.0:0", "--grpc-secret-file", "/nonexistent"}, []string{"/nonexistent"}},
		"half of TLS":        {[]string{"--grpc-tls-cert", "/nonexistent"}, []string{"all three"}},
		"secret and TLS":     {[]string{"--grpc-secret-file", "a", "--grpc-tls-cert", "b", "--grpc-tls-key", "c", "--grpc-tls-ca", "d"}, []string{"leave one of the two out"}},
		"a part":             {[]string{"--target", "account", "--etcd", "127.0.0.1:1", "--nats", "127.0.0.1:1"}, []string{"grpc-secret-file", "seal-key-file"}},
		"demo elsewhere":     {[]string{"--demo", "--etcd", "127.0.0.1:1"}, []string{"demo:", "seal-key-file"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := fails(t, append([]string{"--data", t.TempDir()}, c.args...)...)
			for _, want := range c.want {
				require.Contains(t, out, want)
			}
		})
	}
}

func TestBeyondLoopbackWithSecrets(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	mounted := filepath.Join(t.TempDir(), "grpc")
	require.NoError(t, os.WriteFile(mounted, []byte("a secret of the operator\n"), 0o600))
	s := serve(t, data, "--grpc", "0.0.0.0:0", "--ops", "0.0.0.0:0",
		"--grpc-secret-file", mounted, "--ops-secret-file", filepath.Join(data, "ops-secret"))
	_, port, err := net.SplitHostPort(s.grpc)
	require.NoError(t, err)
	s.grpc = "127.0.0.1:" + port
	out, err := s.try("app", "list")
	require.Error(t, err, out)
	s.chappe("app", "list", "--grpc-secret-file", mounted)

	_, port, err = net.SplitHostPort(s.ops)
	require.NoError(t, err)
	base := "http://127.0.0.1:" + port
	secret := s.secret("ops-secret")
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap", "/debug/pprof/symbol"} {
		require.Equal(t, http.StatusUnauthorized, get(t, base+path, ""), path)
		require.Equal(t, http.StatusUnauthorized, get(t, base+path, secret[:63]), path)
		require.Equal(t, http.StatusUnauthorized, get(t, base+path, "a secret of the operator"), path)
		require.Equal(t, http.StatusOK, get(t, base+path, secret), path)
	}
	require.Equal(t, http.StatusOK, get(t, base+"/healthz", ""), "probes have no secret")
	require.Equal(t, http.StatusOK, get(t, base+"/readyz", ""))
}

func TestCertificatesTakeThePlaceOfTheSecret(t *testing.T) {
	t.Parallel()
	ours, theirs := testkit.NewAuthority(t), testkit.NewAuthority(t)
	flags := func(f grpcx.TLSFiles) []string {
		return []string{"--grpc-tls-cert", f.Cert, "--grpc-tls-key", f.Key, "--grpc-tls-ca", f.CA, "--grpc-tls-name", "chappe"}
	}
	data := t.TempDir()
	s := serve(t, data, append(flags(ours.Issue("chappe")), "--grpc", "0.0.0.0:0")...)
	require.NoFileExists(t, filepath.Join(data, "grpc-secret"))
	_, port, err := net.SplitHostPort(s.grpc)
	require.NoError(t, err)
	s.grpc = "127.0.0.1:" + port
	s.chappe(append([]string{"app", "list"}, flags(ours.Issue())...)...)

	stranger := theirs.Issue()
	stranger.CA = ours.Issue().CA
	out, err := s.try(append([]string{"app", "list"}, flags(stranger)...)...)
	require.Error(t, err, out)
	require.NoError(t, os.WriteFile(filepath.Join(data, "grpc-secret"), []byte("a secret that was never asked for\n"), 0o600))
	out, err = s.try("app", "list")
	require.Error(t, err, out)
}

func TestNATSListenerNeedsItsToken(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	s := serve(t, t.TempDir(), "--nats-listen", addr)
	connect := func(userinfo string) error {
		c, err := natsx.Connect(t.Context(), natsx.Config{URL: "nats://" + userinfo + addr, Name: "worker", Logger: testkit.Logger(t)})
		if err == nil {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_ = c.Drain(ctx)
		}
		return err
	}
	require.Error(t, connect(""))
	require.Error(t, connect("wrong@"))
	require.NoError(t, connect(s.secret("nats-token")+"@"))
}

func TestDemoAppOnlyOnDemand(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, data)
	require.NotContains(t, s.chappe("app", "list"), "demo/chat")
	require.NoFileExists(t, filepath.Join(data, "demo-app.json"))
	s.stop()

	s = serve(t, data, "--demo")
	require.Contains(t, s.chappe("app", "list"), "demo/chat")
	var demo credentials
	require.NoError(t, json.Unmarshal([]byte(s.secret("demo-app.json")), &demo))
	_, code := s.token(t, "demo/chat", demo)
	require.Equal(t, http.StatusOK, code)
	require.NotContains(t, s.logged(), demo.Secret, "standard output may end up in a log as well")
	require.Contains(t, s.logged(), filepath.Join(data, "demo-app.json"))
	s.stop()

	s = serve(t, data, "--demo")
	require.Contains(t, s.logged(), "curl", "it is told at each start")
	_, code = s.token(t, "demo/chat", demo)
	require.Equal(t, http.StatusOK, code)
}

// The lines that are printed work as they stand, from any directory name.
func TestPrintedLinesWork(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	s := serve(t, filepath.Join(t.TempDir(), "it's data"), "--demo")
	var lines []string
	for line := range strings.Lines(s.logged()) {
		if strings.HasPrefix(line, "  ") {
			lines = append(lines, line)
		}
	}
	require.Len(t, lines, 3)
	out, err := exec.Command("sh", "-c", strings.Join(lines, "")).Output()
	require.NoError(t, err)
	require.Contains(t, string(out), `"username":"amelia"`)
	require.Regexp(t, `"data":\{"amelia":"[0-9]+"\}`, string(out))
}

// Whatever happens, no secret gets into the log, at its most talkative, nor
// into what other users of the machine see of the process.
func TestSecretsStayOutOfTheLog(t *testing.T) {
	t.Parallel()
	nats := freeAddr(t)
	data := t.TempDir()
	s := serve(t, data, "--demo", "--log-level", "debug", "--nats-listen", nats, "--ops-secret-file", filepath.Join(data, "ops-secret"))
	app := s.newApp(t, "acme/shop")
	token, code := s.token(t, "acme/shop", app)
	require.Equal(t, http.StatusOK, code)
	rotated := s.chappe("app", "rotate-secret", "acme/shop", "-o", "json")
	var after credentials
	require.NoError(t, json.Unmarshal([]byte(rotated), &after))
	_, code = s.token(t, "acme/shop", app)
	require.NotEqual(t, http.StatusOK, code, "the old one is void")

	base := "http://" + s.http + "/acme/shop"
	const password, wrong = "a password of amelia's", "a password that is not hers"
	require.Equal(t, http.StatusOK, call(t, http.MethodPost, base+"/users", token, `{"username":"amelia","password":"`+password+`"}`, nil))
	require.NotEqual(t, http.StatusOK, call(t, http.MethodPost, base+"/token", "", `{"grant_type":"password","username":"amelia","password":"`+wrong+`"}`, nil))
	const badToken = "YWMt-no-token-of-ours-at-all"
	require.NotEqual(t, http.StatusOK, get(t, base+"/users/amelia", badToken))
	get(t, "http://"+s.ops+"/metrics", s.secret("ops-secret")[:60])
	const guess = "a guess at the secret of gRPC"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+guess)
	_, err := limiterv1.NewAdminServiceClient(stranger(t, s.grpc)).ListApps(ctx, &limiterv1.ListAppsRequest{})
	require.Equal(t, codes.Unauthenticated, status.Code(err))
	_, err = natsx.Connect(t.Context(), natsx.Config{URL: "nats://guessed-token-of-nats@" + nats, Name: "x", Logger: testkit.Logger(t)})
	require.Error(t, err)

	cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid), "cmdline"))
	if err == nil {
		require.NotContains(t, string(cmdline), s.secret("grpc-secret"))
	}
	var demo credentials
	require.NoError(t, json.Unmarshal([]byte(s.secret("demo-app.json")), &demo))
	grpcSecret, natsToken, seal, ops := s.secret("grpc-secret"), s.secret("nats-token"), s.secret("seal-key"), s.secret("ops-secret")
	s.stop()
	log := s.logged()
	require.Contains(t, log, "a gRPC call was refused")
	for name, secret := range map[string]string{
		"gRPC": grpcSecret, "NATS": natsToken, "seal key": seal, "ops": ops, "demo": demo.Secret, "app": app.Secret, "rotated": after.Secret,
		"token": token, "password": password, "wrong password": wrong, "bad token": badToken, "guess": guess, "NATS guess": "guessed-token-of-nats",
		"part of the ops secret": ops[:60],
	} {
		require.NotContains(t, log, secret, name)
	}

	t.Log("errors at the start")
	for _, args := range [][]string{
		{"--database", "postgres://chappe:hunter2secret@127.0.0.1:1/chappe?connect_timeout=1"},
		{"--database", "postgres://chappe:hunter2secret@127.0.0.1:port/chappe"},
		{"--nats", "nats://chappe:hunter2secret@127.0.0.1:1"},
		{"--nats", "nats://chappe:hunter2secret%zz@127.0.0.1:1"},
		{"--etcd", "http://chappe:hunter2secret%zz@127.0.0.1:1", "--seal-key-file", filepath.Join(data, "seal-key")},
	} {
		out := fails(t, append([]string{"--grpc", "127.0.0.1:0", "--ops", "", "--data", t.TempDir()}, args...)...)
		require.NotContains(t, out, "hunter2secret", "%v", args)
		require.NotEmpty(t, bytes.TrimSpace([]byte(out)))
	}
}

package grpcx_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/secrets"
	"github.com/chappe-im/chappe/pkg/testkit"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// admin answers every list of apps.
type admin struct {
	limiterv1.UnimplementedAdminServiceServer
}

func (admin) ListApps(context.Context, *limiterv1.ListAppsRequest) (*limiterv1.ListAppsResponse, error) {
	return &limiterv1.ListAppsResponse{}, nil
}

func serve(t *testing.T, access grpcx.Access) (addr string, reg *prometheus.Registry) {
	t.Helper()
	reg = prometheus.NewRegistry()
	s := grpcx.NewServer(grpcx.NewInterceptors(testkit.Logger(t), reg), access)
	limiterv1.RegisterAdminServiceServer(s, admin{})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.Start(lis)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.NoError(t, s.Stop(ctx))
	})
	return lis.Addr().String(), reg
}

// plain connects as any program of the machine can.
func plain(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func listApps(t *testing.T, ctx context.Context, conn grpc.ClientConnInterface) error { //nolint:revive // t comes first in tests
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := limiterv1.NewAdminServiceClient(conn).ListApps(ctx, &limiterv1.ListAppsRequest{})
	return err
}

func TestSecretIsAskedFor(t *testing.T) {
	t.Parallel()
	const secret, older = "the secret of the server", "the secret before that one"
	addr, reg := serve(t, grpcx.SecretAccess(secrets.NewSet(secret, older)))
	conn := plain(t, addr)
	for name, c := range map[string]struct {
		header []string
		ok     bool
	}{
		"right":          {[]string{"Bearer " + secret}, true},
		"an older one":   {[]string{"Bearer " + older}, true},
		"none":           {nil, false},
		"wrong":          {[]string{"Bearer the secret of someone"}, false},
		"prefix":         {[]string{"Bearer the secret"}, false},
		"longer":         {[]string{"Bearer " + secret + "x"}, false},
		"empty":          {[]string{"Bearer "}, false},
		"without scheme": {[]string{secret}, false},
		"basic":          {[]string{"Basic " + secret}, false},
		"two":            {[]string{"Bearer wrong", "Bearer " + secret}, false},
	} {
		ctx := t.Context()
		for _, h := range c.header {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", h)
		}
		err := listApps(t, ctx, conn)
		if c.ok {
			require.NoError(t, err, name)
			continue
		}
		require.Equal(t, codes.Unauthenticated, status.Code(err), name)
		require.ErrorContains(t, err, "grpc-secret", name)
		require.NotContains(t, err.Error(), secret, name)
	}

	t.Log("everything else but the health check")
	_, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	watch, err := healthv1.NewHealthClient(conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	_, err = watch.Recv()
	require.Equal(t, codes.Unauthenticated, status.Code(err))
	info, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	_, err = info.Recv()
	require.Equal(t, codes.Unauthenticated, status.Code(err))
	for i := range 20 {
		err := conn.Invoke(t.Context(), "/made.up.Service"+strings.Repeat("x", i)+"/Call", &emptypb.Empty{}, &emptypb.Empty{})
		require.Equal(t, codes.Unauthenticated, status.Code(err))
	}
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				require.NotContains(t, l.GetValue(), "made.up", "callers cannot make metrics")
			}
		}
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+secret)
	require.Equal(t, codes.Unimplemented, status.Code(conn.Invoke(ctx, "/made.up.Service/Call", &emptypb.Empty{}, &emptypb.Empty{})))
}

// Without any access nobody comes in: a server that was not told whom to let in
// is not open.
func TestNoAccessLetsNobodyIn(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, grpcx.Access{})
	for _, header := range []string{"", "Bearer ", "Bearer x"} {
		ctx := t.Context()
		if header != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", header)
		}
		require.Equal(t, codes.Unauthenticated, status.Code(listApps(t, ctx, plain(t, addr))))
	}
}

// A process with the wrong secret must not tell its user that the user is not
// who he says.
func TestRefusedProcessSeesAnUnavailableOne(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, grpcx.SecretAccess(secrets.NewSet("the secret of the server")))
	for name, access := range map[string]grpcx.Access{
		"wrong": grpcx.SecretAccess(secrets.NewSet("the secret of another one")), "none": {},
	} {
		conn, err := grpcx.Dial(addr, access)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		err = listApps(t, t.Context(), conn)
		require.True(t, errs.Is(err, errs.ReasonUnavailable), "%s: %v", name, err)
		require.ErrorIs(t, err, grpcx.ErrAccess)
	}
	conn, err := grpcx.Dial(addr, grpcx.SecretAccess(secrets.NewSet("the secret of the server")))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, listApps(t, t.Context(), conn))
}

func tlsAccess(t *testing.T, files grpcx.TLSFiles) grpcx.Access {
	t.Helper()
	a, err := grpcx.TLSAccess(files)
	require.NoError(t, err)
	return a
}

func TestCertificatesAreAskedFor(t *testing.T) {
	t.Parallel()
	ours, theirs := testkit.NewAuthority(t), testkit.NewAuthority(t)
	addr, _ := serve(t, tlsAccess(t, ours.Issue("chappe")))
	dial := func(access grpcx.Access) error {
		conn, err := grpcx.Dial(addr, access)
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		return listApps(t, t.Context(), conn)
	}
	client := ours.Issue()
	require.NoError(t, dial(tlsAccess(t, client)))
	client.Name = "chappe"
	require.NoError(t, dial(tlsAccess(t, client)), "the name in the certificate")
	client.Name = "someone-else"
	require.Error(t, dial(tlsAccess(t, client)), "another name")

	stranger := theirs.Issue()
	require.Error(t, dial(tlsAccess(t, stranger)), "a server of another authority is not believed")
	stranger.CA = client.CA
	require.True(t, errs.Is(dial(tlsAccess(t, stranger)), errs.ReasonUnavailable), "nor is a client")
	require.Error(t, dial(grpcx.SecretAccess(secrets.NewSet("any secret, in plaintext"))))
	require.Error(t, listApps(t, t.Context(), plain(t, addr)))

	t.Log("a certificate that is exchanged while the process runs")
	exchanged := ours.Issue()
	access := tlsAccess(t, exchanged)
	require.NoError(t, dial(access))
	theirs.Replace(exchanged)
	require.Error(t, dial(access), "the next handshake shows the new one")
	ours.Replace(exchanged)
	require.NoError(t, dial(access))
}

func TestTLSFilesThatDoNotFit(t *testing.T) {
	t.Parallel()
	a := testkit.NewAuthority(t)
	good, other := a.Issue(), a.Issue()
	for name, edit := range map[string]func(*grpcx.TLSFiles){
		"no authority":   func(f *grpcx.TLSFiles) { f.CA = "/nonexistent" },
		"no PEM":         func(f *grpcx.TLSFiles) { f.CA = good.Key },
		"no certificate": func(f *grpcx.TLSFiles) { f.Cert = "/nonexistent" },
		"another's key":  func(f *grpcx.TLSFiles) { f.Key = other.Key },
		"a key for it":   func(f *grpcx.TLSFiles) { f.Cert = good.Key },
	} {
		files := good
		edit(&files)
		_, err := grpcx.TLSAccess(files)
		require.Error(t, err, name)
	}
}

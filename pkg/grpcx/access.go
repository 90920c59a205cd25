package grpcx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/secrets"
)

const (
	authorizationKey = "authorization"
	bearerPrefix     = "Bearer "
	// reasonAccess marks calls that were refused because the process that makes
	// them has not shown who it is. What an app or a user is refused has other
	// reasons.
	reasonAccess = "grpc_credentials"
	// refusalLogEvery bounds how often refused calls are logged.
	refusalLogEvery = 10 * time.Second
)

// ErrAccess says that another process did not accept this one's credentials.
var ErrAccess = errors.New("the credentials were refused")

// Access is how processes show each other that they belong together: a shared
// secret, or TLS with certificates on both sides. The zero value shows nothing
// and lets nobody in.
type Access struct {
	secrets secrets.Set
	server  *tls.Config
	client  *tls.Config
}

// SecretAccess returns access by a shared secret over plaintext connections.
func SecretAccess(set secrets.Set) Access { return Access{secrets: set} }

// TLSFiles names the files of access by TLS, all in PEM.
type TLSFiles struct {
	// Cert and Key are this process's certificate, with the intermediate ones,
	// and its private key. They serve as server and as client, and are read
	// again at each handshake, so that they can be exchanged at any time.
	Cert, Key string
	// CA is the authority that has signed the certificates of all processes. It
	// is read once.
	CA string
	// Name is what the certificates of other processes are made out to; empty
	// is the host that is called.
	Name string
}

// TLSAccess returns access by certificates: a process is let in with one of the
// authority's, and no secret is asked for.
func TLSAccess(files TLSFiles) (Access, error) {
	pem, err := os.ReadFile(filepath.Clean(files.CA))
	if err != nil {
		return Access{}, fmt.Errorf("certificate authority: %w", err)
	}
	authority := x509.NewCertPool()
	if !authority.AppendCertsFromPEM(pem) {
		return Access{}, fmt.Errorf("certificate authority: %s has no certificate in PEM", files.CA)
	}
	load := func() (*tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", files.Cert, err)
		}
		return &c, nil
	}
	if _, err := load(); err != nil {
		return Access{}, err
	}
	return Access{
		server: &tls.Config{
			MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return load() },
		},
		client: &tls.Config{
			MinVersion: tls.VersionTLS13, RootCAs: authority, ServerName: files.Name,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() },
		},
	}, nil
}

// DialOptions returns what a connection to another process needs: the transport,
// this process's credentials, and errors that are *errs.Error. A refusal of the
// credentials is Unavailable, so that it is not taken for an answer to the
// user whose call led to this one.
func (a Access) DialOptions() []grpc.DialOption {
	opts := []grpc.DialOption{grpc.WithChainUnaryInterceptor(clientUnary), grpc.WithChainStreamInterceptor(clientStream)}
	if a.client != nil {
		return append(opts, grpc.WithTransportCredentials(credentials.NewTLS(a.client)))
	}
	opts = append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if a.secrets.Empty() {
		return opts
	}
	return append(opts, grpc.WithPerRPCCredentials(bearer(bearerPrefix+a.secrets.First())))
}

// bearer is a secret as the metadata of each call.
type bearer string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{authorizationKey: string(b)}, nil
}

// RequireTransportSecurity allows plaintext: within a machine or a private
// network. What leaves it takes TLSAccess.
func (bearer) RequireTransportSecurity() bool { return false }

// String keeps the secret out of logs.
func (bearer) String() string { return "(bearer secret)" }

// gate lets calls of a listener in or refuses them.
type gate struct {
	access Access
	logger *slog.Logger
	// logged is when a refusal was logged last, in Unix nanoseconds.
	logged atomic.Int64
}

// check returns an error unless the call may come in. The health check is open:
// probes have no credentials, and it tells only whether the process serves.
func (g *gate) check(ctx context.Context, method string) error {
	if g.access.server != nil || method == healthv1.Health_Check_FullMethodName {
		return nil // the handshake has seen the certificate
	}
	given := metadata.ValueFromIncomingContext(ctx, authorizationKey)
	if len(given) == 1 {
		secret, ok := strings.CutPrefix(given[0], bearerPrefix)
		if ok && g.access.secrets.Accepts(secret) {
			return nil
		}
	}
	what := "the secret is wrong"
	if len(given) == 0 {
		what = "no secret was sent"
	}
	g.log(ctx, method, what)
	return errs.Unauthenticated(reasonAccess, "gRPC of this server needs its secret as \"authorization: Bearer …\": "+what+
		"; the server keeps it in the file grpc-secret of its data directory, or where --grpc-secret-file says")
}

// log tells the operator of refused calls, not of each one.
func (g *gate) log(ctx context.Context, method, what string) {
	now, last := time.Now().UnixNano(), g.logged.Load()
	if now-last < int64(refusalLogEvery) || !g.logged.CompareAndSwap(last, now) {
		return
	}
	from := ""
	if p, ok := peer.FromContext(ctx); ok {
		from = p.Addr.String()
	}
	g.logger.WarnContext(ctx, "a gRPC call was refused; further ones are counted and not logged for a while",
		"method", method, "from", from, "why", what)
}

func (g *gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if err := g.check(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return handle(ctx, req)
}

func (g *gate) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if err := g.check(ss.Context(), info.FullMethod); err != nil {
		return err
	}
	return handle(srv, ss)
}

// unknown answers calls of services that are not here, behind the gate too.
func unknown(_ any, ss grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(ss)
	return status.Errorf(codes.Unimplemented, "method %s not implemented", method)
}

// fromServer makes an *errs.Error of what another process answered.
func fromServer(err error) error {
	e := errs.From(err)
	if e.Reason == reasonAccess {
		return errs.Unavailable("another process", fmt.Errorf("%w: %s", ErrAccess, e.Message))
	}
	return e
}

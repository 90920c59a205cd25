package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/pflag"

	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/secrets"
	"github.com/chappe-im/chappe/services/run"
)

// access is what a command shows the server to be let in. The flags and their
// environment are those of the server, so that one environment serves both.
type access struct {
	data   string
	secret string
	tls    grpcx.TLSFiles
}

func (a *access) flags(fs *pflag.FlagSet) {
	add := func(p *string, name, value, usage string) {
		env := run.EnvName(name)
		if v := os.Getenv(env); v != "" {
			value = v
		}
		fs.StringVar(p, name, value, usage+" ("+env+")")
	}
	add(&a.data, "data", "./data", "data directory of the server, where it keeps its secret")
	add(&a.secret, "grpc-secret-file", "", "file with the server's secret, if it is not in the data directory")
	add(&a.tls.Cert, "grpc-tls-cert", "", "certificate to show the server (PEM); takes the place of the secret")
	add(&a.tls.Key, "grpc-tls-key", "", "private key of that certificate (PEM)")
	add(&a.tls.CA, "grpc-tls-ca", "", "authority that has signed the server's certificate (PEM)")
	add(&a.tls.Name, "grpc-tls-name", "", "name that the server's certificate is made out to; empty is the host of --server")
}

// load reads the secret or the certificates.
func (a *access) load() (grpcx.Access, error) {
	if t := a.tls; t.Cert != "" || t.Key != "" || t.CA != "" {
		if t.Cert == "" || t.Key == "" || t.CA == "" {
			return grpcx.Access{}, errors.New("--grpc-tls-cert, --grpc-tls-key and --grpc-tls-ca: all three or none")
		}
		return grpcx.TLSAccess(t)
	}
	path := run.GRPCSecretPath(a.data, a.secret)
	set, err := secrets.Read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return grpcx.Access{}, fmt.Errorf("there is no secret of the server at %s: name the server's data directory with --data, or the file with --grpc-secret-file", path)
	case errors.Is(err, fs.ErrPermission):
		return grpcx.Access{}, fmt.Errorf("the secret of the server at %s is for its own user: run the command as that user", path)
	case err != nil:
		return grpcx.Access{}, fmt.Errorf("the secret of the server: %w", err)
	}
	return grpcx.SecretAccess(set), nil
}

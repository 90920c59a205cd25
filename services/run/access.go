package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/obs"
	"github.com/chappe-im/chappe/pkg/private"
	"github.com/chappe-im/chappe/pkg/seal"
	"github.com/chappe-im/chappe/pkg/secrets"
)

// Files that the server makes below its data directory, with mode 0600.
const (
	grpcSecretFile = "grpc-secret"
	natsTokenFile  = "nats-token"
	sealKeyFile    = "seal-key"
	demoFile       = "demo-app.json"
)

// GRPCSecretPath returns where the secret of gRPC is: the file that was named,
// or the one that the server makes in its data directory.
func GRPCSecretPath(data, named string) string {
	if named != "" {
		return named
	}
	return filepath.Join(data, grpcSecretFile)
}

// storesLocally reports whether the process keeps anything in its data directory.
func (c *Config) storesLocally() bool {
	return len(c.Etcd) == 0 || c.NATS == "" || c.ownSecret() ||
		c.Database == "" && (c.Runs(TargetAccount) || c.Runs(TargetPresence) || c.Runs(TargetMessaging))
}

// ownSecret reports whether the secret of gRPC is the one in the data directory.
func (c *Config) ownSecret() bool { return c.GRPCSecretFile == "" && !c.grpcTLS() }

// grpcTLS reports whether gRPC takes certificates instead of a secret.
func (c *Config) grpcTLS() bool {
	return c.GRPCTLSCert != "" || c.GRPCTLSKey != "" || c.GRPCTLSCA != ""
}

// validateAccess reports what would let in those who should not come in.
func (c *Config) validateAccess(bad func(format string, args ...any)) {
	switch {
	case !c.grpcTLS() && c.GRPCTLSName != "":
		bad("grpc-tls-name: goes only with grpc-tls-cert, grpc-tls-key and grpc-tls-ca")
	case c.grpcTLS() && (c.GRPCTLSCert == "" || c.GRPCTLSKey == "" || c.GRPCTLSCA == ""):
		bad("grpc-tls-cert, grpc-tls-key, grpc-tls-ca: all three or none")
	case c.grpcTLS() && c.GRPCSecretFile != "":
		bad("grpc-secret-file: with grpc-tls-… certificates take the place of the secret; leave one of the two out")
	}
	if !c.grpcTLS() && c.GRPCSecretFile == "" {
		if beyondLoopback(c.GRPC) {
			bad("grpc: %s can be reached from other machines, and gRPC administers the server: name the file of its secret with --grpc-secret-file "+
				"(%s is made if it is missing) or certificates with --grpc-tls-cert, --grpc-tls-key and --grpc-tls-ca, or listen on 127.0.0.1",
				c.GRPC, filepath.Join(c.Data, grpcSecretFile))
		}
		if len(c.Targets) > 0 && !c.Runs(TargetAll) {
			bad("grpc-secret-file: a process that runs only some targets needs the secret that all processes share, or certificates (--grpc-tls-…)")
		}
	}
	if c.Ops != "" && c.OpsSecretFile == "" && beyondLoopback(c.Ops) {
		bad("ops: %s can be reached from other machines: name the file of a secret for metrics and profiles with --ops-secret-file "+
			"(%s is made if it is missing), or listen on 127.0.0.1", c.Ops, filepath.Join(c.Data, "ops-secret"))
	}
	if len(c.Etcd) > 0 && c.SealKeyFile == "" {
		bad("seal-key-file: with an etcd outside, name the file of the key that seals the apps' signing keys in it; all processes need the same one")
	}
	if c.Demo && len(c.Etcd) > 0 {
		bad("demo: the demo app is for a server with its embedded etcd")
	}
}

// beyondLoopback reports whether an address can be reached from other machines.
func beyondLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false // reported as no address
	}
	ip := net.ParseIP(host)
	return host != "localhost" && (ip == nil || !ip.IsLoopback())
}

// makePrivate makes the data directory and what is in it unreadable for others.
func (s *Server) makePrivate() error {
	if !s.cfg.storesLocally() {
		return nil
	}
	if err := s.privateDir(s.cfg.Data); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	for _, name := range []string{"etcd", "nats", "sql"} {
		dir := filepath.Join(s.cfg.Data, name)
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := s.privateDir(dir); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	if err := private.File(filepath.Join(s.cfg.Data, demoFile)); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// privateDir is private.Dir that only warns of a directory of somebody else's.
func (s *Server) privateDir(dir string) error {
	err := private.Dir(dir)
	var foreign *private.ForeignError
	if errors.As(err, &foreign) {
		s.logger.Warn("a directory of the server can be read by others", "dir", dir, obs.KeyError, err)
		return nil
	}
	return err
}

// secret reads the secrets of a file. Below the data directory the file is made
// if it is missing.
func (s *Server) secret(path string) (secrets.Set, error) {
	if s.below(path) {
		return secrets.ReadOrCreate(path)
	}
	return secrets.Read(path)
}

// below reports whether a path lies below the data directory.
func (s *Server) below(path string) bool {
	data, err1 := filepath.Abs(s.cfg.Data)
	file, err2 := filepath.Abs(path)
	if err1 != nil || err2 != nil || s.cfg.Data == "" {
		return false
	}
	rel, err := filepath.Rel(data, file)
	return err == nil && filepath.IsLocal(rel)
}

// grpcAccess returns how this process and the others show each other that they
// belong together.
func (s *Server) grpcAccess() (grpcx.Access, error) {
	if s.cfg.grpcTLS() {
		a, err := grpcx.TLSAccess(grpcx.TLSFiles{
			Cert: s.cfg.GRPCTLSCert, Key: s.cfg.GRPCTLSKey, CA: s.cfg.GRPCTLSCA, Name: s.cfg.GRPCTLSName,
		})
		if err != nil {
			return grpcx.Access{}, fmt.Errorf("grpc: %w", err)
		}
		return a, nil
	}
	set, err := s.secret(GRPCSecretPath(s.cfg.Data, s.cfg.GRPCSecretFile))
	if err != nil {
		return grpcx.Access{}, fmt.Errorf("grpc secret: %w", err)
	}
	return grpcx.SecretAccess(set), nil
}

// natsToken returns the token of the embedded NATS, or "" if it serves nobody
// else.
func (s *Server) natsToken() (string, error) {
	if s.cfg.NATSListen == "" {
		return "", nil
	}
	set, err := secrets.ReadOrCreate(filepath.Join(s.cfg.Data, natsTokenFile))
	if err != nil {
		return "", fmt.Errorf("nats token: %w", err)
	}
	return set.First(), nil
}

// sealKeys reads the keys that seal the apps' signing keys in etcd, and makes
// one for an etcd in which nothing is sealed yet.
func (s *Server) sealKeys(ctx context.Context) (*seal.Keys, error) {
	path := s.cfg.SealKeyFile
	if path == "" {
		path = filepath.Join(s.cfg.Data, sealKeyFile)
	}
	if s.below(path) {
		if err := s.makeSealKey(ctx, path); err != nil {
			return nil, err
		}
	}
	keys, err := seal.Read(path)
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	if err := catalog.CheckSeal(ctx, s.etcd, keys); err != nil {
		return nil, fmt.Errorf("seal key %s: %w", path, err)
	}
	return keys, nil
}

// makeSealKey makes the file of the key unless it exists or etcd holds what an
// earlier one has sealed.
func (s *Server) makeSealKey(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = private.File(path)
		}
		if err != nil {
			return fmt.Errorf("seal key: %w", err)
		}
		return nil
	}
	sealed, err := catalog.Sealed(ctx, s.etcd)
	if err != nil {
		return fmt.Errorf("seal key: %w", err)
	}
	if sealed {
		return fmt.Errorf("seal key: %s is missing, and the apps' signing keys in etcd were sealed with it: "+
			"put it back from the backup of this server, or name where it is with --seal-key-file (nothing was changed)", path)
	}
	if err := seal.Create(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("seal key: %w", err)
	}
	return nil
}

// shellQuote quotes a word for a POSIX shell, if it has to be.
func shellQuote(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+=,", r)
	}) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

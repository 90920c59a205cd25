package testkit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/grpcx"
)

// Authority makes certificates for tests of TLS.
type Authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// ca is the file of its own certificate.
	ca string
}

// NewAuthority makes an authority.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t}
	file := filepath.Join(t.TempDir(), "ca")
	a.cert, a.key = a.make(file, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.ca = file + ".pem"
	return a
}

// Issue makes a certificate for 127.0.0.1 and for DNS names.
func (a *Authority) Issue(hosts ...string) grpcx.TLSFiles {
	a.t.Helper()
	file := filepath.Join(a.t.TempDir(), "issued")
	files := grpcx.TLSFiles{Cert: file + ".pem", Key: file + ".key", CA: a.ca}
	a.Replace(files, hosts...)
	return files
}

// Replace writes a new certificate and its key over those of files.
func (a *Authority) Replace(files grpcx.TLSFiles, hosts ...string) {
	a.t.Helper()
	a.make(files.Cert[:len(files.Cert)-len(".pem")], &x509.Certificate{
		DNSNames: hosts, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// make signs a certificate, the authority's own by itself.
func (a *Authority) make(file string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: filepath.Base(file)}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	require.NoError(a.t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(a.t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(a.t, err)
	for name, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: raw}} {
		require.NoError(a.t, os.WriteFile(file+name, pem.EncodeToMemory(block), 0o600))
	}
	return cert, key
}

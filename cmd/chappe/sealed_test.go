package main

import (
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/embed"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/seal"
)

// inEtcd opens the etcd of a server that does not run.
func inEtcd(t *testing.T, data string, do func(etcd *etcdx.Client)) {
	t.Helper()
	e, err := embed.StartEtcd(t.Context(), embed.EtcdConfig{Dir: data})
	require.NoError(t, err)
	defer e.Stop()
	do(etcdx.Wrap(e.Client(), ""))
}

// storedApp reads an app's record as it stands in etcd.
func storedApp(t *testing.T, data, org, app string) (value []byte) {
	t.Helper()
	inEtcd(t, data, func(etcd *etcdx.Client) {
		kv, err := etcd.Get(t.Context(), catalog.AppKey(org, app))
		require.NoError(t, err)
		require.NotNil(t, kv)
		value = kv.Value
	})
	return value
}

// filesWith lists the files below a directory that hold a text.
func filesWith(t *testing.T, dir string, texts ...string) (found []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, text := range texts {
			if strings.Contains(string(raw), text) {
				found = append(found, path)
			}
		}
		return err
	}))
	return found
}

func TestSigningKeysAreSealedInEtcd(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, data)
	app := s.newApp(t, "acme/shop")
	token, code := s.token(t, "acme/shop", app)
	require.Equal(t, http.StatusOK, code)
	s.chappe("app", "set-tier", "acme/shop", "free")
	s.stop()

	keys, err := seal.Read(filepath.Join(data, "seal-key"))
	require.NoError(t, err)
	value := storedApp(t, data, "acme", "shop")
	r, err := catalog.DecodeRecord(value, keys)
	require.NoError(t, err)
	signing := r.Keys[0].Secret
	require.Empty(t, filesWith(t, data, string(signing), base64.StdEncoding.EncodeToString(signing)), "the signing key")
	require.Empty(t, filesWith(t, data, app.Secret), "the client secret")
	require.NotEmpty(t, filesWith(t, filepath.Join(data, "etcd"), app.ID), "the search finds what is there")

	right, err := os.ReadFile(filepath.Join(data, "seal-key"))
	require.NoError(t, err)
	path := filepath.Join(data, "seal-key")
	args := []string{"--grpc", "127.0.0.1:0", "--ops", "", "--data", data}

	t.Log("the key is gone")
	require.NoError(t, os.Remove(path))
	out := fails(t, args...)
	require.Contains(t, out, "seal-key is missing")
	require.Contains(t, out, "nothing was changed")
	require.NoFileExists(t, path, "no new one is made")

	t.Log("a wrong key")
	require.NoError(t, seal.Create(path))
	wrong, err := os.ReadFile(path)
	require.NoError(t, err)
	out = fails(t, args...)
	require.Contains(t, out, "put back the seal key file")
	require.NotContains(t, out, strings.TrimSpace(string(wrong)))

	t.Log("no key at all")
	require.NoError(t, os.WriteFile(path, []byte("short\n"), 0o600))
	require.Contains(t, fails(t, args...), "is not 32 bytes in base64")
	require.Equal(t, value, storedApp(t, data, "acme", "shop"), "nothing was overwritten")

	t.Log("rotation: a new key first, the old one after it")
	require.NoError(t, os.WriteFile(path, append(wrong, right...), 0o600))
	s = serve(t, data)
	require.Equal(t, http.StatusOK, get(t, "http://"+s.http+"/acme/shop/users", token), "tokens stay valid")
	s.stop()
	require.NoError(t, os.WriteFile(path, wrong, 0o600))
	s = serve(t, data)
	require.Equal(t, http.StatusOK, get(t, "http://"+s.http+"/acme/shop/users", token))
	s.stop()
	require.NotEqual(t, value, storedApp(t, data, "acme", "shop"))
}

// Keys that an older release has stored are sealed by the next start, and
// their tokens stay valid.
func TestOlderKeysAreSealed(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, data)
	app := s.newApp(t, "acme/shop")
	token, code := s.token(t, "acme/shop", app)
	require.Equal(t, http.StatusOK, code)
	s.stop()

	keys, err := seal.Read(filepath.Join(data, "seal-key"))
	require.NoError(t, err)
	inEtcd(t, data, func(etcd *etcdx.Client) {
		kv, err := etcd.Get(t.Context(), catalog.AppKey("acme", "shop"))
		require.NoError(t, err)
		r, err := catalog.DecodeRecord(kv.Value, keys)
		require.NoError(t, err)
		plain, err := json.Marshal(r)
		require.NoError(t, err)
		require.Contains(t, string(plain), base64.StdEncoding.EncodeToString(r.Keys[0].Secret))
		ok, _, err := etcd.Commit(t.Context(), nil, []etcdx.Write{{Key: kv.Key, Value: plain}, {Key: "/seal", Delete: true}})
		require.NoError(t, err)
		require.True(t, ok)
	})
	require.NoError(t, os.Remove(filepath.Join(data, "seal-key")))

	s = serve(t, data)
	require.Equal(t, http.StatusOK, get(t, "http://"+s.http+"/acme/shop/users", token))
	s.stop()
	require.NotContains(t, string(storedApp(t, data, "acme", "shop")), `"secret":`)
}

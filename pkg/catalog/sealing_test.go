package catalog_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/seal"
	"github.com/chappe-im/chappe/pkg/testkit"
)

// signing is the signing key of the apps here.
var signing = []byte("a signing key of thirty-two byte")

func sealKeys(t *testing.T, of ...byte) *seal.Keys {
	t.Helper()
	raw := make([][]byte, len(of))
	for i, b := range of {
		raw[i] = bytes.Repeat([]byte{b}, 32)
	}
	keys, err := seal.NewKeys(raw...)
	require.NoError(t, err)
	return keys
}

// stored reads everything that etcd holds.
func stored(t *testing.T, etcd *etcdx.Client) map[string]string {
	t.Helper()
	kvs, _, err := etcd.List(t.Context(), "/")
	require.NoError(t, err)
	all := map[string]string{}
	for _, kv := range kvs {
		all[kv.Key] = string(kv.Value)
	}
	return all
}

func put(t *testing.T, etcd *etcdx.Client, key string, value []byte) {
	t.Helper()
	_, _, err := etcd.Commit(t.Context(), nil, []etcdx.Write{{Key: key, Value: value}})
	require.NoError(t, err)
}

// readable reports whether a value holds the signing key in any form.
func readable(value string) bool {
	return strings.Contains(value, string(signing)) || strings.Contains(value, base64.StdEncoding.EncodeToString(signing))
}

func unsealed(t *testing.T, app string, number int64) []byte {
	t.Helper()
	r := record(app, "basic", number)
	r.Keys = []catalog.RecordKey{{ID: 2, Secret: signing}, {ID: 1, Secret: signing}}
	value, err := json.Marshal(r)
	require.NoError(t, err)
	return value
}

func TestSealAll(t *testing.T) {
	t.Parallel()
	etcd := testkit.Etcd(t)
	require.NoError(t, catalog.Seed(t.Context(), etcd))
	const torn = `{"org":"acme"`
	put(t, etcd, catalog.AppKey("acme", "shop"), unsealed(t, "shop", 1))
	put(t, etcd, catalog.AppKey("acme", "blog"), unsealed(t, "blog", 2))
	put(t, etcd, catalog.AppKey("acme", "torn"), []byte(torn))
	sealed, err := catalog.Sealed(t.Context(), etcd)
	require.NoError(t, err)
	require.False(t, sealed)

	one := sealKeys(t, 1)
	require.NoError(t, catalog.CheckSeal(t.Context(), etcd, one), "keys from before there was a seal can be read")
	n, err := catalog.SealAll(t.Context(), etcd, one)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	all := stored(t, etcd)
	for key, value := range all {
		require.False(t, readable(value), key)
	}
	require.Equal(t, torn, all[catalog.AppKey("acme", "torn")], "what cannot be read is not touched") //nolint:testifylint // it is no JSON
	sealed, err = catalog.Sealed(t.Context(), etcd)
	require.NoError(t, err)
	require.True(t, sealed)

	n, err = catalog.SealAll(t.Context(), etcd, one)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Equal(t, all, stored(t, etcd), "nothing is written twice")

	c, err := catalog.Watch(t.Context(), etcd, one, testkit.Logger(t), prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(c.Stop)
	app, ok := c.App("acme", "shop")
	require.True(t, ok)
	require.Equal(t, signing, app.SigningKey().Secret)
	require.Equal(t, uint32(2), app.SigningKey().ID)

	t.Log("a wrong key")
	two := sealKeys(t, 2)
	err = catalog.CheckSeal(t.Context(), etcd, two)
	require.ErrorIs(t, err, seal.ErrUnknownKey)
	require.ErrorContains(t, err, "put back the seal key file")
	_, err = catalog.SealAll(t.Context(), etcd, two)
	require.ErrorIs(t, err, seal.ErrUnknownKey)
	require.Equal(t, all, stored(t, etcd), "a wrong key overwrites nothing")

	t.Log("a wrong key where the word is gone")
	_, _, err = etcd.Commit(t.Context(), nil, []etcdx.Write{{Key: "/seal", Delete: true}})
	require.NoError(t, err)
	require.ErrorIs(t, catalog.CheckSeal(t.Context(), etcd, two), seal.ErrUnknownKey)
	sealed, err = catalog.Sealed(t.Context(), etcd)
	require.NoError(t, err)
	require.True(t, sealed)

	t.Log("rotation")
	both := sealKeys(t, 2, 1)
	n, err = catalog.SealAll(t.Context(), etcd, both)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.NoError(t, catalog.CheckSeal(t.Context(), etcd, two), "the old key can go")
	require.ErrorIs(t, catalog.CheckSeal(t.Context(), etcd, one), seal.ErrUnknownKey)
	r, err := catalog.DecodeRecord([]byte(stored(t, etcd)[catalog.AppKey("acme", "blog")]), two)
	require.NoError(t, err)
	require.Equal(t, signing, r.Keys[1].Secret)
}

// A sealed key that somebody copies to another app, or to another place of the
// same app, does not open there.
func TestSealedKeysStayInTheirPlace(t *testing.T) {
	t.Parallel()
	keys := sealKeys(t, 1)
	rec := record("shop", "basic", 1)
	rec.Keys = []catalog.RecordKey{{ID: 2, Secret: signing}, {ID: 1, Secret: signing}}
	value, err := rec.Encode(keys)
	require.NoError(t, err)
	require.False(t, readable(string(value)))
	var whole map[string]any
	for name, edit := range map[string]func(){
		"another app": func() { whole["app"] = "blog" },
		"another org": func() { whole["org"] = "evil" },
		"another ID": func() {
			ks := whole["keys"].([]any)
			ks[0].(map[string]any)["sealed"], ks[1].(map[string]any)["sealed"] = ks[1].(map[string]any)["sealed"], ks[0].(map[string]any)["sealed"]
		},
	} {
		require.NoError(t, json.Unmarshal(value, &whole))
		edit()
		moved, err := json.Marshal(whole)
		require.NoError(t, err)
		_, err = catalog.DecodeRecord(moved, keys)
		require.ErrorIs(t, err, seal.ErrDamaged, name)
	}
	_, err = catalog.DecodeRecord(value, keys)
	require.NoError(t, err)
}

// Two processes that start on an empty etcd with keys of their own must not
// both believe that theirs is the right one.
func TestOneSealKeyWins(t *testing.T) {
	t.Parallel()
	etcd := testkit.Etcd(t)
	one, two := sealKeys(t, 1), sealKeys(t, 2)
	errs := make(chan error, 2)
	for _, keys := range []*seal.Keys{one, two} {
		go func() {
			_, err := catalog.SealAll(t.Context(), etcd, keys)
			errs <- err
		}()
	}
	first, second := <-errs, <-errs
	if first != nil {
		first, second = second, first
	}
	require.NoError(t, first)
	require.ErrorIs(t, second, seal.ErrUnknownKey)
}

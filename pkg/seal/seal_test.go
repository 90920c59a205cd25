package seal_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/seal"
)

func raw(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func keys(t *testing.T, raw ...[]byte) *seal.Keys {
	t.Helper()
	k, err := seal.NewKeys(raw...)
	require.NoError(t, err)
	return k
}

func TestSealing(t *testing.T) {
	t.Parallel()
	k := keys(t, raw(1))
	value := []byte("a signing key, thirty-two bytes.")
	sealed := k.Seal("here", value)
	require.NotContains(t, string(sealed), "signing")
	require.NotEqual(t, sealed, k.Seal("here", value), "no nonce comes twice")
	got, err := k.Open("here", sealed)
	require.NoError(t, err)
	require.Equal(t, value, got)
	empty, err := k.Open("here", k.Seal("here", nil))
	require.NoError(t, err)
	require.Empty(t, empty)

	_, err = k.Open("there", sealed)
	require.ErrorIs(t, err, seal.ErrDamaged, "it is bound to its place")
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		_, err := k.Open("here", bad)
		require.Error(t, err, "byte %d", i)
	}
	for n := range sealed {
		_, err := k.Open("here", sealed[:n])
		require.Error(t, err, "%d bytes", n)
	}
	_, err = keys(t, raw(2)).Open("here", sealed)
	require.ErrorIs(t, err, seal.ErrUnknownKey)
}

func TestRotation(t *testing.T) {
	t.Parallel()
	older, both, newer := keys(t, raw(1)), keys(t, raw(2), raw(1)), keys(t, raw(2))
	sealed := older.Seal("here", []byte("value"))
	got, err := both.Open("here", sealed)
	require.NoError(t, err)
	require.Equal(t, "value", string(got))
	require.False(t, both.Current(sealed))
	again := both.Seal("here", got)
	require.True(t, both.Current(again))
	_, err = newer.Open("here", again)
	require.NoError(t, err)
	require.False(t, both.Current(nil))
	require.Equal(t, newer.ID(), both.ID())
	require.NotEqual(t, older.ID(), newer.ID())
}

func TestRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	require.NoError(t, seal.Create(path))
	require.ErrorIs(t, seal.Create(path), fs.ErrExist)
	k, err := seal.Read(path)
	require.NoError(t, err)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", k, k, k), strings.TrimSpace(string(text)))

	one, two := base64.StdEncoding.EncodeToString(raw(1)), base64.StdEncoding.EncodeToString(raw(2))
	for name, c := range map[string]struct{ text, err string }{
		"two":        {text: two + "\n" + one + "\n"},
		"short":      {text: base64.StdEncoding.EncodeToString(raw(1)[:31]), err: "key 1 is not 32 bytes"},
		"no base64":  {text: one + "\nnot base64 at all, but long enough to be\n", err: "key 2 is not 32 bytes"},
		"empty file": {text: "", err: "no secret"},
	} {
		require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
		_, err := seal.Read(path)
		if c.err == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorContains(t, err, c.err, name)
		require.NotContains(t, err.Error(), one, name)
	}
}

package secrets_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/secrets"
)

func TestRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		mode fs.FileMode
		want string
		err  string
	}{
		"one":            {text: "0123456789abcdef\n", mode: 0o600, want: "0123456789abcdef"},
		"no line end":    {text: "0123456789abcdef", mode: 0o400, want: "0123456789abcdef"},
		"comment, space": {text: "# made by hand\r\n\n  0123456789abcdef \r\nfedcba9876543210\n", mode: 0o600, want: "0123456789abcdef"},
		"mounted":        {text: "0123456789abcdef\n", mode: 0o440, want: "0123456789abcdef"},
		"short":          {text: "0123456789abcde\n", mode: 0o600, err: "fewer than 16 characters"},
		"second short":   {text: "0123456789abcdef\nx\n", mode: 0o600, err: "secret 2"},
		"empty":          {text: "\n# nothing\n", mode: 0o600, err: "no secret"},
		"for all":        {text: "0123456789abcdef\n", mode: 0o644, err: "every user of this machine"},
		"huge":           {text: string(make([]byte, 100_000)), mode: 0o600, err: "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "secret")
			require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
			require.NoError(t, os.Chmod(path, c.mode))
			set, err := secrets.Read(path)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				require.NotContains(t, err.Error(), "0123456789")
				require.True(t, set.Empty())
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, set.First())
			require.True(t, set.Accepts(c.want))
		})
	}
	_, err := secrets.Read(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = secrets.Read(t.TempDir())
	require.ErrorContains(t, err, "directory")
}

func TestSet(t *testing.T) {
	t.Parallel()
	set := secrets.NewSet("the new secret", "the old secret")
	require.Equal(t, "the new secret", set.First())
	require.True(t, set.Accepts("the new secret"))
	require.True(t, set.Accepts("the old secret"))
	for _, wrong := range []string{"", "the", "the new secret ", "the new secrets", "The new secret"} {
		require.False(t, set.Accepts(wrong), wrong)
	}
	var none secrets.Set
	require.False(t, none.Accepts(""), "no secret accepts nothing, not even nothing")
	for _, verb := range []string{"%s", "%v", "%+v", "%#v"} {
		require.NotContains(t, fmt.Sprintf(verb, set), "new secret", verb)
	}
}

func TestReadOrCreate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	first, err := secrets.ReadOrCreate(path)
	require.NoError(t, err)
	require.Len(t, first.First(), 64)
	require.NoError(t, os.Chmod(path, 0o666))
	again, err := secrets.ReadOrCreate(path)
	require.NoError(t, err)
	require.Equal(t, first.First(), again.First(), "it is kept")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	other, err := secrets.ReadOrCreate(filepath.Join(t.TempDir(), "secret"))
	require.NoError(t, err)
	require.NotEqual(t, first.First(), other.First())
	_, err = secrets.ReadOrCreate(filepath.Join(t.TempDir(), "no", "such", "directory"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

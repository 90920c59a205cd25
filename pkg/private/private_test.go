package private_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/private"
)

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Mode().Perm()
}

func TestDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b")
	require.NoError(t, private.Dir(deep))
	require.Equal(t, fs.FileMode(0o700), mode(t, deep))
	require.Equal(t, fs.FileMode(0o700), mode(t, filepath.Dir(deep)))

	open := filepath.Join(dir, "open")
	require.NoError(t, os.Mkdir(open, 0o755))
	require.NoError(t, os.Chmod(open, 0o777))
	require.NoError(t, private.Dir(open))
	require.Equal(t, fs.FileMode(0o700), mode(t, open), "one that is there is tightened")

	shared := filepath.Join(dir, "shared")
	require.NoError(t, os.Mkdir(shared, 0o755))
	require.NoError(t, os.Chmod(shared, 0o777|fs.ModeSticky))
	require.ErrorContains(t, private.Dir(shared), "shared by all users")
	require.Equal(t, fs.FileMode(0o777), mode(t, shared), "a directory like /tmp is left alone")
}

func TestFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	require.NoError(t, private.File(path), "a missing file is none of its business")
	require.NoError(t, private.Touch(path))
	require.Equal(t, fs.FileMode(0o600), mode(t, path))
	require.NoError(t, os.Chmod(path, 0o666))
	require.NoError(t, private.File(path))
	require.Equal(t, fs.FileMode(0o600), mode(t, path))
	require.NoError(t, os.Chmod(path, 0o644))
	require.NoError(t, private.Touch(path))
	require.Equal(t, fs.FileMode(0o600), mode(t, path))

	// A link to a file of somebody else's is not followed.
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(path, link))
	require.Error(t, private.File(link))
}

func TestCreateHappensOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	var made atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			err := private.Create(path, []byte{byte('a' + i)})
			if err == nil {
				made.Add(1)
				return
			}
			if !os.IsExist(err) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, made.Load())
	require.Equal(t, fs.FileMode(0o600), mode(t, path))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "nothing half-written stays behind")
}

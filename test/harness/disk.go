package harness

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Disk is a file system of a test's own, small enough to be filled.
type Disk struct {
	Dir     string
	ballast string
}

// NewDisk mounts a file system of that many MiB in memory. It skips the test
// where that is not permitted.
func NewDisk(t testing.TB, mib int) *Disk {
	t.Helper()
	dir := t.TempDir()
	if err := mountTmpfs(dir, "mode=0700,size="+strconv.Itoa(mib)+"m"); err != nil {
		t.Skipf("a full disk cannot be tried: mounting a file system is not permitted here: %v", err)
	}
	t.Cleanup(func() {
		require.NoError(t, unmount(dir))
	})
	return &Disk{Dir: dir, ballast: filepath.Join(dir, "ballast")}
}

// SmallDisk returns the flags of a server whose disk is that small.
func SmallDisk() Flags {
	f := Flags{}
	if HasFlag("disk-reserve") {
		f["disk-reserve"] = strconv.Itoa(16 << 20)
	}
	if HasFlag("log-size") {
		f["log-size"] = strconv.Itoa(256 << 20)
	}
	return f
}

// Fill writes until nothing fits any more.
func (d *Disk) Fill(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile(d.ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	for size := 1 << 20; size >= 1; {
		_, err := f.Write(make([]byte, size))
		switch {
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case err != nil:
			require.NoError(t, err)
		}
	}
}

// Free gives the space back.
func (d *Disk) Free(t testing.TB) {
	t.Helper()
	require.NoError(t, os.Remove(d.ballast))
}

// CopyTree copies a directory of regular files.
func CopyTree(t testing.TB, from, to string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // of a running server; it came and went
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		return copyFile(path, target)
	}))
}

func copyFile(from, to string) error {
	in, err := os.Open(from) //nolint:gosec // a test's own file
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) //nolint:gosec // a test's own file
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}

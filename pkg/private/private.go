// Package private makes the files and directories that only the server's own
// user may read, and tightens those that others could.
package private

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600
)

// Dir makes a directory with mode 0700, with all directories above it, or
// tightens the one that is there. A directory that all users share, such as
// /tmp, is an error. One that belongs to another user, as the root of a mounted
// volume often does, cannot be tightened: Dir returns a *ForeignError then, and
// what the server makes below it is still private.
func Dir(path string) error {
	if err := os.MkdirAll(path, dirMode); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	switch {
	case !permissions || info.Mode().Perm()&^dirMode == 0:
		return nil
	case info.Mode()&fs.ModeSticky != 0 && info.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("%s is shared by all users of this machine: name a directory of the server's own", path)
	}
	return tighten(path, dirMode)
}

// File sets the mode of an existing file to 0600; a missing file is no error.
func File(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if !permissions || info.Mode().Perm()&^fileMode == 0 {
		return nil
	}
	return tighten(path, fileMode)
}

// Touch makes an empty file with mode 0600, or tightens the one that is there.
func Touch(path string) error {
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return File(path)
}

// Create writes a new file with mode 0600, which survives a loss of power once
// Create has returned. Readers see all of it or no file. A file that exists is left
// alone, and the error is fs.ErrExist.
func Create(path string, data []byte) error {
	path = filepath.Clean(path)
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	// Unlike a rename, a link does not replace a file that another process has
	// made in the meantime.
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the entries of a directory durable.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil // it has no such call
	}
	d, err := os.Open(path) //nolint:gosec // the directory of the file that was written
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ForeignError says that a file or directory which others can read belongs to
// another user, so that the server cannot change that.
type ForeignError struct{ Path string }

// Error names the path and what to do.
func (e *ForeignError) Error() string {
	return e.Path + " belongs to another user and cannot be made private: make sure that nobody else can read it"
}

// permissions reports whether the system has the modes that this package sets.
const permissions = runtime.GOOS != "windows"

func tighten(path string, mode fs.FileMode) error {
	err := os.Chmod(path, mode)
	if errors.Is(err, fs.ErrPermission) {
		return &ForeignError{Path: path}
	}
	return err
}

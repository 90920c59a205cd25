//go:build unix && !solaris && !illumos && !aix

package embed

import (
	"errors"
	"os"
	"syscall"
)

// tryLock claims an open file, which the kernel undoes when it is closed.
func tryLock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

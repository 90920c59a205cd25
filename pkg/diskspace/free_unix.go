//go:build linux || darwin || freebsd

package diskspace

import (
	"fmt"
	"syscall"
)

// Free returns the bytes that a process without privileges may still write on
// the file system of a directory.
func Free(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return uint64(max(0, int64(s.Bavail))) * uint64(s.Bsize), nil // signed on some systems
}

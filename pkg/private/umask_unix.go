//go:build unix

package private

import "syscall"

// Umask lets nobody else read the files that the process makes from now on,
// those of the libraries in it too.
func Umask() { syscall.Umask(0o077) }

//go:build !unix

package private

// Umask does nothing: the system has no such thing.
func Umask() {}

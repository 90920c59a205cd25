// Package diskspace tells how much room a file system has.
package diskspace

import "errors"

// ErrUnknown says that this system cannot be asked.
var ErrUnknown = errors.New("free disk space is not known on this system")

package natsx

import (
	"errors"

	"github.com/nats-io/nats.go"

	"github.com/chappe-im/chappe/pkg/errs"
)

var errNotConnected = errors.New("no NATS server is connected")

// unavailable makes an error of what NATS could not do.
func unavailable(what string, cause error) *errs.Error {
	// The client would keep what is sent while it has no connection, in a buffer
	// that we give no room; it says so by this error.
	if errors.Is(cause, nats.ErrReconnectBufExceeded) {
		cause = errNotConnected
	}
	return errs.Unavailable(what, cause)
}

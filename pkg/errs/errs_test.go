package errs_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/chappe-im/chappe/pkg/errs"
)

// An error that crosses a connection must be at the other end what it was,
// but for its cause.
func TestErrorsCross(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]*errs.Error{
		"plain":    errs.Invalid("from can't be empty"),
		"metadata": errs.QuotaExceeded("registered_users").With("more", "x"),
		"retry":    errs.RateLimited(1500 * time.Millisecond),
		"number":   errs.MessageRefused("message is too large").WithCode(errs.CodeMessageTooLong),
		"token":    errs.Unauthenticated(errs.ReasonUnauthorized, "no"),
		"cause":    errs.Unavailable("nats", errors.New("secret detail")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire := status.ErrorProto(e.GRPCStatus().Proto())
			require.NotContains(t, wire.Error(), "secret detail")
			got := errs.From(wire)
			require.Equal(t, e.Code, got.Code)
			require.Equal(t, e.Reason, got.Reason)
			require.Equal(t, e.Message, got.Message)
			require.Equal(t, e.RetryAfter, got.RetryAfter)
			require.Equal(t, e.ErrorCode(), got.ErrorCode())
			require.Len(t, got.Metadata, len(e.Metadata))
			require.True(t, errs.Is(fmt.Errorf("wrapped: %w", got), e.Reason))
		})
	}
}

func TestErrorCodes(t *testing.T) {
	t.Parallel()
	require.Equal(t, 40001, errs.Unauthenticated(errs.ReasonBadToken, "no").ErrorCode(), "clients ask for a new token")
	require.Zero(t, errs.RegistrationClosed().ErrorCode(), "no token would help")
	require.Zero(t, errs.Invalid("x").ErrorCode())
	require.Zero(t, errs.Invalid("x").With("error_code", "x").ErrorCode())
}

func TestFromAnything(t *testing.T) {
	t.Parallel()
	require.Nil(t, errs.From(nil))
	for name, c := range map[string]struct {
		err  error
		code codes.Code
		text string
	}{
		"fault":          {errors.New("disk on fire"), codes.Internal, "internal error"},
		"deadline":       {fmt.Errorf("x: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "the operation took too long"},
		"cancelled":      {context.Canceled, codes.Canceled, "the operation was cancelled"},
		"foreign status": {status.Error(codes.Unavailable, "dial tcp 10.0.0.1: refused"), codes.Unavailable, "service is unavailable"},
		"unimplemented":  {status.Error(codes.Unimplemented, "unknown method"), codes.Unimplemented, "unknown method"},
		"foreign fault":  {status.Error(codes.DataLoss, "rows gone"), codes.Internal, "internal error"},
	} {
		e := errs.From(c.err)
		require.Equal(t, c.code, e.Code, name)
		require.Equal(t, c.text, e.Message, name)
	}
}

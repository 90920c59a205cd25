package lifecycle_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/lifecycle"
)

func TestSleepEndsWithItsContext(t *testing.T) {
	t.Parallel()
	require.NoError(t, lifecycle.Sleep(t.Context(), time.Nanosecond))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- lifecycle.Sleep(ctx, time.Hour) }()
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.ErrorIs(t, lifecycle.Sleep(ctx, 0), context.Canceled, "not even no time passes")
}

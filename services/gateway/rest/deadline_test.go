package rest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDeadline(t *testing.T) {
	t.Parallel()
	type key struct{}
	for name, f := range map[string]func(t *testing.T, parent context.Context, stop context.CancelFunc){
		"nobody waits": func(t *testing.T, parent context.Context, _ context.CancelFunc) {
			ctx, cancel := withDeadline(parent, time.Second)
			require.NoError(t, ctx.Err())
			at, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, time.Second, time.Until(at))
			cancel()
			require.ErrorIs(t, ctx.Err(), context.Canceled)
			<-ctx.Done()
			require.Equal(t, 1, ctx.Value(key{}))
			cancel()
		},
		"the time is up, and nobody waited": func(t *testing.T, parent context.Context, _ context.CancelFunc) {
			ctx, cancel := withDeadline(parent, time.Second)
			defer cancel()
			<-time.After(time.Second) // of the bubble
			require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
			<-ctx.Done()
			require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
		},
		"the time is up": func(t *testing.T, parent context.Context, _ context.CancelFunc) {
			ctx, cancel := withDeadline(parent, time.Second)
			defer cancel()
			<-ctx.Done()
			require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
		},
		"the parent's time is up sooner": func(t *testing.T, parent context.Context, _ context.CancelFunc) {
			began := time.Now()
			parent, done := context.WithTimeout(parent, time.Second)
			defer done()
			ctx, cancel := withDeadline(parent, time.Minute)
			defer cancel()
			<-ctx.Done()
			require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
			require.Equal(t, time.Second, time.Since(began))
		},
		"the parent ends": func(t *testing.T, parent context.Context, stop context.CancelFunc) {
			ctx, cancel := withDeadline(parent, time.Minute)
			defer cancel()
			stop()
			require.ErrorIs(t, ctx.Err(), context.Canceled)
			<-ctx.Done()
		},
		"the parent ends while somebody waits": func(t *testing.T, parent context.Context, stop context.CancelFunc) {
			ctx, cancel := withDeadline(parent, time.Minute)
			defer cancel()
			go stop()
			<-ctx.Done()
			require.ErrorIs(t, ctx.Err(), context.Canceled)
		},
		"a child ends with it": func(t *testing.T, parent context.Context, _ context.CancelFunc) {
			ctx, cancel := withDeadline(parent, time.Minute)
			child, done := context.WithCancel(ctx)
			defer done()
			cancel()
			<-child.Done()
			require.ErrorIs(t, child.Err(), context.Canceled)
			require.Equal(t, 1, child.Value(key{}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				parent, stop := context.WithCancel(context.WithValue(context.Background(), key{}, 1))
				defer stop()
				f(t, parent, stop)
			})
		})
	}
}

package natsx_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/testkit"
)

func openBucket(t *testing.T, c *natsx.Conn) *natsx.Bucket {
	t.Helper()
	b, err := c.OpenBucket(t.Context(), natsx.BucketSpec{Name: "TEST", MarkerTTL: time.Second})
	require.NoError(t, err)
	return b
}

func TestBucketChangesOnlyAtTheKnownRevision(t *testing.T) {
	t.Parallel()
	b := openBucket(t, testkit.NATS(t))
	ctx := t.Context()

	e, err := b.Get(ctx, "a.b")
	require.NoError(t, err)
	require.Equal(t, natsx.BucketEntry{Key: "a.b", Deleted: true}, e)

	r1, err := b.Put(ctx, "a.b", []byte("1"), 0)
	require.NoError(t, err)
	_, err = b.Put(ctx, "a.b", []byte("x"), 0)
	require.ErrorIs(t, err, natsx.ErrConflict)
	r2, err := b.Put(ctx, "a.b", []byte("2"), r1)
	require.NoError(t, err)
	require.Greater(t, r2, r1)
	_, err = b.Delete(ctx, "a.b", r1)
	require.ErrorIs(t, err, natsx.ErrConflict)

	r3, err := b.Delete(ctx, "a.b", r2)
	require.NoError(t, err)
	e, err = b.Get(ctx, "a.b")
	require.NoError(t, err)
	require.Equal(t, natsx.BucketEntry{Key: "a.b", Revision: r3, Deleted: true}, e)

	// The trace of the deletion goes too, and then the key is as new.
	require.Eventually(t, func() bool {
		e, err := b.Get(ctx, "a.b")
		return err == nil && e.Revision == 0
	}, 20*time.Second, 50*time.Millisecond)
	_, err = b.Put(ctx, "a.b", []byte("3"), 0)
	require.NoError(t, err)
}

func TestBucketWatchSeesStateThenChangesInOrder(t *testing.T) {
	t.Parallel()
	b := openBucket(t, testkit.NATS(t))
	r1, err := b.Put(t.Context(), "k1", []byte("1"), 0)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	entries, loaded, ended := make(chan natsx.BucketEntry, 16), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- b.Watch(ctx, func(e natsx.BucketEntry) { entries <- e }, func() { close(loaded) })
	}()
	<-loaded
	require.Equal(t, natsx.BucketEntry{Key: "k1", Value: []byte("1"), Revision: r1}, <-entries)
	r2, err := b.Put(t.Context(), "k2", []byte("2"), 0)
	require.NoError(t, err)
	r3, err := b.Delete(t.Context(), "k1", r1)
	require.NoError(t, err)
	require.Equal(t, natsx.BucketEntry{Key: "k2", Value: []byte("2"), Revision: r2}, <-entries)
	e := <-entries
	require.Empty(t, e.Value)
	e.Value = nil
	require.Equal(t, natsx.BucketEntry{Key: "k1", Revision: r3, Deleted: true}, e)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

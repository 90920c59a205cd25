package natsx_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/testkit"
)

// A reader lives as long as its partition: what it kept for each message would
// pile up without end.
func TestReaderKeepsNothingForEachMessage(t *testing.T) { // counts the process's goroutines
	conn := testkit.NATS(t)
	require.NoError(t, conn.EnsureStream(t.Context(), natsx.StreamSpec{Name: "LOG", Subjects: []string{"log"}}))
	r, err := conn.ReadStream(t.Context(), "LOG", 1, 8)
	require.NoError(t, err)
	defer r.Stop()
	read := func(n int) {
		for range n {
			require.NoError(t, conn.PublishStored(t.Context(), "log", []byte("x"), ""))
			got, err := r.Next(t.Context(), nil, 1)
			require.NoError(t, err)
			require.Len(t, got, 1)
			select {
			case <-r.Closed():
				require.Fail(t, "the reader has ended")
			default:
			}
		}
	}
	read(10)
	before := runtime.NumGoroutine()
	const messages = 500
	read(messages)
	require.Less(t, runtime.NumGoroutine()-before, messages/10)
}

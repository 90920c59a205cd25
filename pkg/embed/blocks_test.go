package embed_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/embed"
	"github.com/chappe-im/chappe/pkg/natsx"
)

// TestDamagedBlocks flips bits of a stopped server's messages, those of a
// record's length and number among them: it starts and takes messages, and
// what stands before the damage is still there.
func TestDamagedBlocks(t *testing.T) {
	t.Parallel()
	whole := t.TempDir()
	logger := slog.New(slog.DiscardHandler)
	n, err := embed.StartNATS(embed.NATSConfig{Dir: whole, Logger: logger})
	require.NoError(t, err)
	conn, err := natsx.Connect(t.Context(), natsx.Config{InProcess: n, Logger: logger})
	require.NoError(t, err)
	stream := natsx.StreamSpec{Name: "LOG", Subjects: []string{"log.>"}, DuplicateWindow: time.Minute}
	require.NoError(t, conn.EnsureStream(t.Context(), stream))
	for i := range 100 {
		require.NoError(t, conn.PublishStored(t.Context(), "log.a", []byte("a message of the log"), fmt.Sprint("id", i)))
	}
	require.NoError(t, conn.Drain(t.Context()))
	n.Stop()

	block := filepath.Join("nats", "jetstream", "$G", "streams", "LOG", "msgs", "1.blk")
	data, err := os.ReadFile(filepath.Join(whole, block))
	require.NoError(t, err)
	record := len(data) / 2
	record = bytes.Index(data[record:], []byte("log.a")) + record - 22 // the header stands before the subject
	for _, c := range []struct{ offset, bit int }{
		{0, 0}, {1, 2}, {2, 6}, {3, 7}, {4, 0}, {5, 3}, {7, 1}, {8, 5}, {9, 0}, {10, 4}, {11, 6}, {11, 7}, {14, 1}, {20, 3}, {21, 7}, {25, 1}, {60, 5},
	} {
		t.Run(fmt.Sprintf("byte %d bit %d", c.offset, c.bit), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS(whole)))
			broken := bytes.Clone(data)
			broken[record+c.offset] ^= 1 << c.bit
			require.NoError(t, os.WriteFile(filepath.Join(dir, block), broken, 0o600))
			n, err := embed.StartNATS(embed.NATSConfig{Dir: dir, Logger: logger})
			require.NoError(t, err)
			defer n.Stop()
			conn, err := natsx.Connect(t.Context(), natsx.Config{InProcess: n, Logger: logger})
			require.NoError(t, err)
			defer func() { _ = conn.Drain(t.Context()) }()
			require.NoError(t, conn.EnsureStream(t.Context(), stream))
			require.NoError(t, conn.PublishStored(t.Context(), "log.a", []byte("one more"), "more"))
			state, err := conn.StreamState(t.Context(), "LOG")
			require.NoError(t, err)
			require.Greater(t, state.Last, uint64(40))
			require.Less(t, state.Last, uint64(110))
			_, ok, err := conn.StreamRecord(t.Context(), "LOG", 30)
			require.NoError(t, err)
			require.True(t, ok, "what stands before the damage")
		})
	}
}

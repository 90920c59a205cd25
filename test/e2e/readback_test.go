package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/test/harness"
)

// TestReadersFindWhatWasAcknowledged asks for offline messages right after each
// send, on one node and where another messaging service writes the archive.
func TestReadersFindWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) *harness.Server{
		"one node": func(t *testing.T) *harness.Server { return harness.Start(t) },
		"two messaging services": func(t *testing.T) *harness.Server {
			split := harness.StartSplit(t)
			split.Messaging(t)
			return split.Gateway(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			app := s.NewApp(t, "enterprise", harness.NoLimits)
			app.Register(t, "amelia")
			for i := range 40 {
				from := fmt.Sprint("sender-", i%8) // conversations of several partitions
				r := app.Call(t, http.MethodPost, "/messages/users", map[string]any{
					"from": from, "to": []string{"amelia"}, "type": "txt", "body": map[string]string{"msg": "x"},
				}, app.Token)
				require.Equal(t, http.StatusOK, r.Status, "%s", r.Raw)
				id := r.Body["data"].(map[string]any)["amelia"].(string)
				count := app.Call(t, http.MethodGet, "/users/amelia/offline_msg_count", nil, app.Token)
				require.InDelta(t, float64(i+1), count.Body["data"].(map[string]any)["amelia"], 0)
				status := app.Call(t, http.MethodGet, "/users/amelia/offline_msg_status/"+id, nil, app.Token)
				require.Equal(t, "undelivered", status.Body["data"].(map[string]any)[id], "%s", status.Raw)
			}
		})
	}
}

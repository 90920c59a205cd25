package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
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
				count := func() any {
					r := app.Call(t, http.MethodGet, "/users/amelia/offline_msg_count", nil, app.Token)
					return r.Body["data"].(map[string]any)["amelia"]
				}
				if i < 8 {
					// The partitions are still moving to where they belong.
					require.Eventually(t, func() bool { return count() == float64(i+1) }, 20*time.Second, time.Millisecond)
					continue
				}
				require.InDelta(t, float64(i+1), count(), 0)
				status := app.Call(t, http.MethodGet, "/users/amelia/offline_msg_status/"+id, nil, app.Token)
				require.Equal(t, "undelivered", status.Body["data"].(map[string]any)[id], "%s", status.Raw)
			}
		})
	}
}

// TestSendsGoByWhatWasChangedBefore sends right after each change of what a
// send depends on: within one process nobody waits for an event.
func TestSendsGoByWhatWasChangedBefore(t *testing.T) {
	t.Parallel()
	server := harness.Start(t)
	app := server.NewApp(t, "enterprise", harness.NoLimits)
	_, err := server.Admin().SetAppSettings(t.Context(), &limiterv1.SetAppSettingsRequest{
		Org: app.Org, App: app.Name, RestSendChecks: proto.Bool(true), Actor: "test",
	})
	require.NoError(t, err)
	call := func(method, path string, in any) harness.Response {
		return app.Call(t, method, path, in, app.Token)
	}
	offline := 0.0
	for i := range 20 {
		amelia, bruno := fmt.Sprint("amelia-", i), fmt.Sprint("bruno-", i)
		send := func(status int, arrives bool, what string) {
			t.Helper()
			r := call(http.MethodPost, "/messages/users", map[string]any{
				"from": bruno, "to": []string{amelia}, "type": "txt", "body": map[string]string{"msg": what},
			})
			require.Equal(t, status, r.Status, "%s: %s", what, r.Raw)
			if arrives {
				offline++
			}
			if what == "nobody" {
				return
			}
			r = call(http.MethodGet, "/users/"+amelia+"/offline_msg_count", nil)
			require.InDelta(t, offline, r.Body["data"].(map[string]any)[amelia], 0, what)
		}
		offline = 0
		app.Register(t, bruno)
		send(http.StatusOK, false, "nobody")
		app.Register(t, amelia)
		send(http.StatusOK, true, "just registered")
		// Block lists are for devices.
		device := app.Dial(t, bruno, msyncclient.Options{})
		require.Equal(t, http.StatusOK, call(http.MethodPost, "/users/"+amelia+"/blocks/users", map[string]any{"usernames": []string{bruno}}).Status)
		_, err := device.SendText(t.Context(), amelia, "blocked")
		require.Error(t, err, "blocked")
		send(http.StatusOK, true, "blocked")
		require.Equal(t, http.StatusOK, call(http.MethodDelete, "/users/"+amelia+"/blocks/users/"+bruno, nil).Status)
		_, err = device.SendText(t.Context(), amelia, "not blocked any more")
		require.NoError(t, err, "not blocked any more")
		offline++
		send(http.StatusOK, true, "not blocked any more")
		device.Close()
		require.Equal(t, http.StatusOK, call(http.MethodPost, "/mutes", map[string]any{"username": bruno, "chat": 60}).Status)
		send(http.StatusForbidden, false, "muted")
		require.Equal(t, http.StatusOK, call(http.MethodPost, "/mutes", map[string]any{"username": bruno, "chat": 0}).Status)
		send(http.StatusOK, true, "not muted any more")
	}
}

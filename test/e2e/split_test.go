package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/test/harness"
)

// TestSeparateServices runs each service by itself and sends a message through
// all of them.
func TestSeparateServices(t *testing.T) {
	s := harness.StartSplit(t)
	app := s.NewApp(t, "enterprise", "")
	app.Register(t, "amelia")
	c := app.Dial(t, "bruno", msyncclient.Options{})
	require.Eventually(t, func() bool {
		r := app.Call(t, http.MethodGet, "/users/bruno/status", nil, app.Token)
		return r.Status == http.StatusOK && r.Body["data"].(map[string]any)["bruno"] == "online"
	}, 10*time.Second, 10*time.Millisecond)

	r := app.Call(t, http.MethodPost, "/messages/users", `{"from":"amelia","to":["bruno"],"type":"txt","body":{"msg":"over all towers"}}`, app.Token)
	require.Equal(t, http.StatusOK, r.Status, "%s", r.Raw)
	select {
	case got := <-c.Received():
		require.Equal(t, "over all towers", got.Text())
		require.Equal(t, "amelia", got.Meta.GetFrom().GetName())
	case <-time.After(10 * time.Second):
		require.FailNow(t, "the message did not arrive")
	}
	_, err := c.SendText(t.Context(), "amelia", "and back")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		r := app.Call(t, http.MethodGet, "/users/amelia/offline_msg_count", nil, app.Token)
		return r.Status == http.StatusOK && r.Body["data"].(map[string]any)["amelia"] == 1.0
	}, 10*time.Second, 20*time.Millisecond)

	// A contact event waits for who is away.
	r = app.Call(t, http.MethodPost, "/users/bruno/contacts/apply", `{"usernames":["amelia"],"reason":"hello"}`, app.Token)
	require.Equal(t, http.StatusOK, r.Status, "%s", r.Raw)
	var events []string
	require.Eventually(t, func() bool {
		events = append(events, rosterEvents(t, app, "amelia", "web_1")...)
		return len(events) > 0
	}, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, []string{"ADD bruno hello"}, events)

	// An error crosses the services as it is.
	r = app.Call(t, http.MethodGet, "/users/nobody", nil, app.Token)
	require.Equal(t, http.StatusNotFound, r.Status)
	require.Equal(t, "service_resource_not_found", r.Body["error"])
}

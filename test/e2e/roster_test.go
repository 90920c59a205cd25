package e2e

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
	"github.com/chappe-im/chappe/test/harness"
)

// rosterEvents connects a device, has it catch up and gives the contact events
// that it was shown, as "operation from reason", with repetitions.
func rosterEvents(t *testing.T, app *harness.App, user, device string) []string {
	t.Helper()
	c := app.Dial(t, user, msyncclient.Options{Resource: device, KeepDuplicates: true})
	defer c.Close()
	select {
	case <-c.Synced():
	case <-time.After(30 * time.Second):
		require.FailNow(t, "the device did not catch up")
	}
	var out []string
	for len(c.Received()) > 0 {
		r := <-c.Received()
		require.False(t, r.Direct)
		require.Equal(t, user, r.Meta.GetTo().GetName())
		if r.Meta.GetNs() != msyncv1.Meta_ROSTER {
			continue
		}
		var body msyncv1.RosterBody
		require.NoError(t, proto.Unmarshal(r.Meta.GetPayload(), &body))
		require.Equal(t, body.GetFrom().GetName(), r.Meta.GetFrom().GetName())
		out = append(out, body.GetOperation().String()+" "+body.GetFrom().GetName()+" "+body.GetReason())
	}
	return out
}

// TestContactEventsOutliveKills kills the server with SIGKILL right after it
// acknowledged contact requests, several times, before the one who is asked
// logs in.
func TestContactEventsOutliveKills(t *testing.T) {
	const perKill, rosterKills = 8, 3
	data := t.TempDir()
	p := harness.StartProcess(t, data)
	app := p.NewApp(t, "enterprise", harness.NoLimits)
	app.Register(t, "anna", "bruno")
	for _, device := range []string{"web_1", "web_2"} {
		require.Empty(t, rosterEvents(t, app, "bruno", device))
	}
	ask := func(reason string) {
		t.Helper()
		r := app.Call(t, http.MethodPost, "/users/anna/contacts/apply", map[string]any{"usernames": []string{"bruno"}, "reason": reason}, app.Token)
		require.Equal(t, http.StatusOK, r.Status, "%s", r.Raw)
	}
	offline := func() any {
		t.Helper()
		r := app.Call(t, http.MethodGet, "/users/bruno/offline_msg_count", nil, app.Token)
		require.Equal(t, http.StatusOK, r.Status, "%s", r.Raw)
		return r.Body["data"].(map[string]any)["bruno"]
	}
	var want []string
	for k := range rosterKills {
		for i := range perKill {
			reason := strconv.Itoa(k) + "-" + strconv.Itoa(i)
			ask(reason)
			want = append(want, "ADD anna "+reason)
		}
		p.Kill(t)
		p = harness.StartProcess(t, data)
		app = app.On(p.Server)
	}

	// The events of before the last kill may still be on their way.
	client := messagingv1.NewMessagingServiceClient(app.Server.Conn())
	list := &messagingv1.ListMessagesRequest{Org: app.Org, App: app.Name, Conversation: "anna~bruno"}
	var resp *messagingv1.ListMessagesResponse
	require.Eventually(t, func() bool {
		var err error
		resp, err = client.ListMessages(t.Context(), list)
		return err == nil && resp.GetLastSeq() >= int64(len(want))
	}, 30*time.Second, 10*time.Millisecond)
	require.EqualValues(t, len(want), resp.GetLastSeq(), "each is there once")
	require.Empty(t, resp.GetMessages(), "contact events are no messages")
	require.EqualValues(t, 0, offline())

	for _, device := range []string{"web_1", "web_2"} {
		require.Equal(t, want, rosterEvents(t, app, "bruno", device))
	}
	for _, device := range []string{"web_1", "web_2", "web_3"} {
		require.Empty(t, rosterEvents(t, app, "bruno", device), "%s was shown all, or begins after it", device)
	}
}

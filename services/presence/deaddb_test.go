package presence_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// When the database is dead, what needs it answers that it is unavailable, and
// soon; connections come, go and are shown all the same.
func TestDeadDatabaseIsUnavailableToEveryCall(t *testing.T) {
	t.Parallel()
	url, cut := testkit.CutPostgres(t)
	db, err := store.Open(t.Context(), store.Config{URL: url, Service: "presence"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	n := newBed(t, db).start(t)
	n.login(t, "c0", "bruno", "web_1")
	cut()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stored := map[string]bool{
		"SetPresence": true, "SubscribePresence": true, "GetPresence": true, "UnsubscribePresence": true, "ListPresenceSubscriptions": true,
	}
	for method, err := range testkit.EveryCall(ctx, t, n.channel, []string{
		"chappe.presence.v1.ConnectionService", "chappe.presence.v1.PresenceService", "chappe.quota.v1.QuotaService",
	}, map[string]proto.Message{
		"Connect":    &presencev1.ConnectRequest{Org: org, App: app, Connection: connection("c1", "amelia", "web_1")},
		"Disconnect": &presencev1.DisconnectRequest{Org: org, App: app, User: "carla", Resource: "web_1", ConnectionId: "c9"},
	}, map[string]any{
		"service": "presence", "org": org, "app": app, "username": "amelia", "usernames": []string{"bruno"}, "resource": "web_1", "status": "1", "expiry": "600",
	}) {
		if stored[method] {
			require.True(t, errs.Is(err, errs.ReasonUnavailable), "%s: %v", method, err)
		} else {
			require.NoError(t, err, method)
		}
	}
}

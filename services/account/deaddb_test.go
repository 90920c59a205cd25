package account_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

// Every call of the service answers that it is unavailable, and soon, when the
// database is dead; none calls that a fault of the service.
func TestDeadDatabaseIsUnavailableToEveryCall(t *testing.T) {
	t.Parallel()
	url, cut := testkit.CutPostgres(t)
	db, err := store.Open(t.Context(), store.Config{URL: url, Service: "account"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	b := newBench(t, db)
	b.register(t, "amelia", "bruno")
	requests := map[string]proto.Message{
		"RegisterUsers":    &accountv1.RegisterUsersRequest{Org: org, App: app, Users: []*accountv1.NewUser{{Username: ptr("carla"), Password: ptr("secret")}}},
		"SetPushNicknames": &accountv1.SetPushNicknamesRequest{Org: org, App: app, Nicknames: []*accountv1.PushNickname{{Username: "amelia", PushNickname: "Bee"}}},
		"SetGlobalMute":    &accountv1.SetGlobalMuteRequest{Org: org, App: app, Username: "amelia", Chat: ptr[int64](60)},
	}
	fields := map[string]any{
		"service": "account", "org": org, "app": app, "username": "amelia", "owner_username": "amelia", "friend_username": "bruno", "blocked_username": "bruno",
		"usernames": []string{"bruno"}, "targets": []string{"bruno"}, "properties": []string{"nickname"},
		"attributes": map[string]string{"nickname": "Bee"}, "nickname": "Bee", "remark": "a friend", "newpassword": "secret-2",
		"grant_type": "password", "password": "secret", "check_list": []string{"bruno"}, "device_id": "d1", "chat_type": "user", "target": "bruno",
		"type": "NONE", "translation_language": "en", "name": "greeting", "template_name": "default", "title_pattern": "{0}", "content_pattern": "{1}", "user": "bruno",
	}
	cut()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for method, err := range testkit.EveryCall(ctx, t, b.channel, []string{
		"chappe.account.v1.UserService", "chappe.account.v1.TokenService", "chappe.account.v1.AttributeService",
		"chappe.account.v1.RelationService", "chappe.account.v1.MuteService", "chappe.account.v1.PushService", "chappe.quota.v1.QuotaService",
	}, requests, fields) {
		require.True(t, errs.Is(err, errs.ReasonUnavailable), "%s: %v: if its request does not fit, give the test one that does", method, err)
	}
}

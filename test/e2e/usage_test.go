package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	"github.com/chappe-im/chappe/test/harness"
)

// TestUsage shows an app's use of its limits while it uses them.
func TestUsage(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	app := s.NewApp(t, "free", "")
	app.Register(t, "amelia", "bruno")
	app.Dial(t, "amelia", msyncclient.Options{})
	r := app.Call(t, http.MethodPut, "/metadata/user/amelia", `{"nickname":"Amelia"}`, app.Token)
	require.Equal(t, http.StatusOK, r.Status, "%s", r.Raw)
	for range 3 {
		require.Equal(t, http.StatusOK, app.Call(t, http.MethodPost, "/messages/users", map[string]any{
			"to": []string{"amelia", "bruno"}, "type": "txt", "body": map[string]string{"msg": "x"},
		}, app.Token).Status)
	}
	usage := func() *limiterv1.GetUsageResponse {
		u, err := limiterv1.NewLimiterServiceClient(s.Conn()).GetUsage(t.Context(), &limiterv1.GetUsageRequest{Org: app.Org, App: app.Name})
		require.NoError(t, err)
		return u
	}
	sends := func() *limiterv1.RuleUsage {
		for _, x := range usage().GetRules() {
			if x.GetRule() == "send_message_users" && x.GetScope() == "app" {
				return x
			}
		}
		return nil
	}
	require.NotNil(t, sends())
	require.Equal(t, int64(6), sends().GetUsed(), "messages are counted, not calls")
	require.Equal(t, int64(6000), sends().GetLimit())
	require.Equal(t, time.Minute.Milliseconds(), sends().GetWindowMs())
	quotas := map[string]*limiterv1.QuotaUsage{}
	for _, q := range usage().GetQuotas() {
		quotas[q.GetQuota()] = q
	}
	require.Equal(t, int64(2), quotas["registered_users"].GetUsed())
	require.Equal(t, int64(100), quotas["registered_users"].GetLimit())
	require.Equal(t, int64(1), quotas["concurrent_online_users"].GetUsed())
	require.Equal(t, int64(len("nicknameAmelia")), quotas["user_attributes_bytes_per_app"].GetUsed())
	require.Equal(t, int64(10<<30), quotas["user_attributes_bytes_per_app"].GetLimit())
	require.Equal(t, int64(len("nicknameAmelia")), quotas["user_attributes_bytes_per_user"].GetUsed())
	require.Equal(t, "amelia", quotas["user_attributes_bytes_per_user"].GetOwner())
	require.Equal(t, int64(2048), quotas["user_attributes_bytes_per_user"].GetLimit())
	require.Zero(t, quotas["contacts_per_user"].GetUsed())
	require.Empty(t, quotas["contacts_per_user"].GetOwner())

	app.Register(t, "carla")
	for _, pair := range []string{"/users/amelia/contacts/users/bruno", "/users/carla/contacts/users/bruno"} {
		require.Equal(t, http.StatusOK, app.Call(t, http.MethodPost, pair, nil, app.Token).Status)
	}
	for _, q := range usage().GetQuotas() {
		if q.GetQuota() == "contacts_per_user" {
			require.Equal(t, int64(2), q.GetUsed(), "the highest")
			require.Equal(t, int64(100), q.GetLimit())
			require.Equal(t, "bruno", q.GetOwner())
		}
	}
}

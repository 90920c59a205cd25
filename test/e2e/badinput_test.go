package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	"github.com/chappe-im/chappe/test/harness"
)

// TestBadInput makes calls that do not fit and wants the contract's status,
// error word and text for each, and that nothing was stored by any.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	app := s.NewApp(t, "enterprise", harness.NoLimits)
	foreign := s.NewApp(t, "enterprise", harness.NoLimits)
	app.Register(t, "amelia", "bruno")
	user := app.UserToken(t, "amelia")
	expired := app.Call(t, http.MethodPost, "/token", map[string]any{
		"grant_type": "client_credentials", "client_id": app.ClientID, "client_secret": app.ClientSecret, "ttl": 1,
	}, "").Body["access_token"].(string)

	text := func(msg string) string {
		return `{"from":"amelia","to":["bruno"],"type":"txt","body":{"msg":"` + msg + `"}}`
	}
	targets := func(n int) string {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("%q", fmt.Sprintf("t%d", i))
		}
		return `{"from":"amelia","to":[` + strings.Join(names, ",") + `],"type":"txt","body":{"msg":"x"}}`
	}
	const invalid = "this is an invalid request."
	const expiredText = "Unable to authenticate due to expired access token"
	require.Eventually(t, func() bool {
		return app.Call(t, http.MethodGet, "/users/amelia", nil, expired).Status == http.StatusUnauthorized
	}, 10*time.Second, 50*time.Millisecond, "the short token runs out")

	for name, c := range map[string]struct {
		method, path, body, token string
		status                    int
		word, text                string
	}{
		"malformed JSON":          {"POST", "/messages/users", `{"to":[`, app.Token, 400, "invalid_request_body", ""},
		"not JSON at all":         {"POST", "/messages/users", `to=bruno`, app.Token, 400, "invalid_request_body", ""},
		"targets of a string":     {"POST", "/messages/users", `{"to":"bruno","type":"txt","body":{"msg":"x"}}`, app.Token, 400, "invalid_request_body", ""},
		"type of a number":        {"POST", "/messages/users", `{"to":["bruno"],"type":{},"body":{"msg":"x"}}`, app.Token, 400, "invalid_request_body", ""},
		"body of a string":        {"POST", "/messages/users", `{"to":["bruno"],"type":"txt","body":"x"}`, app.Token, 400, "invalid_request_body", ""},
		"ext null":                {"POST", "/messages/users", `{"to":["bruno"],"type":"txt","body":{"msg":"x"},"ext":null}`, app.Token, 400, "message_send_error", "param ext must be JSONObject"},
		"empty from":              {"POST", "/messages/users", `{"from":"","to":["bruno"],"type":"txt","body":{"msg":"x"}}`, app.Token, 400, "message_send_error", "param from can't be empty"},
		"unknown type":            {"POST", "/messages/users", `{"from":"amelia","to":["bruno"],"type":"smell","body":{"msg":"x"}}`, app.Token, 400, "message_send_error", "param type is illegal"},
		"no targets":              {"POST", "/messages/users", `{"from":"amelia","to":[],"type":"txt","body":{"msg":"x"}}`, app.Token, 400, "message_send_error", "param to can't be empty"},
		"601 targets":             {"POST", "/messages/users", targets(601), app.Token, 400, "message_send_error", "params to's size can't exceed limit 600"},
		"text of 5,121 bytes":     {"POST", "/messages/users", text(strings.Repeat("x", 5121)), app.Token, 400, "message_send_error", "message is too large"},
		"text above 40 KB":        {"POST", "/messages/users", text(strings.Repeat("x", 41000)), app.Token, 400, "message_send_error", "message is too large"},
		"body above the limit":    {"POST", "/messages/users", text(strings.Repeat("x", 1<<20)), app.Token, 413, "Request Entity Too Large", "Request Entity Too Large"},
		"no token":                {"POST", "/messages/users", text("x"), "", 401, "unauthorized", expiredText},
		"expired token":           {"POST", "/messages/users", text("x"), expired, 401, "unauthorized", expiredText},
		"malformed token":         {"POST", "/messages/users", text("x"), "nonsense", 401, "auth_bad_access_token", "Unable to authenticate due to corrupt access token"},
		"token of another app":    {"POST", "/messages/users", text("x"), foreign.Token, 401, "auth_bad_access_token", "Unable to authenticate due to corrupt access token"},
		"a user's token":          {"POST", "/messages/users", text("x"), user, 401, "unauthorized", ""},
		"illegal username":        {"POST", "/users", `{"username":"a b","password":"x"}`, app.Token, 400, "illegal_argument", "username [a b] is not legal"},
		"username of 65 bytes":    {"POST", "/users", `{"username":"` + strings.Repeat("u", 65) + `","password":"x"}`, app.Token, 400, "illegal_argument", "USERNAME_TOO_LONG"},
		"no username":             {"POST", "/users", `{"password":"x"}`, app.Token, 400, "illegal_argument", "Entity user requires a property named username"},
		"registered before":       {"POST", "/users", `{"username":"AMELIA","password":"x"}`, app.Token, 400, "duplicate_unique_property_exists", ""},
		"registration not open":   {"POST", "/users", `{"username":"carla","password":"x"}`, "", 401, "unauthorized", "registration is not open, please contact the app admin"},
		"61 users at once":        {"POST", "/users", `[` + strings.TrimSuffix(strings.Repeat(`{"username":"x","password":"y"},`, 61), ",") + `]`, app.Token, 400, "illegal_argument", ""},
		"unknown user":            {"GET", "/users/nobody", "", app.Token, 404, "service_resource_not_found", "Service resource not found"},
		"limit of a word":         {"GET", "/users?limit=many", "", app.Token, 400, "illegal_argument", invalid},
		"unknown path":            {"GET", "/nowhere", "", app.Token, 404, "service_resource_not_found", "Service resource not found"},
		"wrong method":            {"DELETE", "/messages/users", "", app.Token, 405, "unsupported_service_operation", "Service operation not supported"},
		"wrong password":          {"POST", "/token", `{"grant_type":"password","username":"amelia","password":"x"}`, "", 400, "invalid_grant", "invalid password"},
		"wrong client secret":     {"POST", "/token", `{"grant_type":"client_credentials","client_id":"` + app.ClientID + `","client_secret":"x"}`, "", 400, "invalid_grant", "client_secret does not match"},
		"wrong client id":         {"POST", "/token", `{"grant_type":"client_credentials","client_id":"x","client_secret":"x"}`, "", 400, "invalid_grant", "client_id does not match"},
		"inherit without token":   {"POST", "/token", `{"grant_type":"inherit","username":"amelia"}`, "", 401, "unauthorized", expiredText},
		"offline count of nobody": {"GET", "/users/nobody/offline_msg_count", "", app.Token, 404, "service_resource_not_found", "Service resource not found"},
	} {
		t.Run(name, func(t *testing.T) {
			var body any
			if c.body != "" {
				body = c.body
			}
			r := app.Call(t, c.method, c.path, body, c.token)
			require.Equal(t, c.status, r.Status, "%s", r.Raw)
			require.Equal(t, c.word, r.Body["error"], "%s", r.Raw)
			if c.text != "" {
				require.Equal(t, c.text, r.Body["error_description"])
			}
			for _, field := range []string{"exception", "timestamp", "duration", "error_description"} {
				require.Contains(t, r.Body, field)
			}
		})
	}

	none := *app
	none.Name = "none"
	r := none.Call(t, http.MethodPost, "/messages/users", text("x"), app.Token)
	require.Equal(t, http.StatusNotFound, r.Status)
	require.Equal(t, "organization_application_not_found", r.Body["error"])
	require.Equal(t, "Could not find application for acme/none from URI: acme/none/messages/users", r.Body["error_description"])

	msgs := messagingv1.NewMessagingServiceClient(s.Conn())
	_, err := msgs.ListMessages(t.Context(), &messagingv1.ListMessagesRequest{Org: app.Org, App: app.Name, Conversation: "amelia~bruno"})
	require.Error(t, err, "none of this was stored")
	users := app.Call(t, http.MethodGet, "/users?limit=100", nil, app.Token)
	require.Len(t, users.Body["entities"], 2, "nobody was registered")

	// What just fits passes.
	require.Equal(t, http.StatusOK, app.Call(t, http.MethodPost, "/messages/users", text(strings.Repeat("x", 5120)), app.Token).Status)
	require.Equal(t, http.StatusOK, app.Call(t, http.MethodPost, "/messages/users", targets(600), app.Token).Status)
	require.Equal(t, http.StatusOK, app.Call(t, http.MethodPost, "/users", `{"username":"`+strings.Repeat("u", 64)+`","password":"x"}`, app.Token).Status)
}

// TestUnknownTargets get an ID and no message. Who blocks the sender gets the
// message: block lists are for devices.
func TestUnknownTargets(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	app := s.NewApp(t, "enterprise", harness.NoLimits)
	app.Register(t, "amelia", "bruno", "carla")
	r := app.Call(t, http.MethodPost, "/users/bruno/blocks/users", `{"usernames":["amelia"]}`, app.Token)
	require.Equal(t, http.StatusOK, r.Status, "%s", r.Raw)
	r = app.Call(t, http.MethodPost, "/messages/users",
		`{"from":"Amelia","to":["Bruno","carla","nobody"],"type":"txt","body":{"msg":"x"}}`, app.Token)
	require.Equal(t, http.StatusOK, r.Status, "%s", r.Raw)
	data := r.Body["data"].(map[string]any)
	for _, to := range []string{"bruno", "carla", "nobody"} {
		require.Regexp(t, `^\d{18,19}$`, data[to])
	}
	count := func(user string) float64 {
		r := app.Call(t, http.MethodGet, "/users/"+user+"/offline_msg_count", nil, app.Token)
		require.Equal(t, http.StatusOK, r.Status, "%s", r.Raw)
		return r.Body["data"].(map[string]any)[user].(float64)
	}
	require.Eventually(t, func() bool { return count("carla") == 1 }, 10*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return count("bruno") == 1 }, 10*time.Second, 10*time.Millisecond)
	// The name may be used from now on; what was sent before stays unsent.
	app.Register(t, "nobody")
	require.Zero(t, count("nobody"))
}

package contract

import (
	"testing"

	"github.com/stretchr/testify/require"

	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	"github.com/chappe-im/chappe/test/harness"
)

// TestOpenRegistration registers users of an app that lets everybody: one at a
// time, with a password.
func TestOpenRegistration(t *testing.T) {
	t.Parallel()
	server := harness.Start(t)
	made, err := server.Admin().CreateApp(t.Context(), &limiterv1.CreateAppRequest{Org: "acme", App: "open", Tier: "enterprise", Registration: "open"})
	require.NoError(t, err)
	f := &fixture{
		App: &harness.App{Server: server, Org: "acme", Name: "open", ClientID: made.GetApp().GetClientId(), ClientSecret: made.GetClientSecret()},
		t:   t, server: server, appUUID: made.GetApp().GetUuid(), uuid: map[string]string{},
	}
	f.eventually(func() bool { return f.as("", "GET", "/users", "").Status == 401 })
	f.Token = f.as("", "POST", "/token", `{"grant_type":"client_credentials","client_id":"`+f.ClientID+`","client_secret":"`+f.ClientSecret+`"}`).Body["access_token"].(string)

	want := func(user string) string {
		return `{"action":"post",` + app + `,"path":"/users","uri":"BASE/users","entities":[` + f.entity(user) + `],` + times + `}`
	}
	f.matches(f.as("", "POST", "/users", `{"username":"Amelia","password":"s3cret"}`), want("amelia"))
	f.matches(f.as("nonsense", "POST", "/users", `{"username":"bruno","password":"s3cret"}`), want("bruno"))
	f.matches(f.as(f.Token, "POST", "/users", `{"username":"carla"}`), want("carla"))
	for name, c := range map[string]struct {
		token, body string
		want        refusal
	}{
		"no password":      {"", `{"username":"x1"}`, noPassword},
		"empty password":   {"", `{"username":"x1","password":""}`, noPassword},
		"no username":      {"", `{"password":"x"}`, noUsername},
		"illegal":          {"", `{"username":"a b","password":"x"}`, notLegal("a b")},
		"there already":    {"", `{"username":"AMELIA","password":"x"}`, notUnique},
		"a batch":          {"", `[{"username":"x1","password":"x"}]`, noToken},
		"a batch, corrupt": {"nonsense", `[{"username":"x1","password":"x"}]`, corrupt},
		"a batch, a user":  {f.UserToken(t, "amelia"), `[{"username":"x1","password":"x"}]`, mayNot},
	} {
		f.try(probe{name: name, method: "POST", path: "/users", token: c.token, body: c.body, want: c.want})
	}
	require.Equal(t, 404, f.call("GET", "/users/x1", "").Status)
}

// TestUserQuota fills an app with users by every way of making one.
func TestUserQuota(t *testing.T) {
	t.Parallel()
	server := harness.Start(t)
	f := newFixtureWith(t, server, `{"rate_counting":{"per_ip":false},"quotas":{"registered_users":5}}`)
	full := refusal{429, "resource_limited", "You have exceeded the limit of the community edition,Please upgrade to the enterprise edition"}
	try := func(name, path, body string, want refusal) {
		t.Helper()
		f.try(probe{name: name, method: "POST", path: path, token: f.Token, body: body, want: want})
	}
	try("more than there is room for", "/users", `[{"username":"x1","password":"x"},{"username":"x2","password":"x"},{"username":"x3","password":"x"}]`, full)
	require.Len(t, f.call("GET", "/users", "").Body["entities"], 3, "none of them was made")
	try("the fourth", "/users", `{"username":"x1","password":"x"}`, taken)
	try("the fifth", "/token", `{"grant_type":"inherit","username":"x2","autoCreateUser":true}`, taken)
	try("one", "/users", `{"username":"x3","password":"x"}`, full)
	try("one by a token", "/token", `{"grant_type":"inherit","username":"x3","autoCreateUser":true}`, full)
	try("a batch", "/users", `[{"username":"x3","password":"x"}]`, full)
	try("who is there", "/token", `{"grant_type":"inherit","username":"x2","autoCreateUser":true}`, taken)
	require.Equal(t, 200, f.call("DELETE", "/users/x1", "").Status)
	try("in the place that is free", "/users", `{"username":"x3","password":"x"}`, taken)
	try("and no further", "/users", `{"username":"x4","password":"x"}`, full)
}

package contract

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	"github.com/chappe-im/chappe/test/harness"
)

// message is a text from one user to another.
func message(from, to, text string) string {
	return fmt.Sprintf(`{"from":%q,"to":[%q],"type":"txt","body":{"msg":%q}}`, from, to, text)
}

// TestBan shows that a ban ends connections and tokens at once, that nothing
// works until it is lifted, and that everything is there again then.
func TestBan(t *testing.T) {
	t.Parallel()
	f := newFixtureWith(t, harness.Start(t), unlimited(t))
	f.call("PUT", "/users/amelia/password", `{"newpassword":"s3cret"}`)
	f.call("POST", "/users/amelia/contacts/users/bruno", "")
	f.call("PUT", "/metadata/user/amelia", "sign=x")
	first, second := f.UserToken(t, "amelia"), f.UserToken(t, "amelia")
	phone, desk := f.Dial(t, "amelia", msyncclient.Options{Resource: "ios_1"}), f.Dial(t, "amelia", msyncclient.Options{Resource: "web_1"})
	other := f.Dial(t, "bruno", device())

	banned := time.Now()
	require.Equal(t, 200, f.call("POST", "/users/amelia/deactivate", "").Status)
	for _, c := range []*msyncclient.Client{phone, desk} {
		select {
		case <-c.Done():
		case <-time.After(10 * time.Second):
			require.FailNow(t, "a banned user is still connected")
		}
	}
	t.Logf("both connections ended within %s", time.Since(banned).Round(time.Millisecond))
	for _, token := range []string{first, second} {
		f.refused(f.as(token, "GET", "/metadata/user/amelia", ""), "a token", 401, "unauthorized", missing)
		_, err := msyncclient.Dial(t.Context(), f.Server.WS, f.Key(), "amelia", token, device())
		require.Error(t, err, "no login with a token from before")
	}
	for name, grant := range map[string]string{
		"password": `{"grant_type":"password","username":"amelia","password":"s3cret"}`,
		"inherit":  `{"grant_type":"inherit","username":"amelia","autoCreateUser":true}`,
	} {
		f.refused(f.call("POST", "/token", grant), name, 400, "invalid_grant", "user not activated")
	}
	f.eventually(func() bool { return f.status("amelia") == "offline" })
	require.Equal(t, "online", f.status("bruno"), "nobody else is")
	select {
	case <-other.Done():
		require.FailNow(t, "another user's connection ended")
	default:
	}

	require.Equal(t, 200, f.call("POST", "/users/amelia/activate", "").Status)
	f.refused(f.as(first, "GET", "/metadata/user/amelia", ""), "a token from before", 401, "unauthorized", missing)
	require.Equal(t, 200, f.call("POST", "/token", `{"grant_type":"password","username":"amelia","password":"s3cret"}`).Status)
	f.Dial(t, "amelia", device())
	require.Equal(t, []any{"bruno"}, f.names("/users/amelia/contacts/users"))
	f.answers("GET", "/metadata/user/amelia", "", data(`{"sign":"x"}`))
}

func (f *fixture) status(user string) string {
	f.t.Helper()
	d, _ := f.call("GET", "/users/"+user+"/status", "").Body["data"].(map[string]any)
	status, _ := d[user].(string)
	return status
}

// TestDeletion gives a user everything that a user can have, deletes the user
// and looks for what is left: in the answers about others, and under the same
// ID once it is taken again.
func TestDeletion(t *testing.T) {
	t.Parallel()
	f := newFixtureWith(t, harness.Start(t), unlimited(t))
	ok := func(method, path, body string) {
		t.Helper()
		got := f.call(method, path, body)
		require.Equal(t, 200, got.Status, "%s", got.Raw)
	}
	ok("PUT", "/users/amelia/password", `{"newpassword":"s3cret"}`)
	ok("PUT", "/users/amelia", `{"nickname":"A","notification_display_style":1,"notification_no_disturbing":true,"notification_no_disturbing_start":1,
		"notification_no_disturbing_end":2,"notification_ignore_17":true,"notifier_name":"n","device_token":"d"}`)
	ok("PUT", "/metadata/user/amelia", "sign=x")
	ok("POST", "/users/amelia/contacts/users/bruno", "")
	ok("POST", "/users/carla/contacts/users/amelia", "")
	ok("POST", "/users/amelia/blocks/users", `{"usernames":["carla"]}`)
	ok("POST", "/users/bruno/blocks/users", `{"usernames":["amelia","carla"]}`)
	ok("POST", "/mutes", `{"username":"amelia","chat":-1,"groupchat":-1,"chatroom":-1}`)
	ok("POST", "/users/amelia/presence/web_1/101", `{"ext":"busy"}`)
	ok("POST", "/users/amelia/presence/3600", `{"usernames":["bruno"]}`)
	ok("POST", "/users/bruno/presence/3600", `{"usernames":["amelia","carla"]}`)
	// A message that was read, two that were not, one that amelia has sent.
	ok("POST", "/mutes", `{"username":"amelia","chat":0}`)
	ok("DELETE", "/users/bruno/blocks/users/amelia", "")
	c := f.Dial(t, "amelia", msyncclient.Options{Resource: "web_1"})
	ok("POST", "/messages/users", message("bruno", "amelia", "read"))
	select {
	case <-c.Received():
	case <-time.After(10 * time.Second):
		require.FailNow(t, "nothing arrived")
	}
	_, err := c.SendText(t.Context(), "bruno", "from amelia")
	require.NoError(t, err)
	for range 2 { // what was received is confirmed, and the server has read that
		_, err = c.Unread(t.Context())
		require.NoError(t, err)
	}
	c.Close()
	f.eventually(func() bool { return f.status("amelia") == "offline" })
	ok("POST", "/messages/users", message("bruno", "amelia", "unread 1"))
	ok("POST", "/messages/users", message("admin", "amelia", "unread 2"))
	f.eventually(func() bool { return f.offline("amelia") == float64(2) && f.offline("bruno") == float64(1) })
	ok("POST", "/users/bruno/blocks/users", `{"usernames":["amelia"]}`)
	token := f.UserToken(t, "amelia")
	before := f.call("GET", "/metadata/user/capacity", "").Body["data"]
	require.InDelta(t, len("signx"), before, 0)

	ok("DELETE", "/users/amelia", "")
	f.refused(f.call("GET", "/users/amelia", ""), "the user", 404, noResource, notFound)
	f.refused(f.as(token, "GET", "/metadata/user/amelia", ""), "the token", 401, "unauthorized", missing)
	f.answers("GET", "/metadata/user/amelia", "", data(`{}`))
	f.answers("GET", "/metadata/user/capacity", "", data(`0`))
	require.Empty(t, f.names("/users/bruno/contacts/users"))
	require.Empty(t, f.names("/users/carla/contacts/users"))
	require.Equal(t, []any{"carla"}, f.names("/users/bruno/blocks/users"))
	require.Empty(t, f.call("GET", "/mutes", "").Body["data"].(map[string]any)["data"])
	f.eventually(func() bool {
		got := f.call("GET", "/users/bruno/presence/sublist?pageSize=10", "")
		return got.Body["result"].(map[string]any)["totalnum"] == "1"
	})
	require.InDelta(t, 1, f.offline("bruno"), 0, "what amelia had sent stays with who received it")

	ok("POST", "/users", `{"username":"amelia","password":"other"}`)
	require.NotEqual(t, f.uuid["amelia"], f.call("GET", "/users/amelia", "").Body["entities"].([]any)[0].(map[string]any)["uuid"])
	delete(f.uuid, "amelia")
	f.answers("GET", "/users/amelia", "", `{"action":"get","path":"/users","uri":"BASE/users/amelia","entities":[`+f.entity("amelia")+`],`+times+`,"count":1}`)
	f.refused(f.call("POST", "/token", `{"grant_type":"password","username":"amelia","password":"s3cret"}`), "the old password", 400, "invalid_grant", badGrant.text)
	f.refused(f.as(token, "GET", "/metadata/user/amelia", ""), "a token of the one before", 401, "unauthorized", missing)
	f.answers("GET", "/metadata/user/amelia", "", data(`{}`))
	require.Empty(t, f.names("/users/amelia/contacts/users"))
	require.Empty(t, f.names("/users/amelia/blocks/users"))
	f.answers("GET", "/mutes/amelia", "", `{`+muteHead+`,"action":"get","data":{"userid":"ORG#APP_amelia","chat":0,"groupchat":0,"chatroom":0,"unixtime":"<int>"}}`)
	f.answers("POST", "/users/bruno/presence", `{"usernames":["amelia"]}`, `{"result":[{"uid":"amelia","last_time":"0","ext":"","status":[]}]}`)
	f.answers("GET", "/users/amelia/presence/sublist", "", `{"result":{"totalnum":"0","sublist":[]}}`)
	f.eventually(func() bool { return f.offline("amelia") == float64(0) })

	// What comes now is for the new one, and nothing else.
	ok("DELETE", "/users/bruno/blocks/users/amelia", "")
	ok("POST", "/messages/users", message("bruno", "amelia", "welcome"))
	f.eventually(func() bool { return f.offline("amelia") == float64(1) })
	fresh := f.Dial(t, "amelia", msyncclient.Options{Resource: "web_1"})
	select {
	case got := <-fresh.Received():
		require.Equal(t, "welcome", got.Text())
	case <-time.After(10 * time.Second):
		require.FailNow(t, "the message to the new user did not arrive")
	}
	fresh.Close()
	f.eventually(func() bool { return f.status("amelia") == "offline" && f.offline("amelia") == float64(0) })
	require.Empty(t, fresh.Received(), "messages of the one before were delivered")
}

// TestSecretRotation shows what a new client secret does to the old one and to
// tokens, with and without the option to void these.
func TestSecretRotation(t *testing.T) {
	t.Parallel()
	f := newFixtureWith(t, harness.Start(t), unlimited(t))
	grant := func(secret string) string {
		return fmt.Sprintf(`{"grant_type":"client_credentials","client_id":%q,"client_secret":%q}`, f.ClientID, secret)
	}
	works := func(token string) bool { return f.as(token, "GET", "/users/bruno", "").Status == 200 }
	user := f.UserToken(t, "amelia")
	own := func(token string) bool { return f.as(token, "GET", "/metadata/user/amelia", "").Status == 200 }

	rotate := func(void bool) string {
		t.Helper()
		resp, err := f.server.Admin().RotateAppSecret(t.Context(), &limiterv1.RotateAppSecretRequest{Org: f.Org, App: f.Name, RevokeTokens: void, Actor: "test"})
		require.NoError(t, err)
		f.eventually(func() bool { return f.as("", "POST", "/token", grant(resp.GetClientSecret())).Status == 200 })
		return resp.GetClientSecret()
	}
	first := rotate(false)
	f.refused(f.as("", "POST", "/token", grant(f.ClientSecret)), "the old secret", 400, "invalid_grant", "client_secret does not match")
	require.True(t, works(f.Token), "the app's tokens stay valid")
	require.True(t, own(user), "and so do those of users")

	second := rotate(true)
	f.refused(f.as("", "POST", "/token", grant(first)), "the secret before", 400, "invalid_grant", "client_secret does not match")
	f.eventually(func() bool { return !works(f.Token) && !own(user) })
	got := f.as("", "POST", "/token", grant(second))
	require.True(t, works(got.Body["access_token"].(string)))
}

// TestTokensOutliveACrash has tokens of an app and its users from before
// kill -9 accepted after it, several of each side by side.
func TestTokensOutliveACrash(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := harness.StartProcess(t, data)
	app := p.NewApp(t, "enterprise", oneAddress)
	tokens := map[string]string{"app": app.Token}
	for _, name := range []string{"amelia", "AMELIA", "bruno"} {
		tokens[name] = app.UserToken(t, name)
	}
	tokens["for ever"] = app.Call(t, "POST", "/token", `{"grant_type":"inherit","username":"amelia","ttl":0}`, app.Token).Body["access_token"].(string)
	voided := app.UserToken(t, "carla")
	require.Equal(t, 200, app.Call(t, "POST", "/users/carla/deactivate", nil, app.Token).Status)
	p.Kill(t)
	app = app.On(harness.StartProcess(t, data).Server)
	for name, token := range tokens {
		require.Equal(t, 200, app.Call(t, "GET", "/metadata/user/amelia", nil, token).Status, name)
	}
	require.Equal(t, 401, app.Call(t, "GET", "/metadata/user/amelia", nil, voided).Status, "what was void stays void")
}

// TestMute mutes a user for three seconds: neither the app, which has asked for
// that, nor a device of the user's sends then, and both do once the time is
// over.
func TestMute(t *testing.T) {
	t.Parallel()
	f := newFixtureWith(t, harness.Start(t), unlimited(t))
	f.strict()
	c := f.Dial(t, "amelia", device())
	var answer harness.Response
	byApp := func() bool {
		answer = f.call("POST", "/messages/users", message("amelia", "bruno", "x"))
		return answer.Status == 200
	}
	byDevice := func() bool {
		_, err := c.SendText(t.Context(), "bruno", "x")
		var refused *msyncclient.RefusedError
		if err != nil {
			require.ErrorAs(t, err, &refused)
		}
		return err == nil
	}
	require.True(t, byApp() && byDevice())
	// The other kinds of chat are mutes of their own.
	require.Equal(t, 200, f.call("POST", "/mutes", `{"username":"amelia","groupchat":-1,"chatroom":-1}`).Status)
	require.True(t, byApp() && byDevice())

	began := time.Now()
	require.Equal(t, 200, f.call("POST", "/mutes", `{"username":"amelia","chat":3}`).Status)
	// Who sends hears of it by an event.
	f.eventually(func() bool { return !byApp() && !byDevice() })
	f.refused(answer, "muted", 403, "forbidden_op", "user amelia is muted")
	f.eventually(func() bool { return byApp() && byDevice() })
	require.GreaterOrEqual(t, time.Since(began), 2900*time.Millisecond)
	got := f.call("GET", "/mutes/amelia", "").Body["data"].(map[string]any)
	require.InDelta(t, 0, got["chat"], 0)
	require.InDelta(t, -1, got["groupchat"], 0)
}

// TestModified shows which changes of a user move the time of the last change,
// and that the time of creation stays.
func TestModified(t *testing.T) {
	t.Parallel()
	f := newFixtureWith(t, harness.Start(t), unlimited(t))
	times := func() (created, modified float64) {
		e := f.call("GET", "/users/amelia", "").Body["entities"].([]any)[0].(map[string]any)
		return e["created"].(float64), e["modified"].(float64)
	}
	created, _ := times()
	for _, c := range []struct {
		method, path, body string
		moves              bool
	}{
		{"PUT", "/users/amelia/password", `{"newpassword":"new"}`, true},
		{"PUT", "/users/amelia", `{"nickname":"N"}`, true},
		{"PUT", "/users/amelia", `{"notification_display_style":1}`, true},
		{"PUT", "/users/amelia", `{"notification_no_disturbing":false}`, true},
		{"PUT", "/users/amelia", `{"notification_ignore_17":true}`, true},
		{"POST", "/users/amelia/deactivate", "", true},
		{"POST", "/users/amelia/activate", "", true},
		{"POST", "/users/amelia/activate", "", false},
		{"PUT", "/users/amelia", `{"notification_display_style":7}`, false},
		{"PUT", "/metadata/user/amelia", `a=b`, false},
		{"POST", "/users/amelia/contacts/users/bruno", "", false},
		{"POST", "/mutes", `{"username":"amelia","chat":1}`, false},
	} {
		_, before := times()
		// Times are milliseconds: what follows must not be of the same one.
		f.eventually(func() bool { return float64(time.Now().UnixMilli()) > before })
		f.call(c.method, c.path, c.body)
		then, after := times()
		require.InDelta(t, created, then, 0)
		if c.moves {
			require.Greater(t, after, before, "%s %s %s", c.method, c.path, c.body)
		} else {
			require.InDelta(t, before, after, 0, "%s %s %s", c.method, c.path, c.body)
		}
	}
}

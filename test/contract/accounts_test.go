package contract

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
)

func tokenRows() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){"get_token": testGetToken}
}

func testGetToken(t *testing.T, f *fixture) {
	grant := func(id, secret, more string) string {
		return `{"grant_type":"client_credentials","client_id":"` + id + `","client_secret":"` + secret + `"` + more + `}`
	}
	const appWant = `{"access_token":"<text>","expires_in":%d,"application":"ITS-UUID"}`
	f.answers("POST", "/token", grant(f.ClientID, f.ClientSecret, ""), fmt.Sprintf(appWant, 5184000))
	f.answers("POST", "/token", grant(f.ClientID, f.ClientSecret, `,"ttl":"1024000"`), fmt.Sprintf(appWant, 1024000))
	f.answers("POST", "/token", grant(f.ClientID, f.ClientSecret, `,"ttl":0`), fmt.Sprintf(appWant, 2147483647))

	userWant := `{"access_token":"<text>","expires_in":7200,"user":%s}`
	f.answers("POST", "/token", `{"grant_type":"inherit","username":"AMELIA","autoCreateUser":true,"ttl":7200}`, fmt.Sprintf(userWant, f.entity("amelia")))
	f.answers("POST", "/token", `{"grant_type":"inherit","username":"new-one","autoCreateUser":true,"ttl":7200}`, fmt.Sprintf(userWant, f.entity("new-one")))
	f.answers("GET", "/users/new-one", "", `{"action":"get","path":"/users","uri":"BASE/users/new-one","entities":[`+f.entity("new-one")+`],`+times+`,"count":1}`)
	f.call("PUT", "/users/amelia/password", `{"newpassword":"s3cret"}`)
	password := `{"grant_type":"password","username":"Amelia","password":"s3cret","ttl":7200}`
	first := f.answers("POST", "/token", password, fmt.Sprintf(userWant, f.entity("amelia")))
	// A token that is sent along does not matter, and an older token stays good.
	second := f.as("nonsense", "POST", "/token", password)
	require.Equal(t, 200, second.Status)
	require.NotEqual(t, first.Body["access_token"], second.Body["access_token"])
	for _, r := range []string{first.Body["access_token"].(string), second.Body["access_token"].(string)} {
		require.True(t, strings.HasPrefix(r, "YWMt"))
		require.Equal(t, 200, f.as(r, "GET", "/metadata/user/amelia", "").Status)
	}

	f.refuses(true,
		bad{"wrong password", "POST", "/token", `{"grant_type":"password","username":"amelia","password":"x"}`, 400, "invalid_grant", "invalid password"},
		bad{"no password", "POST", "/token", `{"grant_type":"password","username":"amelia"}`, 400, "invalid_grant", "invalid password"},
		bad{"unknown user", "POST", "/token", `{"grant_type":"password","username":"nobody","password":"x"}`, 404, "invalid_grant", "user not found"},
		bad{"registered without password", "POST", "/token", `{"grant_type":"password","username":"bruno","password":""}`, 400, "invalid_grant", "invalid password"},
		bad{"unknown client", "POST", "/token", grant("YXA6nobody", f.ClientSecret, ""), 400, "invalid_grant", "client_id does not match"},
		bad{"wrong secret", "POST", "/token", grant(f.ClientID, "YXA6wrong", ""), 400, "invalid_grant", "client_secret does not match"},
		bad{"no client", "POST", "/token", `{"grant_type":"client_credentials","client_secret":"x"}`, 400, illegal, "client_id must be provided."},
		bad{"no secret", "POST", "/token", `{"grant_type":"client_credentials","client_id":"x"}`, 400, illegal, "client_secret must be provided"},
		bad{"unknown grant", "POST", "/token", `{"grant_type":"magic"}`, 400, illegal, invalid},
		bad{"no grant", "POST", "/token", `{}`, 400, illegal, invalid},
		bad{"no body", "POST", "/token", ``, 400, illegal, invalid},
		bad{"ttl of words", "POST", "/token", grant(f.ClientID, f.ClientSecret, `,"ttl":"soon"`), 400, illegal, invalid},
		bad{"negative ttl", "POST", "/token", grant(f.ClientID, f.ClientSecret, `,"ttl":-1`), 400, illegal, invalid},
		bad{"inherit, unknown user", "POST", "/token", `{"grant_type":"inherit","username":"nobody"}`, 404, "entity_not_found", "User null not found"},
		bad{"inherit, illegal ID", "POST", "/token", `{"grant_type":"inherit","username":"a b","autoCreateUser":true}`, 400, illegal, "username [a b] is not legal"},
	)
	f.refused(f.as("", "POST", "/token", `{"grant_type":"inherit","username":"amelia"}`), "inherit without token", 401, "unauthorized", missing)
	f.refused(f.as("nonsense", "POST", "/token", `{"grant_type":"inherit","username":"amelia"}`), "inherit, corrupt token", 401, "auth_bad_access_token",
		"Unable to authenticate due to corrupt access token")
	f.call("POST", "/users/amelia/deactivate", "")
	f.refused(f.call("POST", "/token", password), "banned", 400, "invalid_grant", "user not activated")
}

func accountRows() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){
		"register_user": testRegisterUser, "register_users_batch": testRegisterUsers, "get_user": testGetUser, "list_users": testListUsers,
		"delete_user": testDeleteUser, "delete_users_batch": testDeleteUsers, "change_password": testChangePassword,
		"get_user_online_status": testOnlineStatus, "get_users_online_status_batch": testOnlineStatuses, "get_offline_message_count": testOfflineCount,
		"get_offline_message_status": testOfflineStatus,
		"deactivate_user":            testDeactivate, "activate_user": testActivate, "disconnect_user": testDisconnect,
	}
}

func testRegisterUser(t *testing.T, f *fixture) {
	f.answers("POST", "/users", `{"username":"Dario","password":"s3cret-1","nickname":"Dario P."}`,
		`{"action":"post",`+app+`,"path":"/users","uri":"BASE/users","entities":[`+f.entity("dario", `"nickname":"Dario P."`)+`],`+times+`}`)
	f.answers("POST", "/users", `{"username":"edda"}`,
		`{"action":"post",`+app+`,"path":"/users","uri":"BASE/users","entities":[`+f.entity("edda")+`],`+times+`}`)
	got := f.call("POST", "/users", `{"username":"DARIO","password":"x"}`)
	require.Equal(t, 400, got.Status)
	require.Equal(t, "duplicate_unique_property_exists", got.Body["error"])
	require.Regexp(t, `^Application [0-9a-f-]{36}Entity user requires that property named username be unique, value of dario exists$`, got.Body["error_description"])

	const long65, long101 = 65, 101
	f.refused(f.as("", "POST", "/users", `{"username":"x1","password":"x"}`), "not open", 401, "unauthorized", "registration is not open, please contact the app admin")
	f.refuses(true,
		bad{"no username", "POST", "/users", `{"password":"x"}`, 400, illegal, "Entity user requires a property named username"},
		bad{"null username", "POST", "/users", `{"username":null,"password":"x"}`, 400, illegal, "Entity user requires a property named username"},
		bad{"no body", "POST", "/users", ``, 400, illegal, "Entity user requires a property named username"},
		bad{"empty password", "POST", "/users", `{"username":"x1","password":""}`, 400, illegal, "password or pin must provided"},
		bad{"illegal characters", "POST", "/users", `{"username":"a b","password":"x"}`, 400, illegal, "username [a b] is not legal"},
		bad{"not ASCII", "POST", "/users", `{"username":"amélie","password":"x"}`, 400, illegal, "username [amélie] is not legal"},
		bad{"too long", "POST", "/users", `{"username":"` + strings.Repeat("x", long65) + `","password":"x"}`, 400, illegal, "USERNAME_TOO_LONG"},
		bad{"password too long", "POST", "/users", `{"username":"x1","password":"` + strings.Repeat("x", long65) + `"}`, 400, illegal, invalid},
		bad{"nickname too long", "POST", "/users", `{"username":"x1","nickname":"` + strings.Repeat("é", long101) + `"}`, 400, illegal, "NICKNAME_TOO_LONG"},
		bad{"username is a number", "POST", "/users", `{"username":7}`, 400, illegal, invalid},
		bad{"a string", "POST", "/users", `"x1"`, 400, illegal, invalid},
	)
	require.Equal(t, 404, f.call("GET", "/users/x1", "").Status, "nothing was stored")
	longest := strings.Repeat("x", 64)
	require.Equal(t, 200, f.call("POST", "/users", `{"username":"`+longest+`","password":"`+longest+`","nickname":"`+strings.Repeat("é", 100)+`"}`).Status)
}

func testRegisterUsers(t *testing.T, f *fixture) {
	f.answers("POST", "/users", `[{"username":"dario","password":"x","nickname":"D."},{"username":"amelia","password":"x"},{"username":"DARIO","password":"x"}]`,
		`{"action":"post",`+app+`,"path":"/users","uri":"BASE/users","entities":[`+f.entity("dario", `"nickname":"D."`)+`],"data":[
			{"username":"amelia","registerUserFailReason":"the amelia already exists"}],`+times+`}`)
	f.answers("POST", "/users", `[{"username":"edda","password":"x"}]`,
		`{"action":"post",`+app+`,"path":"/users","uri":"BASE/users","entities":[`+f.entity("edda")+`],"data":[],`+times+`}`)
	user := func(i int) string { return fmt.Sprintf(`{"username":"batch-%d","password":"x"}`, i) }
	f.refused(f.as("", "POST", "/users", list(1, user)), "not open", 401, "unauthorized", "registration is not open, please contact the app admin")
	f.refuses(true,
		bad{"61", "POST", "/users", list(61, user), 400, illegal, "Request body array size[61] had almost reached or been greater than the upper range value[60]"},
		bad{"one illegal", "POST", "/users", `[{"username":"batch-0","password":"x"},{"username":"a b","password":"x"}]`, 400, illegal, "username [a b] is not legal"},
		bad{
			"two passwords", "POST", "/users", `[{"username":"batch-0","password":"x"},{"username":"BATCH-0","password":"y"}]`, 400, "duplicate_unique_property_exists",
			"the same user batch-0 has a different password, the passwords are ***",
		},
		bad{"none", "POST", "/users", `[]`, 400, illegal, invalid},
		bad{"one without name", "POST", "/users", `[{"username":"batch-0","password":"x"},{"password":"x"}]`, 400, illegal, "Entity user requires a property named username"},
		bad{"one without password", "POST", "/users", `[{"username":"batch-0","password":"x"},{"username":"batch-1"}]`, 400, illegal, "password or pin must provided"},
		bad{"names alone", "POST", "/users", `["batch-0"]`, 400, illegal, invalid},
	)
	require.Equal(t, 404, f.call("GET", "/users/batch-0", "").Status, "nothing was stored")
}

func testGetUser(_ *testing.T, f *fixture) {
	for _, name := range []string{"amelia", "AMELIA", f.uuid["amelia"]} {
		f.answers("GET", "/users/"+name+"?x=1", "", `{"action":"get","path":"/users","uri":"BASE/users/`+name+`","entities":[`+f.entity("amelia")+`],`+times+`,"count":1}`)
	}
	f.refuses(false,
		bad{"unknown", "GET", "/users/nobody", "", 404, noResource, notFound},
		bad{"illegal", "GET", "/users/a%20b", "", 404, noResource, notFound})
	f.refused(f.as(f.UserToken(f.t, "bruno"), "GET", "/users/amelia", ""), "a user", 401, "unauthorized", "Unable to authenticate (OAuth)")
}

func testListUsers(t *testing.T, f *fixture) {
	first := f.answers("GET", "/users?limit=2", "", `{"action":"get","params":{"limit":["2"]},"path":"/users","uri":"BASE/users","entities":[`+
		f.entity("amelia")+`,`+f.entity("bruno")+`],`+times+`,"cursor":"<text>","count":2}`)
	cursor := first.Body["cursor"].(string)
	f.answers("GET", "/users?limit=2&cursor="+cursor, "", `{"action":"get","params":{"limit":["2"],"cursor":["`+cursor+`"]},"path":"/users","uri":"BASE/users","entities":[`+
		f.entity("carla")+`],`+times+`,"count":1}`)
	f.answers("GET", "/users", "", `{"action":"get","path":"/users","uri":"BASE/users","entities":[`+
		f.entity("amelia")+`,`+f.entity("bruno")+`,`+f.entity("carla")+`],`+times+`,"count":3}`)
	exactly := f.call("GET", "/users?limit=3", "")
	require.NotContains(t, exactly.Body, "cursor", "there is no page after the last user")
	require.Len(t, exactly.Body["entities"], 3)
	require.Equal(t, 200, f.call("GET", "/users?limit=1000&_v=1", "").Status, "a larger limit is cut")
	require.Equal(t, map[string]any{"limit": []any{"1", "2"}, "x": []any{""}}, f.call("GET", "/users?limit=1&x&limit=2", "").Body["params"])
	for _, method := range []string{"GET", "DELETE"} {
		f.refused(f.call(method, "/users?ql=username%3D%27amelia%27", ""), "a filter", 400, illegal, invalid)
	}
	require.Len(t, f.call("GET", "/users", "").Body["entities"], 3, "nobody was deleted")
	f.call("DELETE", "/users/bruno", "")
	f.answers("GET", "/users?cursor="+cursor, "", `{"action":"get","params":{"cursor":["`+cursor+`"]},"path":"/users","uri":"BASE/users","entities":[`+
		f.entity("carla")+`],`+times+`,"count":1}`)
	f.refuses(false,
		bad{"none", "GET", "/users?limit=0", "", 400, illegal, invalid},
		bad{"less", "GET", "/users?limit=-1", "", 400, illegal, invalid},
		bad{"many", "GET", "/users?limit=many", "", 400, illegal, invalid},
		bad{"unknown cursor", "GET", "/users?cursor=nothing", "", 400, illegal, invalid})
}

func testDeleteUser(t *testing.T, f *fixture) {
	token := f.UserToken(t, "amelia")
	f.call("POST", "/users/bruno/contacts/users/amelia", "")
	f.answers("DELETE", "/users/Amelia", "", `{"action":"delete",`+app+`,"path":"/users","uri":"BASE/users","entities":[`+f.entity("amelia")+`],`+times+`}`)
	f.refused(f.as(token, "GET", "/metadata/user/amelia", ""), "the user's token", 401, "unauthorized", missing)
	require.Empty(t, f.call("GET", "/users/bruno/contacts/users", "").Body["data"], "no contact is left")
	require.Equal(t, 200, f.call("POST", "/users", `{"username":"amelia","password":"x"}`).Status, "the ID is free again")
	require.NotEqual(t, f.uuid["amelia"], f.call("GET", "/users/amelia", "").Body["entities"].([]any)[0].(map[string]any)["uuid"])
	f.answers("DELETE", "/users/"+f.uuid["bruno"], "", `{"action":"delete",`+app+`,"path":"/users","uri":"BASE/users","entities":[`+f.entity("bruno")+`],`+times+`}`)
	f.refuses(false, bad{"again", "DELETE", "/users/bruno", "", 404, noResource, notFound})
}

func testDeleteUsers(t *testing.T, f *fixture) {
	f.refuses(false, bad{"none", "DELETE", "/users?limit=0", "", 400, illegal, invalid}, bad{"unknown cursor", "DELETE", "/users?cursor=nothing", "", 400, illegal, invalid})
	first := f.answers("DELETE", "/users?limit=2", "", `{"action":"delete",`+app+`,"params":{"limit":["2"]},"path":"/users","uri":"BASE/users","entities":[`+
		f.entity("amelia")+`,`+f.entity("bruno")+`],`+times+`,"cursor":"<text>"}`)
	cursor := first.Body["cursor"].(string)
	f.answers("DELETE", "/users?limit=2&cursor="+cursor, "", `{"action":"delete",`+app+`,"params":{"limit":["2"],"cursor":["`+cursor+`"]},"path":"/users","uri":"BASE/users","entities":[`+
		f.entity("carla")+`],`+times+`}`)
	f.answers("DELETE", "/users", "", `{"action":"delete",`+app+`,"path":"/users","uri":"BASE/users","entities":[],`+times+`}`)
	f.Register(t, "new-1", "new-2")
	all := f.call("DELETE", "/users?limit=2", "")
	require.NotContains(t, all.Body, "cursor", "nobody is left")
	require.Len(t, all.Body["entities"], 2)
	require.Equal(t, 404, f.call("GET", "/users/amelia", "").Status)
}

func testChangePassword(t *testing.T, f *fixture) {
	const want = `{"action":"set user password",` + times + `}`
	old := f.UserToken(t, "amelia")
	f.answers("PUT", "/users/Amelia/password", `{"newpassword":"one"}`, want)
	require.Equal(t, 200, f.call("POST", "/token", `{"grant_type":"password","username":"amelia","password":"one"}`).Status)
	f.answers("POST", "/users/amelia/password", `{"newpassword":"two"}`, want)
	require.Equal(t, 400, f.call("POST", "/token", `{"grant_type":"password","username":"amelia","password":"one"}`).Status)
	f.refused(f.as(old, "GET", "/metadata/user/amelia", ""), "a token from before", 401, "unauthorized", missing)

	self := f.UserToken(t, "amelia")
	f.refused(f.as(self, "PUT", "/users/amelia/password", `{"newpassword":"three"}`), "no old one", 400, illegal, "oldPassword is required")
	require.GreaterOrEqual(t, f.as(self, "PUT", "/users/amelia/password", `{"newpassword":"three","oldpassword":"wrong"}`).Status, 400)
	f.matches(f.as(self, "PUT", "/users/amelia/password", `{"newpassword":"three","oldPassword":"two"}`), want)
	require.Equal(t, 401, f.as(f.UserToken(t, "bruno"), "PUT", "/users/amelia/password", `{"newpassword":"four"}`).Status)
	f.refuses(false,
		bad{"no new one", "PUT", "/users/amelia/password", `{}`, 400, illegal, "newpassword is required"},
		bad{"empty", "PUT", "/users/amelia/password", `{"newpassword":""}`, 400, illegal, "newpassword is required"},
		bad{"too long", "PUT", "/users/amelia/password", `{"newpassword":"` + strings.Repeat("x", 65) + `"}`, 400, illegal, invalid},
		bad{"unknown user", "PUT", "/users/nobody/password", `{"newpassword":"x"}`, 404, "entity_not_found", "User null not found"})
}

func testOnlineStatus(t *testing.T, f *fixture) {
	want := func(spelled, status string) string {
		return `{"action":"get","uri":"BASE/users/` + spelled + `/status","entities":[],"data":{"` + spelled + `":"` + status + `"},` + times + `,"count":0}`
	}
	f.answers("GET", "/users/Amelia/status", "", want("Amelia", "offline"))
	f.Dial(t, "amelia", device())
	f.answers("GET", "/users/amelia/status", "", want("amelia", "online"))
	f.refuses(false, bad{"unknown", "GET", "/users/nobody/status", "", 404, noResource, notFound})
}

func testOnlineStatuses(t *testing.T, f *fixture) {
	f.Dial(t, "bruno", device())
	f.answers("POST", "/users/batch/status", `{"usernames":["Amelia","BRUNO","nobody"]}`,
		`{"action":"get batch user status","data":[{"Amelia":"offline"},{"BRUNO":"online"},{"nobody":"offline"}],`+times+`}`)
	require.Equal(t, 200, f.call("POST", "/users/batch/status", `{"usernames":`+list(100, quoted)+`}`).Status)
	f.refuses(false,
		bad{"none", "POST", "/users/batch/status", `{"usernames":[]}`, 400, illegal, invalid},
		bad{"missing", "POST", "/users/batch/status", `{}`, 400, illegal, invalid},
		bad{"101", "POST", "/users/batch/status", `{"usernames":` + list(101, quoted) + `}`, 400, illegal, "request body exceeds maximum limit, maximum limit is 100"},
		bad{"one name", "POST", "/users/batch/status", `{"usernames":"amelia"}`, 400, illegal, invalid})
}

func testOfflineCount(t *testing.T, f *fixture) {
	want := func(n int) string {
		return fmt.Sprintf(`{"action":"get","uri":"BASE/users/Amelia/offline_msg_count","entities":[],"data":{"Amelia":%d},`+times+`,"count":0}`, n)
	}
	f.answers("GET", "/users/Amelia/offline_msg_count", "", want(0))
	for range 4 {
		require.Equal(t, 200, f.call("POST", "/messages/users", `{"from":"bruno","to":["amelia"],"type":"txt","body":{"msg":"x"}}`).Status)
	}
	f.eventually(func() bool {
		return f.call("GET", "/users/amelia/offline_msg_count", "").Body["data"].(map[string]any)["amelia"] == float64(4)
	})
	f.answers("GET", "/users/Amelia/offline_msg_count", "", want(4))
	f.refuses(false, bad{"unknown", "GET", "/users/nobody/offline_msg_count", "", 404, noResource, notFound})
}

func testOfflineStatus(t *testing.T, f *fixture) {
	want := func(id, status string) string {
		return `{"action":"get","uri":"BASE/users/amelia/offline_msg_status/` + id + `","entities":[],"data":{"` + id + `":"` + status + `"},` + times + `,"count":0}`
	}
	sent := f.call("POST", "/messages/users", `{"from":"bruno","to":["amelia"],"type":"txt","body":{"msg":"x"}}`)
	id := sent.Body["data"].(map[string]any)["amelia"].(string)
	f.eventually(func() bool { return f.offline("amelia") == float64(1) })
	f.answers("GET", "/users/amelia/offline_msg_status/"+id, "", want(id, "undelivered"))
	f.answers("GET", "/users/"+f.uuid["amelia"]+"/offline_msg_status/"+id, "",
		strings.Replace(want(id, "undelivered"), "users/amelia", "users/"+f.uuid["amelia"], 1))
	// A connection alone delivers nothing: what counts is what the device says.
	f.Dial(t, "amelia", msyncclient.Options{Resource: "web_1", Manual: true})
	f.eventually(func() bool { return f.status("amelia") == "online" })
	f.answers("GET", "/users/amelia/offline_msg_status/"+id, "", want(id, "undelivered"))
	require.InDelta(t, 1, f.offline("amelia"), 0)
	f.Dial(t, "amelia", msyncclient.Options{Resource: "web_2"})
	f.eventually(func() bool { return f.offline("amelia") == float64(0) })
	f.answers("GET", "/users/amelia/offline_msg_status/"+id, "", want(id, "delivered"))
	f.answers("GET", "/users/amelia/offline_msg_status/17", "", want("17", "delivered"))
	require.Equal(t, "delivered", f.call("GET", "/users/bruno/offline_msg_status/"+id, "").Body["data"].(map[string]any)[id], "it never waited for its sender")
	f.refuses(false,
		bad{"unknown user", "GET", "/users/nobody/offline_msg_status/" + id, "", 404, noResource, notFound},
		bad{"no ID", "GET", "/users/amelia/offline_msg_status/abc", "", 400, illegal, invalid})
}

func testDeactivate(t *testing.T, f *fixture) {
	token := f.UserToken(t, "amelia")
	want := `{"action":"Deactivate user","entities":[` + f.entity("amelia", `"activated":false`) + `],` + times + `}`
	f.answers("POST", "/users/Amelia/deactivate", "", want)
	f.answers("POST", "/users/amelia/deactivate", "", want)
	f.refused(f.as(token, "GET", "/metadata/user/amelia", ""), "a banned user's token", 401, "unauthorized", missing)
	require.Equal(t, false, f.call("GET", "/users/amelia", "").Body["entities"].([]any)[0].(map[string]any)["activated"])
	f.refuses(false, bad{"unknown", "POST", "/users/nobody/deactivate", "", 404, noResource, notFound})
}

func testActivate(t *testing.T, f *fixture) {
	f.call("POST", "/users/amelia/deactivate", "")
	f.answers("POST", "/users/Amelia/activate", "", `{"action":"activate user",`+times+`}`)
	f.answers("POST", "/users/amelia/activate", "", `{"action":"activate user",`+times+`}`)
	require.Equal(t, true, f.call("GET", "/users/amelia", "").Body["entities"].([]any)[0].(map[string]any)["activated"])
	require.Equal(t, 200, f.as(f.UserToken(t, "amelia"), "GET", "/metadata/user/amelia", "").Status, "login is possible again")
	f.refuses(false, bad{"unknown", "POST", "/users/nobody/activate", "", 404, noResource, notFound})
}

func testDisconnect(t *testing.T, f *fixture) {
	want := func(path string) string {
		return `{"action":"get","uri":"BASE` + path + `","entities":[],"data":{"result":true},` + times + `,"count":0}`
	}
	f.answers("GET", "/users/amelia/disconnect", "", want("/users/amelia/disconnect"))
	f.answers("GET", "/users/amelia/disconnect/web_1", "", want("/users/amelia/disconnect/web_1"))
	f.answers("DELETE", "/users/amelia/disconnect/web_1", "", strings.Replace(want("/users/amelia/disconnect/web_1"), `"get"`, `"delete"`, 1))
	one, other := f.Dial(t, "amelia", msyncclient.Options{Resource: "web_1"}), f.Dial(t, "amelia", msyncclient.Options{Resource: "web_2"})
	require.Equal(t, 200, f.call("DELETE", "/users/amelia/disconnect/web_1", "").Status)
	select {
	case <-one.Done():
	case <-time.After(10 * time.Second):
		require.FailNow(t, "the device is still connected")
	}
	_, err := other.SendText(t.Context(), "bruno", "still here")
	require.NoError(t, err, "the other device stays")
	f.refused(f.call("DELETE", "/users/nobody/disconnect/web_1", ""), "unknown, one device", 404, noResource, notFound)
	f.refused(f.call("DELETE", "/users/amelia/disconnect", ""), "which device", 405, "unsupported_service_operation", "Service operation not supported")
	f.answers("GET", "/users/amelia/disconnect", "", want("/users/amelia/disconnect"))
	f.eventually(func() bool {
		return f.call("GET", "/users/amelia/status", "").Body["data"].(map[string]any)["amelia"] == "offline"
	})
	f.refuses(false, bad{"unknown", "GET", "/users/nobody/disconnect", "", 404, noResource, notFound})
}

package contract

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

func device() msyncclient.Options { return msyncclient.Options{} }

// eventually waits for what follows a call by way of an event.
func (f *fixture) eventually(seen func() bool) {
	f.t.Helper()
	require.Eventually(f.t, seen, 10*time.Second, 5*time.Millisecond)
}

func pushRows() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){
		"set_push_nickname": testPushNickname, "set_push_display_style": testPushStyle, "set_push_do_not_disturb": testDoNotDisturb,
	}
}

func (f *fixture) updated(more ...string) string {
	return `{"action":"put",` + app + `,"path":"/users","uri":"BASE/users","entities":[` + f.entity("amelia", more...) + `],` + times + `}`
}

func testPushNickname(t *testing.T, f *fixture) {
	f.answers("PUT", "/users/Amelia", `{"nickname":"Amelia (work)"}`, f.updated(`"nickname":"Amelia (work)"`))
	f.answers("PUT", "/users/amelia", `{"nickname":""}`, f.updated())
	f.answers("PUT", "/users/amelia", `{"nickname":"N","notification_display_style":"1"}`, f.updated(`"nickname":"N"`, `"notification_display_style":1`))
	require.Equal(t, 200, f.as(f.UserToken(t, "amelia"), "PUT", "/users/amelia", `{"nickname":"own"}`).Status)
	require.Equal(t, 401, f.as(f.UserToken(t, "bruno"), "PUT", "/users/amelia", `{"nickname":"other"}`).Status)
	require.Equal(t, 200, f.call("PUT", "/users/amelia", `{"nickname":"`+strings.Repeat("é", 100)+`"}`).Status)
	f.refuses(false,
		bad{"too long", "PUT", "/users/amelia", `{"nickname":"` + strings.Repeat("é", 101) + `"}`, 400, illegal, "NICKNAME_TOO_LONG"},
		bad{"a number", "PUT", "/users/amelia", `{"nickname":7}`, 400, illegal, "parameters is invalid : nickname"},
		bad{"nothing known", "PUT", "/users/amelia", `{"colour":"red"}`, 400, illegal, invalid},
		bad{"nothing", "PUT", "/users/amelia", ``, 400, illegal, invalid},
		bad{"unknown user", "PUT", "/users/nobody", `{"nickname":"x"}`, 400, "required_property_not_found", noUsername.text})
}

func testPushStyle(_ *testing.T, f *fixture) {
	f.answers("PUT", "/users/amelia", `{"notification_display_style":"1"}`, f.updated(`"notification_display_style":1`))
	f.answers("PUT", "/users/amelia", `{"notification_display_style":0}`, f.updated(`"notification_display_style":0`))
	f.refuses(false,
		bad{"2", "PUT", "/users/amelia", `{"notification_display_style":2}`, 400, illegal, "parameters is invalid : notification_display_style"},
		bad{"a word", "PUT", "/users/amelia", `{"notification_display_style":"bold"}`, 400, illegal, "parameters is invalid : notification_display_style"},
		bad{"unknown user", "PUT", "/users/nobody", `{"notification_display_style":1}`, 400, "required_property_not_found", noUsername.text})
}

func testDoNotDisturb(_ *testing.T, f *fixture) {
	const hours = `"notification_no_disturbing_start":22,"notification_no_disturbing_end":7`
	f.answers("PUT", "/users/amelia", `{"notification_no_disturbing":true,"notification_no_disturbing_start":"22","notification_no_disturbing_end":"7"}`,
		f.updated(`"notification_no_disturbing":true`, hours))
	f.answers("PUT", "/users/amelia", `{"notification_no_disturbing":false}`, f.updated(`"notification_no_disturbing":false`, hours))
	f.answers("PUT", "/users/amelia", `{"notification_ignore_184524748161025":true}`, f.updated(`"notification_no_disturbing":false`, hours, `"notification_ignore_184524748161025":true`))
	f.refuses(false,
		bad{"hour 24", "PUT", "/users/amelia", `{"notification_no_disturbing":true,"notification_no_disturbing_start":24,"notification_no_disturbing_end":7}`, 400, illegal, "parameters is invalid : notification_no_disturbing_start"},
		bad{"hour -1", "PUT", "/users/amelia", `{"notification_no_disturbing":true,"notification_no_disturbing_start":22,"notification_no_disturbing_end":-1}`, 400, illegal, "parameters is invalid : notification_no_disturbing_end"},
		bad{"a word", "PUT", "/users/amelia", `{"notification_no_disturbing":"sometimes"}`, 400, illegal, "parameters is invalid : notification_no_disturbing"},
		bad{"unknown user", "PUT", "/users/nobody", `{"notification_no_disturbing":false}`, 400, "required_property_not_found", noUsername.text})
}

func attributeRows() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){
		"set_user_attributes": testSetAttributes, "get_user_attributes": testGetAttributes, "get_user_attributes_capacity": testCapacity,
		"get_users_attributes_batch": testGetAttributesBatch, "delete_user_attributes": testDeleteAttributes,
	}
}

func data(json string) string { return `{"data":` + json + `,` + times + `}` }

func testSetAttributes(t *testing.T, f *fixture) {
	f.answers("PUT", "/metadata/user/amelia", `nickname=Amelia&avatarurl=https%3A%2F%2Fcdn.example.com%2Fa.png&gender=2`,
		data(`{"nickname":"Amelia","avatarurl":"https://cdn.example.com/a.png","gender":"2"}`))
	f.answers("PUT", "/metadata/user/Amelia", `{"gender":"1","empty":""}`, data(`{"gender":"1","empty":""}`))
	f.answers("GET", "/metadata/user/amelia", "", data(`{"nickname":"Amelia","avatarurl":"https://cdn.example.com/a.png","gender":"1","empty":""}`))
	require.Equal(t, 200, f.as(f.UserToken(t, "amelia"), "PUT", "/metadata/user/amelia", `sign=x`).Status)
	require.Equal(t, 401, f.as(f.UserToken(t, "bruno"), "PUT", "/metadata/user/amelia", `sign=x`).Status)
	f.answers("PUT", "/metadata/user/never-registered", `a=1`, data(`{"a":"1"}`))
	// 2 KB are keys and values together, to the byte.
	require.Equal(t, 200, f.call("PUT", "/metadata/user/bruno", "k="+strings.Repeat("x", 2047)).Status)
	f.refused(f.call("PUT", "/metadata/user/bruno", "m="), "one byte more than there is room for", 403, "FORBIDDEN", "size of metadata for this single user exceeds the user defined limit, 2048Bytes")
	f.answers("GET", "/metadata/user/bruno", "", data(`{"k":"`+strings.Repeat("x", 2047)+`"}`))
	f.refuses(false,
		bad{"one byte more", "PUT", "/metadata/user/carla", "k=" + strings.Repeat("x", 2048), 403, "FORBIDDEN", "size of metadata for this single user exceeds the user defined limit, 2048Bytes"},
		bad{"none", "PUT", "/metadata/user/carla", ``, 400, illegal, invalid},
		bad{"none in JSON", "PUT", "/metadata/user/carla", `{}`, 400, illegal, invalid},
		bad{"an object", "PUT", "/metadata/user/carla", `{"a":{"b":1}}`, 400, illegal, invalid})
	f.answers("GET", "/metadata/user/carla", "", data(`{}`))
}

func testGetAttributes(_ *testing.T, f *fixture) {
	f.answers("GET", "/metadata/user/nobody", "", data(`{}`))
	f.call("PUT", "/metadata/user/amelia", `nickname=A`)
	f.answers("GET", "/metadata/user/AMELIA", "", data(`{"nickname":"A"}`))
	f.matches(f.as(f.UserToken(f.t, "bruno"), "GET", "/metadata/user/amelia", ""), data(`{"nickname":"A"}`))
	f.refused(f.as("", "GET", "/metadata/user/amelia", ""), "no token", 401, "unauthorized", missing)
}

func testCapacity(_ *testing.T, f *fixture) {
	f.answers("GET", "/metadata/user/capacity", "", data(`0`))
	f.call("PUT", "/metadata/user/amelia", `nickname=%C3%A9`)
	f.call("PUT", "/metadata/user/bruno", `a=b`)
	f.answers("GET", "/metadata/user/capacity", "", data(`12`))
	f.call("DELETE", "/metadata/user/bruno", "")
	f.answers("GET", "/metadata/user/capacity", "", data(`10`))
	f.refused(f.as(f.UserToken(f.t, "bruno"), "GET", "/metadata/user/capacity", ""), "a user", 401, "unauthorized", "Unable to authenticate (OAuth)")
}

func testGetAttributesBatch(t *testing.T, f *fixture) {
	f.call("PUT", "/metadata/user/amelia", `nickname=A&sign=s`)
	f.call("PUT", "/metadata/user/bruno", `sign=b`)
	f.answers("POST", "/metadata/user/get", `{"targets":["Amelia","bruno","nobody","Amelia"],"properties":["nickname","avatarurl"]}`,
		data(`{"Amelia":{"nickname":"A"},"bruno":{},"nobody":{}}`))
	for _, all := range []string{``, `,"properties":null`, `,"properties":[]`} {
		f.answers("POST", "/metadata/user/get", `{"targets":["amelia"]`+all+`}`, data(`{"amelia":{"nickname":"A","sign":"s"}}`))
	}
	require.Equal(t, 200, f.as(f.UserToken(t, "bruno"), "POST", "/metadata/user/get", `{"targets":["amelia"],"properties":["sign"]}`).Status)
	f.refuses(false,
		bad{"no targets", "POST", "/metadata/user/get", `{"properties":["a"]}`, 400, illegal, invalid},
		bad{"101 targets", "POST", "/metadata/user/get", `{"targets":` + list(101, quoted) + `,"properties":["a"]}`, 400, "BAD_REQUEST", "exceed allowed batch size 100"},
		bad{"a word", "POST", "/metadata/user/get", `{"targets":"amelia","properties":["a"]}`, 400, illegal, invalid})
}

func testDeleteAttributes(_ *testing.T, f *fixture) {
	f.call("PUT", "/metadata/user/amelia", `nickname=A`)
	f.answers("DELETE", "/metadata/user/Amelia", "", data(`true`))
	f.answers("DELETE", "/metadata/user/amelia", "", data(`true`))
	f.answers("DELETE", "/metadata/user/nobody", "", data(`true`))
	f.answers("GET", "/metadata/user/amelia", "", data(`{}`))
	f.refused(f.as("", "DELETE", "/metadata/user/amelia", ""), "no token", 401, "unauthorized", missing)
}

func muteRows() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){"set_global_mute": testSetMute, "get_global_mute": testGetMute, "list_global_mutes": testListMutes}
}

const muteHead = `"path":"/mutes","uri":"BASE/mutes",` + app + `,` + times

func testSetMute(t *testing.T, f *fixture) {
	send := func() int {
		return f.call("POST", "/messages/users", `{"from":"amelia","to":["bruno"],"type":"txt","body":{"msg":"x"}}`).Status
	}
	f.answers("POST", "/mutes", `{"username":"Amelia","chat":600,"groupchat":-1}`, `{`+muteHead+`,"action":"post","data":{"result":"ok"}}`)
	c := f.Dial(t, "amelia", device())
	f.eventually(func() bool {
		_, err := c.SendText(t.Context(), "bruno", "x")
		return err != nil
	})
	require.Equal(t, 200, send(), "a mute is for devices")
	_, err := f.server.Admin().SetAppSettings(t.Context(), &limiterv1.SetAppSettingsRequest{Org: f.Org, App: f.Name, RestSendChecks: proto.Bool(true), Actor: "test"})
	require.NoError(t, err)
	f.eventually(func() bool { return send() == 403 })
	f.answers("POST", "/mutes", `{"username":"amelia","chat":0}`, `{`+muteHead+`,"action":"post","data":{"result":"ok"}}`)
	f.eventually(func() bool { return send() == 200 })
	require.InDelta(t, -1, f.call("GET", "/mutes/amelia", "").Body["data"].(map[string]any)["groupchat"], 0, "what is not named stays")
	f.refuses(false,
		bad{"no user", "POST", "/mutes", `{"chat":600}`, 400, "required_property_not_found", noUsername.text},
		bad{"negative", "POST", "/mutes", `{"username":"amelia","chat":-2}`, 400, illegal, invalid},
		bad{"too long", "POST", "/mutes", `{"username":"amelia","chat":2147483648}`, 400, illegal, invalid},
		bad{"a word", "POST", "/mutes", `{"username":"amelia","chat":"long"}`, 400, illegal, invalid},
		bad{"unknown user", "POST", "/mutes", `{"username":"nobody","chat":1}`, 400, "required_property_not_found", noUsername.text})
}

func testGetMute(t *testing.T, f *fixture) {
	want := func(chat, group string) string {
		return fmt.Sprintf(`{%s,"action":"get","data":{"userid":"ORG#APP_amelia","chat":%s,"groupchat":%s,"chatroom":0,"unixtime":"<int>"}}`, muteHead, chat, group)
	}
	f.answers("GET", "/mutes/Amelia", "", want("0", "0"))
	f.call("POST", "/mutes", `{"username":"amelia","chat":600,"groupchat":-1}`)
	got := f.answers("GET", "/mutes/amelia", "", want(`"<int>"`, "-1"))
	d := got.Body["data"].(map[string]any)
	require.InDelta(t, 600, d["chat"], 30)
	require.InDelta(t, time.Now().Unix(), d["unixtime"], 30)
	f.refuses(false, bad{"unknown", "GET", "/mutes/nobody", "", 400, "required_property_not_found", noUsername.text})
}

func testListMutes(t *testing.T, f *fixture) {
	f.answers("GET", "/mutes", "", `{`+muteHead+`,"action":"get","data":{"data":[],"unixtime":"<int>"}}`)
	f.call("POST", "/mutes", `{"username":"amelia","chat":600,"groupchat":-1}`)
	f.call("POST", "/mutes", `{"username":"bruno","chatroom":-1}`)
	got := f.call("GET", "/mutes?pageNum=1&pageSize=50", "").Body["data"].(map[string]any)["data"].([]any)
	require.Len(t, got, 3)
	for _, e := range got {
		require.Len(t, e, 2, "a user and one kind each")
	}
	require.Len(t, f.call("GET", "/mutes?pageSize=2", "").Body["data"].(map[string]any)["data"], 2)
	require.Len(t, f.call("GET", "/mutes?pageNum=2&pageSize=2", "").Body["data"].(map[string]any)["data"], 1)
	f.refuses(false, bad{"51", "GET", "/mutes?pageSize=51", "", 400, illegal, invalid}, bad{"page 0", "GET", "/mutes?pageNum=0", "", 400, illegal, invalid}, bad{"a word", "GET", "/mutes?pageSize=many", "", 400, illegal, invalid})
}

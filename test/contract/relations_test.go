package contract

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func relationRows() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){
		"add_contact": testAddContact, "remove_contact": testRemoveContact, "list_contacts": testListContacts,
		"list_user_blocks": testListBlocks, "add_user_blocks": testAddBlocks, "remove_user_block": testRemoveBlock,
	}
}

func (f *fixture) relation(action, list, user string) string {
	path := "/users/" + f.uuid["amelia"] + list
	return `{"action":"` + action + `",` + app + `,"path":"` + path + `","uri":"BASE` + path + `","entities":[` + f.entity(user) + `],` + times + `}`
}

func (f *fixture) names(path string) []any {
	f.t.Helper()
	got := f.call("GET", path, "")
	require.Equal(f.t, 200, got.Status, "%s", got.Raw)
	return got.Body["data"].([]any)
}

func testAddContact(t *testing.T, f *fixture) {
	want := f.relation("post", "/contacts", "bruno")
	f.answers("POST", "/users/Amelia/contacts/users/Bruno", "", want)
	f.answers("POST", "/users/amelia/contacts/users/bruno", "", want)
	require.Equal(t, []any{"bruno"}, f.names("/users/amelia/contacts/users"))
	require.Equal(t, []any{"amelia"}, f.names("/users/bruno/contacts/users"), "the other side has it too")
	f.refuses(false,
		bad{"unknown owner", "POST", "/users/nobody/contacts/users/bruno", "", 404, noResource, notFound},
		bad{"unknown friend", "POST", "/users/amelia/contacts/users/nobody", "", 404, noResource, notFound},
		bad{"self", "POST", "/users/amelia/contacts/users/AMELIA", "", 400, illegal, invalid})
	require.Equal(t, 401, f.as(f.UserToken(t, "carla"), "POST", "/users/amelia/contacts/users/carla", "").Status)
}

func testRemoveContact(t *testing.T, f *fixture) {
	f.call("POST", "/users/amelia/contacts/users/bruno", "")
	want := f.relation("delete", "/contacts", "bruno")
	f.answers("DELETE", "/users/amelia/contacts/users/Bruno", "", want)
	f.answers("DELETE", "/users/amelia/contacts/users/bruno", "", want)
	require.Empty(t, f.names("/users/amelia/contacts/users"))
	require.Empty(t, f.names("/users/bruno/contacts/users"))
	f.refuses(false,
		bad{"unknown owner", "DELETE", "/users/nobody/contacts/users/bruno", "", 404, noResource, notFound},
		bad{"unknown friend", "DELETE", "/users/amelia/contacts/users/nobody", "", 404, noResource, notFound})
}

func testListContacts(t *testing.T, f *fixture) {
	want := func(list string, n int) string {
		return fmt.Sprintf(`{"action":"get","uri":"BASE/users/amelia/contacts/users","entities":[],"data":%s,%s,"count":%d}`, list, times, n)
	}
	f.answers("GET", "/users/amelia/contacts/users", "", want(`[]`, 0))
	f.call("POST", "/users/amelia/contacts/users/bruno", "")
	f.call("POST", "/users/amelia/contacts/users/carla", "")
	f.answers("GET", "/users/amelia/contacts/users?_v=1", "", want(`["carla","bruno"]`, 2))
	require.Equal(t, 200, f.as(f.UserToken(t, "amelia"), "GET", "/users/amelia/contacts/users", "").Status)
	require.Equal(t, 401, f.as(f.UserToken(t, "bruno"), "GET", "/users/amelia/contacts/users", "").Status)
	f.refuses(false, bad{"unknown", "GET", "/users/nobody/contacts/users", "", 404, noResource, notFound})
}

func testListBlocks(_ *testing.T, f *fixture) {
	f.answers("GET", "/users/amelia/blocks/users", "", `{"action":"get","uri":"BASE/users/amelia/blocks/users","entities":[],"data":[],`+times+`,"count":0}`)
	f.call("POST", "/users/amelia/blocks/users", `{"usernames":["bruno"]}`)
	f.answers("GET", "/users/amelia/blocks/users", "", `{"action":"get","uri":"BASE/users/amelia/blocks/users","entities":[],"data":["bruno"],`+times+`,"count":1}`)
	f.call("POST", "/users/amelia/blocks/users", `{"usernames":["carla"]}`)
	page := func(list, more string) string {
		return `{"action":"get","uri":"BASE/users/amelia/blocks/users","entities":[],"data":` + list + `,` + times + `,"count":1` + more + `}`
	}
	first := f.answers("GET", "/users/amelia/blocks/users?pageSize=1", "", page(`["carla"]`, `,"cursor":"<text>"`))
	f.answers("GET", "/users/amelia/blocks/users?pageSize=1&cursor="+first.Body["cursor"].(string), "", page(`["bruno"]`, ``))
	f.refuses(false, bad{"unknown", "GET", "/users/nobody/blocks/users", "", 404, noResource, notFound})
}

func testAddBlocks(t *testing.T, f *fixture) {
	want := func(list string) string {
		return `{"action":"post",` + app + `,"uri":"BASE","entities":[],"data":` + list + `,` + times + `}`
	}
	f.answers("POST", "/users/amelia/blocks/users", `{"usernames":["Bruno","carla"]}`, want(`["bruno","carla"]`))
	f.answers("POST", "/users/amelia/blocks/users", `{"usernames":["bruno"]}`, want(`["bruno"]`))
	// A block list is for devices; the app may send as it likes.
	require.Equal(t, 200, f.call("POST", "/messages/users", `{"from":"bruno","to":["amelia"],"type":"txt","body":{"msg":"x"}}`).Status)
	f.eventually(func() bool { return f.offline("amelia") == float64(1) })
	f.eventually(func() bool {
		_, err := f.Dial(t, "bruno", device()).SendText(t.Context(), "amelia", "x")
		return err != nil
	})
	f.refuses(false,
		bad{"unknown owner", "POST", "/users/nobody/blocks/users", `{"usernames":["bruno"]}`, 404, noResource, notFound},
		bad{"one unknown", "POST", "/users/bruno/blocks/users", `{"usernames":["carla","nobody"]}`, 404, noResource, notFound},
		bad{"none", "POST", "/users/bruno/blocks/users", `{"usernames":[]}`, 400, illegal, invalid},
		bad{"missing", "POST", "/users/bruno/blocks/users", ``, 400, illegal, invalid},
		bad{"a word", "POST", "/users/bruno/blocks/users", `{"usernames":"carla"}`, 400, illegal, invalid})
	require.Empty(t, f.names("/users/bruno/blocks/users"), "nothing was stored")
}

func (f *fixture) offline(user string) any {
	f.t.Helper()
	d, _ := f.call("GET", "/users/"+user+"/offline_msg_count", "").Body["data"].(map[string]any)
	return d[user]
}

func testRemoveBlock(t *testing.T, f *fixture) {
	f.call("POST", "/users/amelia/blocks/users", `{"usernames":["bruno"]}`)
	f.answers("DELETE", "/users/amelia/blocks/users/Bruno", "", f.relation("delete", "/blocks", "bruno"))
	f.answers("DELETE", "/users/amelia/blocks/users/bruno", "", f.relation("delete", "/blocks", "bruno"))
	require.Empty(t, f.names("/users/amelia/blocks/users"))
	f.refuses(false,
		bad{"unknown owner", "DELETE", "/users/nobody/blocks/users/bruno", "", 404, noResource, notFound},
		bad{"unknown", "DELETE", "/users/amelia/blocks/users/nobody", "", 404, noResource, notFound})
}

func presenceRows() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){
		"set_presence": testSetPresence, "subscribe_presence": testSubscribe, "get_presence_batch": testGetPresence,
		"unsubscribe_presence": testUnsubscribe, "list_presence_subscriptions": testListSubscriptions,
	}
}

func testSetPresence(t *testing.T, f *fixture) {
	f.answers("POST", "/users/amelia/presence/web_1/101", `{"ext":"in a meeting"}`, `{"result":"ok"}`)
	f.answers("POST", "/users/amelia/presence/android/0", ``, `{"result":"ok"}`)
	f.answers("POST", "/users/amelia/presence/web_1/1", `{"ext":"`+strings.Repeat("x", 1024)+`"}`, `{"result":"ok"}`)
	require.Equal(t, 200, f.as(f.UserToken(t, "amelia"), "POST", "/users/amelia/presence/web_1/1", `{"ext":"me"}`).Status)
	require.Equal(t, 401, f.as(f.UserToken(t, "bruno"), "POST", "/users/amelia/presence/web_1/1", `{"ext":"not me"}`).Status)
	f.refuses(false,
		bad{"too big", "POST", "/users/amelia/presence/web_1/1", `{"ext":"` + strings.Repeat("x", 1025) + `"}`, 400, illegal, "ext is too big"},
		bad{"unknown user", "POST", "/users/nobody/presence/web_1/1", `{"ext":"x"}`, 404, noResource, notFound},
		bad{"a number", "POST", "/users/amelia/presence/web_1/1", `{"ext":7}`, 400, illegal, invalid})
	f.call("POST", "/users/amelia/presence/web_1/101", `{"ext":"last"}`)
	f.answers("POST", "/users/bruno/presence", `{"usernames":["amelia"]}`, `{"result":[{"uid":"amelia","last_time":"<text>","ext":"last","status":{"android":"0","web_1":"101"}}]}`)
	got := f.call("POST", "/users/amelia/presence/web_1/busy", `{"ext":"x"}`)
	require.Equal(t, 400, got.Status, "a status is a number")
	require.Equal(t, got.Body["error_description"], got.Body["result"])
}

func testSubscribe(t *testing.T, f *fixture) {
	f.call("POST", "/users/bruno/presence/web_1/101", `{"ext":"in a meeting"}`)
	got := f.answers("POST", "/users/amelia/presence/3600", `{"usernames":["bruno","carla"]}`,
		`{"result":[{"uid":"bruno","last_time":"<text>","expiry":"<text>","ext":"in a meeting","status":{"web_1":"101"}},
			{"uid":"carla","last_time":"0","expiry":"<text>","ext":"","status":[]}]}`)
	require.Regexp(t, `^[0-9]{10}$`, got.Body["result"].([]any)[0].(map[string]any)["expiry"])
	require.Equal(t, 200, f.call("POST", "/users/amelia/presence/2592000", `{"usernames":`+list(100, quoted)+`}`).Status)
	f.refuses(false,
		bad{"self", "POST", "/users/amelia/presence/3600", `{"usernames":["bruno","Amelia"]}`, 400, illegal, "you can't sub yourself"},
		bad{"101", "POST", "/users/amelia/presence/3600", `{"usernames":` + list(101, quoted) + `}`, 400, illegal, "too many sub presence"},
		bad{"no time", "POST", "/users/amelia/presence/0", `{"usernames":["bruno"]}`, 400, illegal, invalid},
		bad{"too long", "POST", "/users/amelia/presence/2592001", `{"usernames":["bruno"]}`, 400, illegal, invalid},
		bad{"a word", "POST", "/users/amelia/presence/soon", `{"usernames":["bruno"]}`, 400, illegal, invalid},
		bad{"nobody", "POST", "/users/amelia/presence/3600", `{}`, 400, illegal, "usernames is empty"})
}

func testGetPresence(_ *testing.T, f *fixture) {
	f.call("POST", "/users/bruno/presence/web_1/101", `{"ext":"busy"}`)
	f.answers("POST", "/users/amelia/presence", `{"usernames":["carla","bruno"]}`,
		`{"result":[{"uid":"carla","last_time":"0","ext":"","status":[]},{"uid":"bruno","last_time":"<text>","ext":"busy","status":{"web_1":"101"}}]}`)
	f.refuses(false,
		bad{"101", "POST", "/users/amelia/presence", `{"usernames":` + list(101, quoted) + `}`, 400, illegal, "too many get presences"},
		bad{"a word", "POST", "/users/amelia/presence", `{"usernames":"bruno"}`, 400, illegal, invalid})
}

func testUnsubscribe(_ *testing.T, f *fixture) {
	sublist := func(n int) string {
		return fmt.Sprintf(`{"result":{"totalnum":"%d","sublist":%s}}`, n, list(n, func(int) string { return `{"uid":"<text>","expiry":"<text>"}` }))
	}
	f.call("POST", "/users/amelia/presence/3600", `{"usernames":["bruno","carla","dario"]}`)
	for i, body := range []string{`["bruno"]`, `{"users":["CARLA"]}`, `{"usernames":["dario"]}`, `["never"]`} {
		f.answers("DELETE", "/users/amelia/presence", body, `{"result":"ok"}`)
		f.answers("GET", "/users/amelia/presence/sublist?pageSize=10", "", sublist(max(0, 2-i)))
	}
	f.refuses(false,
		bad{"101", "DELETE", "/users/amelia/presence", list(101, quoted), 400, illegal, "too many unsub presences"},
		bad{"numbers", "DELETE", "/users/amelia/presence", `[1]`, 400, illegal, invalid})
}

func testListSubscriptions(_ *testing.T, f *fixture) {
	f.answers("GET", "/users/amelia/presence/sublist?pageNum=1&pageSize=100", "", `{"result":{"totalnum":"0","sublist":[]}}`)
	f.answers("GET", "/users/nobody/presence/sublist", "", `{"result":{"totalnum":"0","sublist":[]}}`)
	f.call("POST", "/users/amelia/presence/3600", `{"usernames":["bruno","carla"]}`)
	f.answers("GET", "/users/amelia/presence/sublist", "", `{"result":{"totalnum":"2","sublist":[{"uid":"<text>","expiry":"<text>"}]}}`)
	f.answers("GET", "/users/amelia/presence/sublist?pageNum=3", "", `{"result":{"totalnum":"2","sublist":[]}}`)
	f.answers("GET", "/users/amelia/presence/sublist?pageSize=500", "", `{"result":{"totalnum":"2","sublist":[{"uid":"<text>","expiry":"<text>"},{"uid":"<text>","expiry":"<text>"}]}}`)
	f.refuses(false,
		bad{"501", "GET", "/users/amelia/presence/sublist?pageSize=501", "", 400, illegal, "too many queries"},
		bad{"a word", "GET", "/users/amelia/presence/sublist?pageNum=first", "", 400, illegal, invalid})
}

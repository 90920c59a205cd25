package contract

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pushCallRows are the tests of the calls about push that have no rule.
func pushCallRows() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){
		"set_push_binding": testSetBinding, "get_push_bindings": testGetBindings, "set_push_nicknames": testPushNicknames,
		"set_notification": testSetNotification, "get_notification": testGetNotification, "get_notifications": testGetNotifications,
		"list_notification_types": testListNotificationTypes, "set_notification_language": testLanguage, "get_notification_language": testLanguage,
		"set_user_template": testUserTemplate, "get_user_template": testUserTemplate,
		"put_template": testTemplates, "get_template": testTemplates, "delete_template": testTemplates,
	}
}

const bindingPath = "/users/amelia/push/binding"

// bound is the answer to a call about push tokens, each "device notifier token".
func bound(action string, list ...string) string {
	all := make([]string, len(list))
	for i, b := range list {
		part := strings.SplitN(b, " ", 3)
		all[i] = fmt.Sprintf(`{"device_id":%q,"notifier_name":%q,"device_token":%q}`, part[0], part[1], part[2])
	}
	return `{"entities":[` + strings.Join(all, ",") + `],"action":"` + action + `",` + times + `}`
}

func bind(device, notifier, token string) string {
	return fmt.Sprintf(`{"device_id":%q,"notifier_name":%q,"device_token":%q}`, device, notifier, token)
}

func testSetBinding(t *testing.T, f *fixture) {
	f.answers("PUT", bindingPath, bind("d1", "fcm", "t1"), bound("put", "d1 fcm t1"))
	f.answers("PUT", bindingPath, bind("d2", "apns", "t2"), bound("put", "d2 apns t2"))
	f.answers("PUT", bindingPath, bind("d2", "fcm", "t3"), bound("put", "d2 fcm t3"))
	f.answers("GET", bindingPath, "", bound("get", "d2 fcm t3", "d2 apns t2", "d1 fcm t1"))
	entity := func() map[string]any {
		return f.call("GET", "/users/amelia", "").Body["entities"].([]any)[0].(map[string]any)
	}
	require.Equal(t, []any{
		map[string]any{"device_Id": "d2", "notifier_name": "fcm", "device_token": "t3"},
		map[string]any{"device_Id": "d2", "notifier_name": "apns", "device_token": "t2"},
		map[string]any{"device_Id": "d1", "notifier_name": "fcm", "device_token": "t1"},
	}, entity()["pushInfo"])
	require.Equal(t, "t3", entity()["device_token"])

	// A new token takes the place of the device's old one. Without a token what
	// the device has under a name goes, without a name all that it has.
	f.call("PUT", bindingPath, bind("d1", "fcm", "t4"))
	f.answers("GET", bindingPath, "", bound("get", "d1 fcm t4", "d2 fcm t3", "d2 apns t2"))
	f.answers("PUT", bindingPath, bind("d2", "fcm", ""), bound("put", "d2 fcm "))
	f.answers("GET", bindingPath, "", bound("get", "d1 fcm t4", "d2 apns t2"))
	f.answers("PUT", bindingPath, bind("d1", "", "t4"), bound("put", "d1  t4"))
	f.answers("GET", bindingPath, "", bound("get", "d2 apns t2"))
	require.Equal(t, "apns", entity()["notifier_name"], "the newest that is left")
	f.call("PUT", bindingPath, bind("d2", "", ""))
	f.answers("GET", bindingPath, "", bound("get"))
	for _, k := range []string{"pushInfo", "device_token", "notifier_name"} {
		require.NotContains(t, entity(), k)
	}

	// The call by which client SDKs do the same.
	f.call("PUT", "/users/amelia", bind("d3", "fcm", "t5"))
	f.answers("GET", bindingPath, "", bound("get", "d3 fcm t5"))
	f.call("PUT", "/users/amelia", bind("d3", "fcm", ""))
	f.answers("GET", bindingPath, "", bound("get"))
	for i := range 20 {
		require.Equal(t, 200, f.call("PUT", bindingPath, bind(fmt.Sprint("d", i), "fcm", "t")).Status)
	}
	require.Len(t, f.call("GET", bindingPath, "").Body["entities"], 16, "the oldest give way")
	f.matches(f.as(f.UserToken(t, "amelia"), "PUT", bindingPath, bind("d", "n", "own")), bound("put", "d n own"))
	f.refuses(false,
		bad{"no device", "PUT", bindingPath, `{"notifier_name":"fcm","device_token":"t"}`, 400, illegal, "parameters is invalid : device_id"},
		bad{"unknown user", "PUT", "/users/nobody/push/binding", bind("d", "n", "t"), 404, noResource, notFound})
}

func testGetBindings(t *testing.T, f *fixture) {
	f.answers("GET", bindingPath, "", bound("get"))
	require.Equal(t, 200, f.as(f.UserToken(t, "amelia"), "GET", bindingPath, "").Status)
	f.refuses(false, bad{"unknown", "GET", "/users/nobody/push/binding", "", 404, noResource, notFound})
}

func testPushNicknames(t *testing.T, f *fixture) {
	const path = "/push/nickname"
	f.answers("PUT", path, `[{"username":"Amelia","push_nickname":"A."},{"username":"bruno","push_nickname":"B."}]`,
		`{"action":"put",`+app+`,"path":"/push","uri":"BASE/push","entities":[{"username":"Amelia","push_nickname":"A."},{"username":"bruno","push_nickname":"B."}],`+times+`}`)
	nickname := func(user string) any {
		return f.call("GET", "/users/"+user, "").Body["entities"].([]any)[0].(map[string]any)["nickname"]
	}
	require.Equal(t, []any{"A.", "B."}, []any{nickname("amelia"), nickname("bruno")})
	one := func(i int) string { return fmt.Sprintf(`{"username":"amelia","push_nickname":"N%d"}`, i) }
	require.Equal(t, 200, f.call("PUT", path, list(50, one)).Status)
	require.Equal(t, "N49", nickname("amelia"), "the last counts")
	require.Equal(t, 200, f.call("PUT", path, `[{"username":"amelia","push_nickname":""}]`).Status)
	require.Nil(t, nickname("amelia"))
	f.refuses(false,
		bad{"none", "PUT", path, `[]`, 400, illegal, "put user push nicknames illegal empty request body"},
		bad{"no body", "PUT", path, ``, 400, illegal, "put user push nicknames illegal empty request body"},
		bad{"51", "PUT", path, list(51, one), 400, illegal, "put user push nicknames exceeds the limit"},
		bad{"too long", "PUT", path, `[{"username":"bruno","push_nickname":"x"},{"username":"amelia","push_nickname":` + chars(101, "é") + `}]`, 400, illegal, "amelia push nickname length exceeds the limit"},
		bad{"one unknown", "PUT", path, `[{"username":"bruno","push_nickname":"x"},{"username":"nobody","push_nickname":"x"}]`, 400, noProperty.word, noProperty.text})
	require.Equal(t, "B.", nickname("bruno"), "all or none")
}

// notified is the answer to a call about the setting of one conversation.
func notified(action, path, kind, interval, until string) string {
	return fmt.Sprintf(`{"action":%q,%s,"path":"/users","uri":"BASE/users/notification%s","data":{"type":%q,"ignoreInterval":%q,"ignoreDuration":%s},%s}`,
		action, app, path, kind, interval, until, times)
}

func testSetNotification(t *testing.T, f *fixture) {
	const own, peer, group = "/user/amelia", "/user/bruno", "/chatgroup/184524748161025"
	path := func(of string) string { return "/users/amelia/notification" + of }
	f.answers("PUT", path(own), `{"type":"AT","ignoreInterval":"21:30-08:00","ignoreDuration":3600000}`, notified("put", own, "AT", "21:30-08:00", `"<ms>"`))
	got := f.answers("GET", path(own), "", notified("get", own, "AT", "21:30-08:00", `"<ms>"`))
	require.InDelta(t, time.Now().Add(time.Hour).UnixMilli(), got.Body["data"].(map[string]any)["ignoreDuration"], 60_000, "when it ends")
	// What is not named stays.
	f.answers("PUT", path(own), `{"ignoreDuration":0}`, notified("put", own, "AT", "21:30-08:00", "0"))
	f.answers("PUT", path(own), `{"ignoreInterval":""}`, notified("put", own, "AT", "", "0"))
	f.answers("PUT", path(own), `{"ignoreInterval":"8:0-10:0","type":null}`, notified("put", own, "AT", "8:0-10:0", "0"))
	f.answers("PUT", path(peer), `{"type":"NONE"}`, notified("put", peer, "NONE", "", "0"))
	f.answers("PUT", path(group), `{"type":"ALL"}`, notified("put", group, "ALL", "", "0"))
	f.answers("PUT", path(peer), `{"type":"DEFAULT"}`, notified("put", peer, "DEFAULT", "", "0"))
	f.answers("GET", path(group), "", notified("get", group, "ALL", "", "0"))
	f.matches(f.as(f.UserToken(t, "amelia"), "PUT", path(peer), `{"type":"ALL"}`), notified("put", peer, "ALL", "", "0"))
	require.Equal(t, 401, f.as(f.UserToken(t, "bruno"), "PUT", path(peer), `{"type":"ALL"}`).Status)
	f.refuses(false,
		bad{"nothing", "PUT", path(peer), `{}`, 400, illegal, invalid},
		bad{"type", "PUT", path(peer), `{"type":"SOME"}`, 400, illegal, "parameters is invalid : type"},
		bad{"interval", "PUT", path(peer), `{"ignoreInterval":"24:00-1:00"}`, 400, illegal, "parameters is invalid : ignoreInterval"},
		bad{"a week and more", "PUT", path(peer), `{"ignoreDuration":604800001}`, 400, illegal, "parameters is invalid : ignoreDuration"},
		bad{"room", "PUT", path("/chatroom/1"), `{"type":"ALL"}`, 400, illegal, invalid},
		bad{"unknown user", "PUT", "/users/nobody/notification/user/bruno", `{"type":"ALL"}`, 404, noResource, notFound})
	f.call("DELETE", "/users/bruno", "")
	f.Register(t, "bruno")
	f.answers("GET", path(peer), "", notified("get", peer, "DEFAULT", "", "0"))
}

func testGetNotification(_ *testing.T, f *fixture) {
	f.answers("GET", "/users/amelia/notification/user/amelia", "", notified("get", "/user/amelia", "ALL", "", "0"))
	f.answers("GET", "/users/amelia/notification/user/bruno", "", notified("get", "/user/bruno", "DEFAULT", "", "0"))
	f.answers("GET", "/users/amelia/notification/chatgroup/17", "", notified("get", "/chatgroup/17", "DEFAULT", "", "0"))
	f.refuses(false, bad{"unknown", "GET", "/users/nobody/notification/user/bruno", "", 404, noResource, notFound})
}

func testGetNotifications(_ *testing.T, f *fixture) {
	f.call("PUT", "/users/amelia/notification/user/bruno", `{"type":"NONE"}`)
	f.call("PUT", "/users/amelia/notification/chatgroup/17", `{"type":"AT"}`)
	want := func(user, group string) string {
		return `{"action":"get",` + app + `,"path":"/users","uri":"BASE/users/notification","data":{"user":` + user + `,"group":` + group + `},` + times + `}`
	}
	one := func(kind string) string { return `{"type":"` + kind + `","ignoreInterval":"","ignoreDuration":0}` }
	f.answers("GET", "/users/amelia/notification?user=Bruno,carla,bruno&group=17", "",
		want(`{"bruno":`+one("NONE")+`,"carla":`+one("DEFAULT")+`}`, `{"17":`+one("AT")+`}`))
	f.answers("GET", "/users/amelia/notification?user=amelia&group=", "", want(`{"amelia":`+one("ALL")+`}`, `{}`))
	f.refuses(false,
		bad{"nobody asked for", "GET", "/users/amelia/notification?user=&group=", "", 400, illegal, invalid},
		bad{"101", "GET", "/users/amelia/notification?user=" + strings.Repeat("a,", 101), "", 400, illegal, invalid},
		bad{"unknown", "GET", "/users/nobody/notification?user=bruno", "", 404, noResource, notFound})
}

func testListNotificationTypes(_ *testing.T, f *fixture) {
	const path = "/users/amelia/notification/mute/type"
	want := func(list, more string) string {
		return `{"action":"get",` + app + `,"path":"/users","uri":"BASE/users/notification/mute/type","data":` + list + `,` + times + more + `}`
	}
	f.answers("GET", path, "", want(`[]`, ""))
	for of, kind := range map[string]string{"user/bruno": "NONE", "user/carla": "DEFAULT", "chatgroup/17": "AT", "user/amelia": "NONE"} {
		f.call("PUT", "/users/amelia/notification/"+of, `{"type":"`+kind+`"}`)
	}
	f.answers("GET", path+"?_v=1", "", want(`[{"user":"bruno","value":"NONE"},{"group":"17","value":"AT"}]`, ""))
	first := f.answers("GET", path+"?limit=1", "", want(`[{"user":"bruno","value":"NONE"}]`, `,"cursor":"<text>"`))
	f.answers("GET", path+"?limit=1&cursor="+first.Body["cursor"].(string), "", want(`[{"group":"17","value":"AT"}]`, ""))
	f.refuses(false,
		bad{"limit", "GET", path + "?limit=0", "", 400, illegal, invalid}, bad{"cursor", "GET", path + "?cursor=x", "", 400, illegal, invalid},
		bad{"unknown", "GET", "/users/nobody/notification/mute/type", "", 404, noResource, notFound})
}

func testLanguage(t *testing.T, f *fixture) {
	testChoice(t, f, "language", "translationLanguage", "language")
}

func testUserTemplate(t *testing.T, f *fixture) {
	testChoice(t, f, "template", "templateName", "templateName")
}

// testChoice sets and reads what a user chooses by name.
func testChoice(t *testing.T, f *fixture, what, asked, answered string) {
	path := "/users/amelia/notification/" + what
	want := func(action, value string) string {
		return `{"action":"` + action + `",` + app + `,"path":"/users","uri":"BASE/users/notification/` + what + `","data":{"` + answered + `":"` + value + `"},` + times + `}`
	}
	f.answers("GET", path, "", want("get", ""))
	f.answers("PUT", path, `{"`+asked+`":"EN"}`, want("put", "EN"))
	f.answers("GET", path, "", want("get", "EN"))
	f.answers("PUT", path, `{"`+asked+`":""}`, want("put", ""))
	f.answers("GET", path, "", want("get", ""))
	require.Equal(t, 200, f.as(f.UserToken(t, "amelia"), "PUT", path, `{"`+asked+`":"own"}`).Status)
	f.refuses(false,
		bad{"none", "PUT", path, `{}`, 400, illegal, "parameters is invalid : " + asked},
		bad{"too long", "PUT", path, `{"` + asked + `":` + chars(65, "x") + `}`, 400, illegal, "parameters is invalid : " + asked},
		bad{"unknown user", "PUT", strings.Replace(path, "amelia", "nobody", 1), `{"` + asked + `":"x"}`, 404, noResource, notFound})
}

func testTemplates(t *testing.T, f *fixture) {
	const path = "/notification/template"
	want := func(action, title string) string {
		return `{"action":"` + action + `",` + app + `,"path":"/notification/template","uri":"BASE/notification/template",
			"data":{"name":"t1","createAt":"<ms>","updateAt":"<ms>","title_pattern":"` + title + `","content_pattern":"{1} wrote"},` + times + `}`
	}
	f.answers("POST", path, `{"name":"t1","title_pattern":"Hello","content_pattern":"{1} wrote"}`, want("post", "Hello"))
	f.answers("PUT", path, `{"name":"t1","title_pattern":"Hi","content_pattern":"{1} wrote"}`, want("put", "Hi"))
	f.answers("GET", path+"/t1", "", want("get", "Hi"))
	f.answers("DELETE", path+"/t1", "", want("delete", "Hi"))
	require.Equal(t, 401, f.as(f.UserToken(t, "amelia"), "GET", path+"/t1", "").Status)
	f.refuses(false,
		bad{"gone", "GET", path + "/t1", "", 400, "EntityNotFoundException", "t1 template is not exist"},
		bad{"gone", "DELETE", path + "/t1", "", 400, "EntityNotFoundException", "t1 template is not exist"},
		bad{"no name", "POST", path, `{"title_pattern":"x"}`, 400, illegal, "parameters is invalid : name"},
		bad{"long name", "POST", path, `{"name":` + chars(65, "x") + `}`, 400, illegal, "parameters is invalid : name"})
}

// pushCallTables say what may be wrong with those calls.
func pushCallTables() map[string]table {
	amiss := func(name string) refusal { return says("parameters is invalid : " + name) }
	bounded := func(name string, most int) []value {
		return []value{{"of the longest", chars(most, "x"), taken}, {"too long", chars(most+1, "x"), amiss(name)}, {"with NUL", `"a\u0000"`, amiss(name)}}
	}
	conversation := map[string][]value{
		"chat_type": {{"of rooms", "chatroom", unfit}, {"unknown", "x", unfit}, {"in capitals", "USER", unfit}},
		"target":    {{"of no user", "a%20b", unfit}, {"unknown", "nobody", taken}, {"in capitals", "BRUNO", taken}, {"of 65 bytes", strings.Repeat("x", 65), unfit}},
	}
	chosen := func(what, field string, most int) table {
		return table{
			method: "PUT", path: "/users/{username=amelia}/notification/" + what, body: `{"` + field + `":"x"}`, who: appOrSelf, stranger: gone, nothing: amiss(field),
			params: []param{{field, text, amiss(field), append(bounded(field, most), value{"empty", `""`, taken})}},
		}
	}
	template := func(f *fixture) { f.call("POST", "/notification/template", `{"name":"t1"}`) }
	noTemplate := func(name string) refusal {
		return refusal{400, "EntityNotFoundException", name + " template is not exist"}
	}
	names := map[string][]value{"name": {{"unknown", "t2", noTemplate("t2")}, {"too long", strings.Repeat("x", 65), unfit}, {"with NUL", "a%00", unfit}}}
	return map[string]table{
		"set_push_binding": {
			method: "PUT", path: "/users/{username=amelia}/push/binding", body: bind("d", "n", "t"), who: appOrSelf, stranger: gone, nothing: amiss("device_id"),
			params: []param{
				{"device_id", text, amiss("device_id"), append(bounded("device_id", 512), value{"empty", `""`, amiss("device_id")})},
				{"notifier_name", text, taken, append(bounded("notifier_name", 512), value{"empty", `""`, taken})},
				{"device_token", text, taken, append(bounded("device_token", 512), value{"empty", `""`, taken})},
			},
		},
		"get_push_bindings": {method: "GET", path: "/users/{username=amelia}/push/binding", who: appOrSelf, stranger: gone},
		"set_push_nicknames": {
			method: "PUT", path: "/push/nickname", body: `{"username":"amelia","push_nickname":"N"}`, wrap: [2]string{"[", "]"},
			nothing: says("put user push nicknames illegal empty request body"),
			shapes:  map[string]refusal{"[]": says("put user push nicknames illegal empty request body"), "{}": unfit},
			params: []param{
				{"username", text, noProperty, []value{{"empty", `""`, noProperty}, {"unknown", `"nobody"`, noProperty}, {"illegal", `"a b"`, noProperty}, {"in capitals", `"AMELIA"`, taken}}},
				{"push_nickname", text, taken, []value{
					{"empty", `""`, taken}, {"of 100", chars(100, "é"), taken}, {"of 101", chars(101, "x"), says("amelia push nickname length exceeds the limit")}, {"with NUL", `"a\u0000"`, unfit},
				}},
			},
		},
		"set_notification": {
			method: "PUT", path: "/users/{username=amelia}/notification/{chat_type:user}/{target:bruno}", body: `{"type":"NONE"}`, who: appOrSelf, stranger: gone, nothing: unfit,
			params: []param{
				{"type", text, unfit, []value{{"empty", `""`, amiss("type")}, {"unknown", `"SOME"`, amiss("type")}, {"in small letters", `"none"`, amiss("type")}, {"DEFAULT", `"DEFAULT"`, taken}}},
				{"ignoreInterval", text, taken, []value{
					{"empty", `""`, taken},
					{"of one time", `"8:00"`, amiss("ignoreInterval")},
					{"of hours", `"8-9"`, amiss("ignoreInterval")},
					{"of hour 24", `"0:00-24:00"`, amiss("ignoreInterval")},
					{"of minute 60", `"0:60-1:00"`, amiss("ignoreInterval")},
					{"of words", `"noon-night"`, amiss("ignoreInterval")},
					{"of a negative hour", `"-1:00-2:00"`, amiss("ignoreInterval")},
					{"of three digits", `"008:00-9:00"`, amiss("ignoreInterval")},
					{"without leading zeros", `"8:0-10:0"`, taken},
					{"long", chars(100_000, "1"), amiss("ignoreInterval")},
				}},
				{"ignoreDuration", number, taken, []value{{"negative", `-1`, amiss("ignoreDuration")}, {"a week", `604800000`, taken}, {"more", `604800001`, amiss("ignoreDuration")}, {"0 as text", `"0"`, taken}}},
			},
			inPath: conversation,
		},
		"get_notification": {method: "GET", path: "/users/{username=amelia}/notification/{chat_type:user}/{target:bruno}", who: appOrSelf, stranger: gone, inPath: conversation},
		"get_notifications": {
			method: "GET", path: "/users/{username=amelia}/notification?user=bruno", who: appOrSelf, stranger: gone,
			more: []special{
				{name: "nobody", path: "/users/amelia/notification", want: unfit},
				{name: "one who cannot be", path: "/users/amelia/notification?user=a%20b", want: unfit},
				{name: "a group of letters", path: "/users/amelia/notification?group=x", want: unfit},
				{name: "100", path: "/users/amelia/notification?user=" + strings.Repeat("a,", 60) + "&group=" + strings.Repeat("1,", 40), want: taken},
				{name: "101", path: "/users/amelia/notification?user=" + strings.Repeat("a,", 60) + "&group=" + strings.Repeat("1,", 41), want: unfit},
			},
		},
		"list_notification_types": {
			method: "GET", path: "/users/{username=amelia}/notification/mute/type", who: appOrSelf, stranger: gone,
			query: []param{
				{"limit", number, taken, []value{{"0", "0", unfit}, {"-1", "-1", unfit}, {"1", "1", taken}, {"50", "50", taken}, {"1000", "1000", taken}}},
				{"cursor", text, taken, []value{{"of no kind", "f_________9h", unfit}, {"nonsense", "x", unfit}, {"empty", "", taken}, {"long", strings.Repeat("x", 2000), unfit}}},
			},
		},
		"set_notification_language": chosen("language", "translationLanguage", 32),
		"get_notification_language": {method: "GET", path: "/users/{username=amelia}/notification/language", who: appOrSelf, stranger: gone},
		"set_user_template":         chosen("template", "templateName", 64),
		"get_user_template":         {method: "GET", path: "/users/{username=amelia}/notification/template", who: appOrSelf, stranger: gone},
		"put_template": {
			method: "POST", also: "PUT", path: "/notification/template", body: `{"name":"t1","title_pattern":"x","content_pattern":"y"}`, nothing: amiss("name"),
			params: []param{
				{"name", text, amiss("name"), append(bounded("name", 64), value{"empty", `""`, amiss("name")})},
				{"title_pattern", text, taken, bounded("title_pattern", 1024)},
				{"content_pattern", text, taken, bounded("content_pattern", 1024)},
			},
		},
		"get_template":    {method: "GET", path: "/notification/template/{name:t1}", prepare: template, inPath: names},
		"delete_template": {method: "DELETE", path: "/notification/template/{name:t1}", prepare: template, inPath: names, once: true},
	}
}

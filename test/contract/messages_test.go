package contract

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

func messageRows() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){"send_message": testSendOld, "send_message_users": testSendToUsers}
}

// strict has the app refuse sends of muted users over REST.
func (f *fixture) strict() {
	f.t.Helper()
	_, err := f.server.Admin().SetAppSettings(f.t.Context(), &limiterv1.SetAppSettingsRequest{
		Org: f.Org, App: f.Name, RestSendChecks: proto.Bool(true), Actor: "test",
	})
	require.NoError(f.t, err)
	f.eventually(func() bool {
		got, err := f.server.Admin().GetApp(f.t.Context(), &limiterv1.GetAppRequest{Org: f.Org, App: f.Name})
		return err == nil && got.GetApp().GetSettings().GetRestSendChecks()
	})
}

// gets waits for the text of the next message that a device is given.
func (f *fixture) gets(c *msyncclient.Client) string {
	f.t.Helper()
	select {
	case m := <-c.Received():
		return m.Text()
	case <-f.t.Context().Done():
	case <-c.Done():
	}
	require.FailNow(f.t, "nothing arrived")
	return ""
}

func testSendToUsers(t *testing.T, f *fixture) {
	const path = "/messages/users"
	amelia := f.Dial(t, "amelia", device())
	got := f.answers("POST", path, `{"from":"Shop","to":["Amelia","bruno","AMELIA","nobody","a b"],"type":"txt","body":{"msg":"see you"},"ext":{"k":1}}`,
		`{"path":"/messages/users","uri":"BASE/messages/users",`+app+`,"action":"post",
			"data":{"amelia":"<text>","bruno":"<text>","nobody":"<text>","a b":"<text>"},`+times+`}`)
	for _, id := range got.Body["data"].(map[string]any) {
		require.Regexp(t, `^\d{18,19}$`, id)
	}
	require.Equal(t, "see you", f.gets(amelia))
	// Neither a block list nor a mute stops the app's own back end.
	f.call("POST", "/users/amelia/blocks/users", `{"usernames":["bruno"]}`)
	f.call("POST", "/mutes", `{"username":"bruno","chat":-1}`)
	require.Equal(t, 200, f.call("POST", path, message("bruno", "amelia", "blocked and muted")).Status)
	require.Equal(t, "blocked and muted", f.gets(amelia))
	f.strict()
	f.refused(f.call("POST", path, message("bruno", "amelia", "x")), "muted", 403, "forbidden_op", "user bruno is muted")
	require.Equal(t, 200, f.call("POST", path, message("amelia", "bruno", "not muted")).Status)
	require.Equal(t, 200, f.call("POST", path, `{"to":["amelia"],"type":"txt","body":{"msg":"of the app"}}`).Status)
	require.Equal(t, "of the app", f.gets(amelia))
	f.refuses(false,
		bad{"no from", "POST", path, `{"from":"","to":["amelia"],"type":"txt","body":{"msg":"x"}}`, 400, sendError, "param from can't be empty"},
		bad{"no JSON", "POST", path, `{"to":[`, 400, badBody.word, badBody.text})
}

func testSendOld(t *testing.T, f *fixture) {
	const path = "/messages"
	want := func(data string) string {
		return `{"action":"post",` + app + `,"path":"/messages","uri":"BASE/messages","data":` + data + `,"entities":[],` + times + `}`
	}
	amelia := f.Dial(t, "amelia", device())
	const body = `{"target_type":"users","target":["Amelia","bruno"],"msg":{"type":"txt","msg":"hello"},"from":"shop","ext":{"k":1}}`
	f.answers("POST", path, body, want(`{"amelia":"success","bruno":"success"}`))
	require.Equal(t, "hello", f.gets(amelia))
	got := f.answers("POST", path+"?useMsgId=true", body, want(`{"amelia":"<text>","bruno":"<text>"}`))
	require.Regexp(t, `^\d{18,19}$`, got.Body["data"].(map[string]any)["amelia"])
	require.Equal(t, "hello", f.gets(amelia))
	f.answers("POST", path+"?useMsgId=false", body, want(`{"amelia":"success","bruno":"success"}`))
	for _, kind := range []string{"chatgroups", "chatrooms"} { // there are none
		f.answers("POST", path, `{"target_type":"`+kind+`","target":["240000000000001"],"msg":{"type":"txt","msg":"x"}}`, want(`{"240000000000001":"success"}`))
	}
	f.refuses(false,
		bad{"no from", "POST", path, `{"from":"","target_type":"users","target":["amelia"],"msg":{"type":"txt","msg":"x"}}`, 400, illegal, "from can't be empty"},
		bad{"no kind", "POST", path, `{"target":["amelia"],"msg":{"type":"txt","msg":"x"}}`, 400, illegal, "target_type can only be 'users' or 'chatgroups' or 'chatrooms'"})
}

const sendError = "message_send_error"

var badBody = refusal{400, "invalid_request_body", "Request body is invalid. Please check body is correct."}

// unsent is the answer to a send that does not fit.
func unsent(text string) refusal { return refusal{400, sendError, text} }

func messageTables() map[string]table {
	amiss := func(field string) refusal { return unsent("param " + field + " is illegal") }
	empty := func(field string) refusal { return unsent("param " + field + " can't be empty") }
	noObject := unsent("param ext must be JSONObject")
	large := unsent("message is too large")
	wrongType := func(string) refusal { return badBody }
	send := func(kind, body string) string {
		return `{"from":"amelia","to":["bruno"],"type":"` + kind + `","body":` + body + `}`
	}
	msg := func(bytes int) string { return `{"msg":` + chars(bytes, "x") + `}` }
	exts := func(n int) string {
		return `{"customExts":{` + strings.Trim(list(n, func(i int) string { return quoted(i) + `:"v"` }), "[]") + `}}`
	}
	of := func(name, kind, body string, want refusal) special {
		return special{name: name, body: send(kind, body), want: want}
	}
	kinds := says("target_type can only be 'users' or 'chatgroups' or 'chatrooms'")
	old := func(name, kind, msg string, want refusal) special {
		return special{name: name, body: `{"target_type":"` + kind + `","target":["bruno"],"msg":` + msg + `}`, want: want}
	}
	return map[string]table{
		"send_message_users": {
			method: "POST", path: "/messages/users", body: send("txt", `{"msg":"x"}`), broken: badBody, mistyped: wrongType, nothing: empty("to"),
			null: map[string]refusal{"ext": noObject},
			params: []param{
				{name: "from", kind: text, missing: taken, values: []value{
					{"empty", `""`, empty("from")}, {"unknown", `"nobody"`, taken}, {"in capitals", `"AMELIA"`, taken}, {"with a blank", `"a b"`, amiss("from")}, {"of 65 bytes", chars(65, "x"), amiss("from")},
				}},
				{name: "to", kind: strs, missing: empty("to"), values: []value{
					{"none", `[]`, empty("to")},
					{"an empty one", `["bruno",""]`, empty("to")},
					{"600", list(600, quoted), taken},
					{"601", list(601, quoted), unsent("params to's size can't exceed limit 600")},
					{"unknown", `["nobody"]`, taken},
					{"who cannot be", `["a b","🎨",` + chars(65, "x") + `]`, taken},
				}},
				{name: "type", kind: text, missing: empty("type"), values: []value{{"empty", `""`, empty("type")}, {"unknown", `"smell"`, amiss("type")}, {"in capitals", `"TXT"`, amiss("type")}}},
				{name: "body", kind: fields, missing: empty("body"), values: []value{
					{"empty", `{}`, empty("body")},
					{"of another type's fields", `{"action":"x"}`, amiss("body.msg")},
					{"of 5,120 bytes", msg(5120), taken},
					{"of 5,121 bytes", msg(5121), large},
					{"of 41,000 bytes", msg(41_000), large},
				}},
				{name: "ext", kind: whatever, missing: taken, values: []value{
					{"a list", `[]`, noObject}, {"a text", `"x"`, noObject}, {"a number", `7`, noObject}, {"true", `true`, noObject}, {"empty", `{}`, taken}, {"too large", `{"k":` + chars(5120, "x") + `}`, large},
				}},
				{name: "sync_device", kind: flag, missing: taken, values: []value{{"as text", `"true"`, taken}}},
				{name: "routetype", kind: text, missing: taken, values: []value{{"known", `"ROUTE_ONLINE"`, taken}, {"empty", `""`, taken}, {"unknown", `"ROUTE_66"`, amiss("routetype")}}},
				{name: "msg_timestamp", kind: number, missing: taken, values: []value{{"negative", `-1`, amiss("msg_timestamp")}, {"as text", `"1700000000000"`, taken}}},
			},
			more: []special{
				of("text of 5,120 bytes, escaped", "txt", `{"msg":"`+strings.Repeat(`\u4e2d`, 1706)+`xx"}`, taken),
				of("text of 5,121 bytes, escaped", "txt", `{"msg":"`+strings.Repeat(`\u4e2d`, 1707)+`"}`, large),
				of("command, param of 5,120 bytes of white space", "cmd", `{"action":"x","param":{`+strings.Repeat(" ", 5120)+`}}`, taken),
				of("image, a name twice", "img", `{"url":7,"url":"u"}`, taken),
				of("image, url null after all", "img", `{"url":"u","url":null}`, amiss("body.url")),
				of("text, null", "txt", `{"msg":null,"x":1}`, amiss("body.msg")),
				of("text, a number", "txt", `{"msg":7}`, badBody),
				of("command, no action", "cmd", `{"x":1}`, amiss("body.action")),
				of("command", "cmd", `{"action":"x","param":null}`, taken),
				of("command, param of a list", "cmd", `{"action":"x","param":[]}`, badBody),
				of("image, no url", "img", `{"filename":"x"}`, amiss("body.url")),
				of("image, a url alone", "img", `{"url":"u"}`, taken),
				of("image, nulls", "img", `{"url":"u","filename":null,"secret":null,"size":null,"file_length":null}`, taken),
				of("image, size of a number", "img", `{"url":"u","size":7}`, badBody),
				of("voice, no url", "audio", `{"length":7}`, amiss("body.url")),
				of("voice, a url alone", "audio", `{"url":"u"}`, taken),
				of("video, no url", "video", `{"length":7}`, amiss("body.url")),
				of("video of 3 GB", "video", `{"url":"u","length":1,"file_length":3000000000}`, taken),
				of("video, negative length", "video", `{"url":"u","length":-1}`, amiss("body.length")),
				of("file, no url", "file", `{"filename":"x"}`, amiss("body.url")),
				of("file, a url alone", "file", `{"url":"u"}`, taken),
				of("place", "loc", `{"lat":"52.5","lng":13.4,"addr":""}`, taken),
				of("place, no latitude", "loc", `{"lng":13.4,"addr":""}`, amiss("body.lat")),
				of("place, no longitude", "loc", `{"lat":52.5,"addr":""}`, amiss("body.lng")),
				of("place, no address", "loc", `{"lat":52.5,"lng":13.4}`, amiss("body.addr")),
				of("place, latitude of letters", "loc", `{"lat":"north","lng":13.4,"addr":""}`, amiss("body.lat")),
				of("custom, an event off its pattern", "custom", `{"customEvent":"a b"}`, amiss("body.customEvent")),
				of("custom, an event of 33", "custom", `{"customEvent":`+chars(33, "x")+`}`, amiss("body.customEvent")),
				of("custom, 16 exts", "custom", exts(16), taken),
				of("custom, 17 exts", "custom", exts(17), amiss("body.customExts")),
				of("custom, an ext that is an object", "custom", `{"customExts":{"a":{}}}`, badBody),
				{name: "types before everything", body: `{"from":"","to":7}`, want: badBody},
				{name: "from before to", body: `{"from":""}`, want: empty("from")},
				{name: "to before type", body: `{"to":[]}`, want: empty("to")},
				{name: "type before body", body: `{"to":["x"]}`, want: empty("type")},
				{name: "body before ext", body: `{"to":["x"],"type":"txt","ext":7}`, want: empty("body")},
				{name: "ext before the number of targets", body: `{"to":` + list(601, quoted) + `,"type":"smell","body":{"x":1},"ext":7}`, want: noObject},
				{name: "the number of targets before fields", body: `{"to":` + list(601, quoted) + `,"type":"smell","body":{"x":1}}`, want: unsent("params to's size can't exceed limit 600")},
			},
		},
		"send_message": {
			method: "POST", path: "/messages", body: `{"from":"amelia","target_type":"users","target":["bruno"],"msg":{"type":"txt","msg":"x"}}`,
			broken: badBody, mistyped: wrongType, nothing: kinds,
			params: []param{
				{name: "from", kind: text, missing: taken, values: []value{{"empty", `""`, says("from can't be empty")}, {"unknown", `"nobody"`, taken}, {"with a blank", `"a b"`, unfit}}},
				{name: "target_type", kind: text, missing: kinds, values: []value{{"empty", `""`, kinds}, {"unknown", `"user"`, kinds}, {"groups", `"chatgroups"`, taken}, {"rooms", `"chatrooms"`, taken}}},
				{name: "target", kind: strs, missing: unfit, values: []value{
					{"none", `[]`, unfit}, {"an empty one", `["bruno",""]`, unfit}, {"700", list(700, quoted), taken}, {"2,001", list(2001, quoted), unfit}, {"unknown", `["nobody"]`, taken},
				}},
				{name: "msg", kind: whatever, missing: unfit, values: []value{
					{"empty", `{}`, unfit},
					{"a text", `"x"`, unfit},
					{"a list", `[]`, unfit},
					{"no type", `{"msg":"x"}`, unfit},
					{"an unknown type", `{"type":"smell"}`, unfit},
					{"no text", `{"type":"txt"}`, unfit},
					{"text of a number", `{"type":"txt","msg":7}`, badBody},
					{"of 5,120 bytes", `{"type":"txt","msg":` + chars(5120, "x") + `}`, taken},
					{"of 5,121 bytes", `{"type":"txt","msg":` + chars(5121, "x") + `}`, large},
				}},
				{name: "ext", kind: whatever, missing: taken, values: []value{{"a list", `[]`, unfit}, {"a text", `"x"`, unfit}, {"too large", `{"k":` + chars(5120, "x") + `}`, large}}},
				{name: "sync_device", kind: flag, missing: taken},
				{name: "routetype", kind: text, missing: taken, values: []value{{"known", `"ROUTE_ONLINE"`, taken}, {"unknown", `"ROUTE_66"`, unfit}}},
			},
			more: []special{
				old("image to a group", "chatgroups", `{"type":"img","url":"u"}`, taken),
				old("image to a room, no url", "chatrooms", `{"type":"img","filename":"x"}`, unfit),
				old("too large for a room", "chatrooms", `{"type":"txt","msg":`+chars(5121, "x")+`}`, large),
			},
		},
	}
}

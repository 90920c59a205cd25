package contract

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func messageRows() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){"send_message_users": testSendToUsers}
}

func testSendToUsers(t *testing.T, f *fixture) {
	const path = "/messages/users"
	want := func(data string) string {
		return `{"path":"` + path + `","uri":"BASE` + path + `",` + app + `,"action":"post","data":` + data + `,` + times + `}`
	}
	send := func(to, more string) string { return `{"to":` + to + `,"type":"txt","body":{"msg":"x"}` + more + `}` }
	f.answers("POST", path, send(`["amelia"]`, ``), want(`{"amelia":"<text>"}`))
	f.answers("POST", path+"?x=1", send(`["amelia","Bruno","amelia"]`, `,"from":"carla","ext":{"a":[1]},"sync_device":"true","routetype":"ROUTE_ONLINE","x":1`),
		want(`{"amelia":"<text>","bruno":"<text>"}`))
	got := f.answers("POST", path, send(`["nobody","carla"]`, ``), want(`{"carla":"<text>","nobody":"<text>"}`))
	require.NotEqual(t, got.Body["data"].(map[string]any)["carla"], got.Body["data"].(map[string]any)["nobody"])
	f.refused(f.as(f.UserToken(t, "amelia"), "POST", path, send(`["bruno"]`, ``)), "a user", 401, "unauthorized", "Unable to authenticate (OAuth)")
	cases := []bad{}
	for name, body := range map[string]string{
		"an array": `[]`, "a string": `"x"`, "null": `null`,
		"one target without array": send(`"amelia"`, ``), "targets that are numbers": send(`[1]`, ``), "a target that is null": send(`[null]`, ``),
		"from is a number": send(`["amelia"]`, `,"from":7`), "type is a number": send(`["amelia"]`, `,"type":7`),
		"sync_device is a number": send(`["amelia"]`, `,"sync_device":1`), "routetype is an object": send(`["amelia"]`, `,"routetype":{}`),
		"a time that is a word": send(`["amelia"]`, `,"msg_timestamp":"soon"`),
	} {
		cases = append(cases, bad{name, "POST", path, body, 400, illegal, invalid})
	}
	f.refuses(false, cases...)
	f.refused(f.call("POST", path, `{"to":[}`), "no JSON", 400, "json_parse",
		"Unexpected character ('}' (code 125)): was expecting a value (string, number, object, array, true, false or null) at [line 1, column 8]")
}

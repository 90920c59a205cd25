package contract

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// bulkContactRows are the tests of the calls about many contacts.
func bulkContactRows() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){
		"import_contacts": testImportContacts, "check_contacts": testCheckContacts, "check_blocks": testCheckBlocks,
		"remove_all_contacts": testRemoveAllContacts, "get_roster_version": testRosterVersion,
	}
}

func testImportContacts(t *testing.T, f *fixture) {
	const path = "/users/amelia/contacts/import"
	want := func(data string) string {
		return `{"status":"ok","action":"post",` + app + `,"uri":"BASE` + path + `","entities":[],"data":` + data + `,` + times + `}`
	}
	got := f.answers("POST", path+"?isSendNotice=true", `{"usernames":["Bruno","nobody","AMELIA","a b","carla"]}`,
		want(`{"success":["Bruno","carla"],"NotExistFailed":["nobody","a b"],"maxLimitFailed":[],"UnKnowFailed":["AMELIA"]}`))
	require.Len(t, got.Body["data"], 4)
	require.Equal(t, []any{"carla", "bruno"}, f.names("/users/amelia/contacts/users"))
	require.Equal(t, []any{"amelia"}, f.names("/users/bruno/contacts/users"), "both ways")
	f.answers("POST", path, `{"usernames":["bruno"]}`, want(`{"success":["bruno"],"NotExistFailed":[],"maxLimitFailed":[],"UnKnowFailed":[]}`))

	full := newFixtureWith(t, f.server, `{"rate_counting":{"per_ip":false},"quotas":{"contacts_per_user":1}}`)
	full.t = t
	full.call("POST", "/users/bruno/contacts/users/carla", "")
	full.Register(t, "dario")
	full.answers("POST", path, `{"usernames":["bruno","dario"]}`, want(`{"success":["dario"],"NotExistFailed":[],"maxLimitFailed":["bruno"],"UnKnowFailed":[]}`))
	full.Register(t, "edda")
	full.refused(full.call("POST", path, `{"usernames":["edda"]}`), "full", 403, "exceed_limit", "Inviter's contact max count.")
	full.refused(full.call("POST", "/users/amelia/contacts/users/edda", ""), "full, by the other call", 403, "exceed_limit", "user contact number exceed limit")
	full.answers("POST", "/users/edda/contacts/import", `{"usernames":["bruno"]}`,
		strings.Replace(want(`{"success":[],"NotExistFailed":[],"maxLimitFailed":["bruno"],"UnKnowFailed":[]}`), "amelia", "edda", 1))
	f.refuses(false,
		bad{"none", "POST", path, `{"usernames":[]}`, 400, illegal, invalid},
		bad{"11", "POST", path, `{"usernames":` + list(11, quoted) + `}`, 400, illegal, "request user over flow limit:10."},
		bad{"unknown owner", "POST", "/users/nobody/contacts/import", `{"usernames":["bruno"]}`, 404, noResource, notFound})
}

// checked is the answer to a question about users, each "name relation".
func checked(path string, list ...string) string {
	all := make([]string, len(list))
	for i, r := range list {
		name, relation, _ := strings.Cut(r, " ")
		all[i] = fmt.Sprintf(`{"username":%q,"relation":%q}`, name, relation)
	}
	return `{"action":"post",` + app + `,"path":"` + path + `","uri":"BASE` + path + `","entities":[` + strings.Join(all, ",") + `],` + times + `}`
}

func testCheckContacts(_ *testing.T, f *fixture) {
	const path = "/contacts/check"
	f.call("POST", "/users/amelia/contacts/users/bruno", "")
	f.answers("POST", path, `{"username":"Amelia","check_list":["carla","BRUNO","nobody"]}`, checked(path, "carla not_friend", "BRUNO friend", "nobody not_friend"))
	f.checkRefuses(path)
}

func testCheckBlocks(_ *testing.T, f *fixture) {
	const path = "/blocks/check"
	f.call("POST", "/users/amelia/blocks/users", `{"usernames":["bruno"]}`)
	f.answers("POST", path, `{"username":"Amelia","check_list":["BRUNO"]}`, checked(path, "BRUNO blocked"))
	f.answers("POST", path, `{"username":"bruno","check_list":["amelia","nobody"]}`, checked(path, "amelia not_blocked", "nobody not_blocked"))
	f.checkRefuses(path)
}

func (f *fixture) checkRefuses(path string) {
	f.t.Helper()
	const size = "check_list size must be between 1 and 100"
	f.refuses(false,
		bad{"nobody", "POST", path, `{"check_list":["bruno"]}`, 400, illegal, "username cannot be blank"},
		bad{"none", "POST", path, `{"username":"amelia","check_list":[]}`, 400, illegal, size},
		bad{"101", "POST", path, `{"username":"amelia","check_list":` + list(101, quoted) + `}`, 400, illegal, size},
		bad{"unknown", "POST", path, `{"username":"nobody","check_list":["bruno"]}`, 404, noResource, notFound})
}

func testRemoveAllContacts(t *testing.T, f *fixture) {
	const path = "/contacts/users/amelia"
	want := `{"action":"delete",` + app + `,"path":"` + path + `","uri":"BASE` + path + `","entities":[],` + times + `}`
	f.call("POST", "/users/amelia/contacts/users/bruno", "")
	f.call("POST", "/users/carla/contacts/users/amelia", "")
	f.call("POST", "/users/carla/contacts/users/bruno", "")
	f.call("PUT", "/users/amelia/contacts/users/bruno", `{"remark":"Bro"}`)
	f.call("POST", "/users/amelia/blocks/users", `{"usernames":["bruno"]}`)
	for range 2 {
		f.answers("DELETE", path, "", want)
	}
	require.Empty(t, f.names("/users/amelia/contacts/users"))
	require.Equal(t, []any{"carla"}, f.names("/users/bruno/contacts/users"))
	require.Equal(t, []any{"bruno"}, f.names("/users/amelia/blocks/users"), "blocks stay")
	f.call("POST", "/users/amelia/contacts/users/bruno", "")
	got := f.call("GET", "/user/amelia/contacts", "")
	require.Equal(t, []any{map[string]any{"username": "bruno"}}, got.Body["data"].(map[string]any)["contacts"], "the remark is gone")
	f.refuses(false, bad{"unknown", "DELETE", "/contacts/users/nobody", "", 404, noResource, notFound})
}

func testRosterVersion(t *testing.T, f *fixture) {
	const path = "/user/amelia/roster/metadata/version"
	own := f.UserToken(t, "amelia")
	seen := make(map[string]bool)
	version := func() string {
		got := f.as(own, "GET", path+"?_v=1", "")
		f.matches(got, `{"action":"get","uri":"BASE`+path+`","data":{"version":"<text>","timestamp":"<ms>"},`+times+`}`)
		v := got.Body["data"].(map[string]any)["version"].(string)
		require.Regexp(t, `^[0-9A-F]{40}$`, v)
		return v
	}
	changes := func(method, path, body string) {
		t.Helper()
		require.Equal(t, 200, f.call(method, path, body).Status)
		v := version()
		require.False(t, seen[v], "%s %s", method, path)
		require.Equal(t, v, version())
		seen[v] = true
	}
	none := version()
	changes("POST", "/users/amelia/contacts/users/bruno", "")
	changes("POST", "/users/carla/contacts/users/amelia", "")
	changes("PUT", "/users/amelia/contacts/users/bruno", `{"remark":"Bro"}`)
	changes("DELETE", "/users/amelia/contacts/users/carla", "")
	require.Equal(t, 200, f.call("DELETE", "/contacts/users/amelia", "").Status)
	require.Equal(t, none, version())
	f.refuses(false, bad{"unknown", "GET", "/user/nobody/roster/metadata/version", "", 404, noResource, notFound})
}

// bulkContactTables say what may be wrong with those calls.
func bulkContactTables() map[string]table {
	check := func(path string) table {
		blank, size := says("username cannot be blank"), says("check_list size must be between 1 and 100")
		return table{
			method: "POST", path: path, body: `{"username":"amelia","check_list":["bruno"]}`, nothing: blank,
			params: []param{
				{"username", text, blank, []value{{"empty", `""`, blank}, {"of blanks", `"  "`, blank}, {"unknown", `"nobody"`, gone}, {"illegal", `"a b"`, gone}, {"in capitals", `"AMELIA"`, taken}}},
				{"check_list", strs, size, []value{{"none", `[]`, size}, {"100", list(100, quoted), taken}, {"101", list(101, quoted), size}, {"who cannot be", impossible, taken}}},
			},
		}
	}
	return map[string]table{
		"import_contacts": {
			method: "POST", path: "/users/{owner_username=amelia}/contacts/import", body: `{"usernames":["bruno"]}`, stranger: gone, nothing: unfit,
			params: []param{{"usernames", strs, unfit, []value{
				{"none", `[]`, unfit}, {"10", list(10, quoted), taken}, {"11", list(11, quoted), says("request user over flow limit:10.")}, {"who cannot be", impossible, taken},
			}}},
			more: []special{{name: "a broken query", path: "/users/amelia/contacts/import?isSendNotice=%zz", want: unfit}},
		},
		"check_contacts":      check("/contacts/check"),
		"check_blocks":        check("/blocks/check"),
		"remove_all_contacts": {method: "DELETE", path: "/contacts/users/{username=amelia}", stranger: gone},
		"get_roster_version":  {method: "GET", path: "/user/{username=amelia}/roster/metadata/version", who: appOrSelf, stranger: gone},
	}
}

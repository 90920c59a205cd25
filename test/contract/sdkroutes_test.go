package contract

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/services/gateway/routes"
	"github.com/chappe-im/chappe/test/harness"
)

// sdkRows are the tests of calls that have no rule, by the names under which
// they are counted.
func sdkRows() map[string]func(*testing.T, *fixture) {
	all := map[string]func(*testing.T, *fixture){
		"page_contacts": testPageContacts, "set_contact_remark": testSetContactRemark, "request_contacts": testRequestContacts,
		"accept_contact": testAcceptContact, "decline_contact": testDeclineContact, "remove_user_blocks": testRemoveBlocks,
		"get_token_expiry": testTokenExpiry, "list_connections": testListConnections,
	}
	maps.Copy(all, pushCallRows())
	maps.Copy(all, bulkContactRows())
	return all
}

func TestEveryUnlistedCallHasATest(t *testing.T) {
	t.Parallel()
	all, input := sdkRows(), sdkTables()
	for _, r := range routes.All() {
		if r.Unlisted == "" {
			continue
		}
		require.Contains(t, all, r.Unlisted, "the call has no contract test")
		require.Contains(t, input, r.Unlisted, "the call has no table of bad input")
	}
}

func TestSDKCalls(t *testing.T) {
	t.Parallel()
	server := harness.Start(t)
	all := sdkRows()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all[name](t, newFixture(t, server))
		})
	}
	t.Run("the default rate", func(t *testing.T) {
		t.Parallel()
		testDefaultRate(t, server)
	})
}

// done is the answer to a call that has nothing to tell.
func done(action, path string) string {
	return `{"action":"` + action + `","uri":"BASE` + path + `","entities":[],"data":{"result":true},` + times + `}`
}

// noted is the answer to a remark.
func noted(path string) string { return `{"status":"ok",` + done("put", path)[1:] }

// TestSDKBadInput makes every call of the tables with everything that may be
// wrong with it.
func TestSDKBadInput(t *testing.T) {
	t.Parallel()
	badInput(t, harness.Start(t), sdkTables(), `{"rate_counting":{"per_ip":false,"default":{"count":1000000,"per":"second","unit":"call","scope":"app"}}}`)
}

func testPageContacts(t *testing.T, f *fixture) {
	const path = "/users/amelia/contacts"
	page := func(n int, data string) string {
		return fmt.Sprintf(`{"action":"get","uri":"BASE%s","entities":[],"data":%s,%s,"count":%d}`, path, data, times, n)
	}
	f.answers("GET", path, "", page(0, `{"contacts":[]}`))
	f.call("POST", "/users/amelia/contacts/users/bruno", "")
	f.call("POST", "/users/amelia/contacts/users/carla", "")
	f.call("PUT", "/users/amelia/contacts/users/carla", `{"remark":"Carlita"}`)
	const bruno, carla = `{"username":"bruno","remark":""}`, `{"username":"carla","remark":"Carlita"}`
	f.answers("GET", path+"?needReturnRemark=true&limit=20&cursor=&_v=1", "", page(2, `{"contacts":[`+carla+`,`+bruno+`]}`))
	first := f.answers("GET", path+"?limit=1", "", strings.TrimSuffix(page(1, `{"contacts":[`+carla+`],"cursor":"<text>"}`), "}")+`,"cursor":"<text>"}`)
	cursor := first.Body["data"].(map[string]any)["cursor"].(string)
	require.Regexp(t, `^[A-Za-z0-9_-]+$`, cursor, "it goes into an address as it is")
	f.answers("GET", path+"?limit=1&cursor="+cursor, "", page(1, `{"contacts":[`+bruno+`]}`))

	// The server SDK has another path for the same.
	got := f.call("GET", "/user/Amelia/contacts?limit=50", "")
	require.Equal(t, 200, got.Status, "%s", got.Raw)
	require.Equal(t, []any{map[string]any{"username": "carla", "remark": "Carlita"}, map[string]any{"username": "bruno"}},
		got.Body["data"].(map[string]any)["contacts"], "a remark that is there was given")
	require.NotContains(t, got.Body["data"], "cursor", "who follows cursors would not stop")

	// The list without pages shows remarks when asked for them.
	f.answers("GET", "/users/amelia/contacts/users?needReturnRemark=true", "",
		`{"action":"get","uri":"BASE/users/amelia/contacts/users","entities":[`+carla+`,`+bruno+`],"data":["carla","bruno"],`+times+`,"count":2}`)
	f.refuses(false,
		bad{"unknown", "GET", "/users/nobody/contacts", "", 404, noResource, notFound},
		bad{"no limit", "GET", path + "?limit=0", "", 400, illegal, invalid},
		bad{"no cursor of ours", "GET", path + "?cursor=AAAA", "", 400, illegal, invalid})
}

func testSetContactRemark(t *testing.T, f *fixture) {
	f.call("POST", "/users/amelia/contacts/users/bruno", "")
	remark := func(owner string) any {
		got := f.call("GET", "/users/"+owner+"/contacts/users?needReturnRemark=true", "")
		require.Equal(t, 200, got.Status, "%s", got.Raw)
		return got.Body["entities"].([]any)[0].(map[string]any)["remark"]
	}
	const path = "/users/amelia/contacts/users/bruno"
	long := strings.Repeat("猫", 100)
	for range 2 {
		f.answers("PUT", path+"?resource=web_1", `{"remark":"`+long+`"}`, noted(path))
		require.Equal(t, long, remark("amelia"))
	}
	require.Empty(t, remark("bruno"), "it is amelia's note")
	f.answers("PUT", "/user/amelia/contacts/users/bruno", `{"remark":"Bro"}`, noted("/user/amelia/contacts/users/bruno"))
	require.Equal(t, "Bro", remark("amelia"))
	f.answers("PUT", path, `{"remark":""}`, noted(path))
	require.Empty(t, remark("amelia"))
	f.call("PUT", path, `{"remark":"Bro"}`)
	f.call("DELETE", path, "")
	f.call("POST", path, "")
	require.Empty(t, remark("amelia"), "a remark goes with the friend")
	f.refuses(false,
		bad{"no friend", "PUT", "/users/amelia/contacts/users/carla", `{"remark":"x"}`, 400, illegal, "updateRemark they are not friends, please add as a friend first."},
		bad{"101 characters", "PUT", path, `{"remark":"` + strings.Repeat("x", 101) + `"}`, 400, illegal, invalid},
		bad{"none", "PUT", path, `{}`, 400, illegal, invalid})
}

func testRequestContacts(t *testing.T, f *fixture) {
	const path = "/users/amelia/contacts/apply"
	for range 2 {
		f.answers("POST", path+"?resource=web_1", `{"usernames":["Bruno","carla"],"reason":"hello"}`, done("post", path))
	}
	require.Empty(t, f.names("/users/amelia/contacts/users"), "asked is not answered")
	require.Equal(t, 404, f.call("POST", "/users/amelia/contacts/accept/users/bruno", "").Status, "the asker cannot accept")
	for _, u := range []string{"bruno", "carla"} {
		require.Equal(t, 200, f.as(f.UserToken(t, u), "POST", "/users/"+u+"/contacts/accept/users/amelia", "").Status)
	}
	require.ElementsMatch(t, []any{"bruno", "carla"}, f.names("/users/amelia/contacts/users"))

	// Whoever has blocked the asker is not asked, and the asker does not learn it.
	f.call("POST", "/users/carla/blocks/users", `{"usernames":["bruno"]}`)
	require.Equal(t, 200, f.call("POST", "/users/bruno/contacts/apply", `{"usernames":["carla"]}`).Status)
	require.Equal(t, 404, f.call("POST", "/users/carla/contacts/accept/users/bruno", "").Status)
	f.refuses(false,
		bad{"one unknown", "POST", path, `{"usernames":["bruno","nobody"]}`, 404, noResource, notFound},
		bad{"self", "POST", path, `{"usernames":["AMELIA"]}`, 400, illegal, invalid},
		bad{"nobody", "POST", path, `{"usernames":[]}`, 400, illegal, invalid})
}

func testAcceptContact(t *testing.T, f *fixture) {
	const path = "/users/bruno/contacts/accept/users/amelia"
	f.refuses(false,
		bad{"was not asked", "POST", path, "", 404, noResource, notFound},
		bad{"self", "POST", "/users/bruno/contacts/accept/users/bruno", "", 404, noResource, notFound})
	f.call("POST", "/users/amelia/contacts/apply", `{"usernames":["bruno"]}`)
	own := f.UserToken(t, "bruno")
	for range 2 { // answered twice, perhaps on two devices
		f.matches(f.as(own, "POST", path+"?resource=web_1", ""), done("post", path))
	}
	require.Equal(t, []any{"bruno"}, f.names("/users/amelia/contacts/users"))
	require.Equal(t, []any{"amelia"}, f.names("/users/bruno/contacts/users"))
	f.call("DELETE", "/users/amelia/contacts/users/bruno", "")
	require.Equal(t, 404, f.call("POST", path, "").Status, "a request is good for one friendship")
}

func testDeclineContact(t *testing.T, f *fixture) {
	const path = "/users/bruno/contacts/decline/users/amelia"
	f.refuses(false, bad{"was not asked", "POST", path, "", 404, noResource, notFound})
	f.call("POST", "/users/amelia/contacts/apply", `{"usernames":["bruno"]}`)
	f.answers("POST", path+"?resource=web_1", "", done("post", path))
	require.Equal(t, 404, f.call("POST", path, "").Status)
	require.Equal(t, 404, f.call("POST", "/users/bruno/contacts/accept/users/amelia", "").Status)
	require.Empty(t, f.names("/users/amelia/contacts/users"))
	f.call("POST", "/users/amelia/contacts/apply", `{"usernames":["bruno"]}`)
	require.Equal(t, 200, f.call("POST", "/users/bruno/contacts/accept/users/amelia", "").Status, "asked once more")
}

func testRemoveBlocks(t *testing.T, f *fixture) {
	const path = "/sdk/user/amelia/blocks"
	want := func(action, list string) string {
		return `{"action":"` + action + `",` + app + `,"uri":"BASE","entities":[],"data":` + list + `,` + times + `}`
	}
	own := f.UserToken(t, "amelia")
	f.matches(f.as(own, "POST", path+"?resource=web_1", `{"usernames":["Bruno","carla"]}`), want("post", `["bruno","carla"]`))
	require.ElementsMatch(t, []any{"bruno", "carla"}, f.names("/users/amelia/blocks/users"))
	f.refuses(false,
		bad{"one unknown", "DELETE", path, `{"usernames":["bruno","nobody"]}`, 404, noResource, notFound},
		bad{"none", "DELETE", path, `{"usernames":[]}`, 400, illegal, invalid})
	require.Len(t, f.names("/users/amelia/blocks/users"), 2)
	for range 2 {
		f.matches(f.as(own, "DELETE", path+"?resource=web_1", `{"usernames":["BRUNO"]}`), want("delete", `["bruno"]`))
		require.Equal(t, []any{"carla"}, f.names("/users/amelia/blocks/users"))
	}
	f.eventually(func() bool {
		before := f.offline("amelia")
		require.Equal(t, 200, f.call("POST", "/messages/users", `{"from":"bruno","to":["amelia"],"type":"txt","body":{"msg":"x"}}`).Status)
		return f.offline("amelia") != before
	})
}

func testTokenExpiry(t *testing.T, f *fixture) {
	const path = "/sdk/users/amelia/token/expires"
	ask := func(ttl int) time.Time {
		issued := f.call("POST", "/token", fmt.Sprintf(`{"grant_type":"inherit","username":"amelia","ttl":%d}`, ttl))
		require.Equal(t, 200, issued.Status, "%s", issued.Raw)
		got := f.as(issued.Body["access_token"].(string), "GET", path+"?_v=1", "")
		f.matches(got, `{"expire_timestamp":"<ms>"}`)
		return time.UnixMilli(int64(got.Body["expire_timestamp"].(float64)))
	}
	require.WithinDuration(t, time.Now().Add(2*time.Hour), ask(7200), time.Minute)
	require.WithinDuration(t, time.Now().Add((1<<31-1)*time.Second), ask(0), time.Minute, "for ever is as far as clients count")
	require.Equal(t, 200, f.call("GET", path, "").Status, "the app's token ends too")
	f.refuses(false, bad{"unknown", "GET", "/sdk/users/nobody/token/expires", "", 404, noResource, notFound})
}

func testListConnections(t *testing.T, f *fixture) {
	const path = "/users/amelia/resources"
	want := func(n int, list string) string {
		return fmt.Sprintf(`{"action":"get","path":"/users/amelia/resources","uri":"BASE%s","entities":[],"data":%s,%s,"count":%d}`, path, list, times, n)
	}
	f.answers("GET", path, "", want(0, `[]`))
	phone := f.Dial(t, "amelia", msyncclient.Options{Resource: "webim_random_1"})
	f.Dial(t, "bruno", msyncclient.Options{})
	f.answers("GET", path+"?_v=1", "", want(1, `[{"res":"webim_random_1","platform":"<text>"}]`))
	require.NoError(t, phone.Logout())
	f.eventually(func() bool { return len(f.names(path)) == 0 })
	f.refuses(false, bad{"unknown", "GET", "/users/nobody/resources", "", 404, noResource, notFound})
	require.Equal(t, 401, f.as(f.UserToken(t, "bruno"), "GET", path, "").Status)
}

// testDefaultRate makes sure that calls without a rule have the default rate,
// each by itself.
func testDefaultRate(t *testing.T, server *harness.Server) {
	f := newFixtureWith(t, server, `{"rate_counting":{"per_ip":false,"default":{"count":3,"per":"minute","unit":"call","scope":"app"}}}`)
	for range 3 {
		require.Equal(t, 200, f.call("GET", "/users/amelia/contacts", "").Status)
	}
	got := f.call("GET", "/user/bruno/contacts", "")
	f.refused(got, "the fourth", 429, "reach_limit", "This request has reached api limit")
	require.Equal(t, "3", got.Header.Get("X-Ratelimit-Limit"))
	require.Equal(t, 200, f.call("GET", "/users/amelia/resources", "").Status, "another call")
	require.Equal(t, 200, f.call("GET", "/users/amelia/contacts/users", "").Status, "a call with a rule")
}

// sdkTables say what may be wrong with the calls.
func sdkTables() map[string]table {
	requested := func(f *fixture) { f.call("POST", "/users/bruno/contacts/apply", `{"usernames":["amelia"]}`) }
	lists := []value{{"of one who cannot exist", `["a b"]`, gone}, {"of nobody", `["nobody"]`, gone}, {"of oneself", `["Amelia"]`, unfit}, {"empty", `[]`, unfit}}
	tooMany := says("getContacts | page size more than max limit : 50")
	few := []value{{"0", "0", unfit}, {"-1", "-1", unfit}, {"1", "1", taken}, {"50", "50", taken}, {"51", "51", tooMany}, {"1000000", "1000000", tooMany}}
	noFriends := says("updateRemark they are not friends, please add as a friend first.")
	cursors := []value{{"nonsense", "x", unfit}, {"empty", "", taken}, {"long", strings.Repeat("x", 2000), unfit}, {"padded", "AAAA%3D%3D", unfit}}
	all := map[string]table{
		"page_contacts": {
			method: "GET", path: "/users/{owner_username=amelia}/contacts", who: appOrSelf, stranger: gone,
			query: []param{{"limit", number, taken, few}, {"cursor", text, taken, cursors}},
		},
		"set_contact_remark": {
			method: "PUT", path: "/users/{owner_username=amelia}/contacts/users/{friend_username=bruno}", body: `{"remark":"x"}`,
			who: appOrSelf, stranger: gone, nothing: unfit,
			params: []param{{"remark", text, unfit, []value{
				{"empty", `""`, taken}, {"of 100 characters", chars(100, "猫"), taken}, {"of 101 characters", chars(101, "x"), unfit}, {"with NUL", `"a\u0000"`, unfit},
			}}},
			inPath:  map[string][]value{"friend_username": {{"no friend", "carla", noFriends}, {"self", "amelia", noFriends}, {"in capitals", "BRUNO", taken}}},
			prepare: func(f *fixture) { f.call("POST", "/users/amelia/contacts/users/bruno", "") },
		},
		"request_contacts": {
			method: "POST", path: "/users/{owner_username=amelia}/contacts/apply", body: `{"usernames":["bruno"],"reason":"x"}`,
			who: appOrSelf, stranger: gone, nothing: unfit,
			params: []param{
				{"usernames", strs, unfit, append(slices.Clone(lists), value{"of 101", list(101, quoted), unfit}, value{"twice the same", `["bruno","BRUNO"]`, taken})},
				{"reason", text, taken, []value{{"of 512 characters", chars(512, "é"), taken}, {"of 513 characters", chars(513, "x"), unfit}, {"with NUL", `"a\u0000"`, unfit}}},
			},
			inPath: map[string][]value{"owner_username": {{"the one asked", "bruno", unfit}}},
		},
		"accept_contact": {
			method: "POST", path: "/users/{owner_username=amelia}/contacts/accept/users/{friend_username=bruno}", who: appOrSelf, stranger: gone,
			query:   []param{{"resource", text, taken, []value{{"of nobody", "web_1", taken}, {"empty", "", taken}, {"long", strings.Repeat("x", 2000), taken}}}},
			inPath:  map[string][]value{"friend_username": {{"who did not ask", "carla", gone}, {"self", "amelia", gone}}},
			prepare: requested,
		},
		"decline_contact": {
			method: "POST", path: "/users/{owner_username=amelia}/contacts/decline/users/{friend_username=bruno}", who: appOrSelf, stranger: gone,
			inPath:  map[string][]value{"friend_username": {{"who did not ask", "carla", gone}, {"self", "amelia", gone}}},
			prepare: requested, once: true,
		},
		"remove_user_blocks": {
			method: "DELETE", path: "/sdk/user/{owner_username=amelia}/blocks", body: `{"usernames":["bruno"]}`, who: appOrSelf, stranger: gone, nothing: unfit,
			params:  []param{{"usernames", strs, unfit, append(slices.Clone(lists), value{"of one who is not blocked", `["carla"]`, taken})}},
			inPath:  map[string][]value{"owner_username": {{"the one named", "bruno", unfit}}},
			prepare: func(f *fixture) { f.call("POST", "/users/amelia/blocks/users", `{"usernames":["bruno"]}`) },
		},
		"get_token_expiry": {method: "GET", path: "/sdk/users/{username=amelia}/token/expires", who: appOrSelf, stranger: gone},
		"list_connections": {method: "GET", path: "/users/{username=amelia}/resources", who: appOrSelf, stranger: gone},
	}
	maps.Copy(all, pushCallTables())
	maps.Copy(all, bulkContactTables())
	return all
}

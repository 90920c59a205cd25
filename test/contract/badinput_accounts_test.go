package contract

import (
	"maps"
	"strings"
)

// tables are all tables of bad input by rule.
func tables() map[string]table {
	all := make(map[string]table)
	for _, area := range []map[string]table{
		tokenTables(), accountTables(), stateTables(), pushTables(), attributeTables(), relationTables(), muteTables(), presenceTables(), messageTables(),
	} {
		maps.Copy(all, area)
	}
	return all
}

// elsewhereNamed are fields of requests that a table does not name, and why.
var elsewhereNamed = map[string]string{
	"add_contact.resource":             "client connections say it",
	"disconnect_user.resource":         "stands in a path of its own, among the special cases",
	"list_contacts.need_return_remark": "no value of it is refused, see testPageContacts",
}

// chars is a JSON string of n characters.
func chars(n int, c string) string { return `"` + strings.Repeat(c, n) + `"` }

// impossible are users who cannot exist.
var impossible = `["a b","","a\u0000b","🎨",` + chars(65, "x") + `]`

var (
	noUsername = says("Entity user requires a property named username")
	noPassword = says("password or pin must provided")
	tooLong    = says("USERNAME_TOO_LONG")
	longNick   = says("NICKNAME_TOO_LONG")
	notUnique  = refusal{400, "duplicate_unique_property_exists", ""}
	notOpen    = refusal{401, "unauthorized", "registration is not open, please contact the app admin"}
	badGrant   = refusal{400, "invalid_grant", "invalid password"}
	noUser     = refusal{404, "invalid_grant", "user not found"}
	noEntity   = refusal{404, "entity_not_found", "User null not found"}
	noProperty = refusal{400, "required_property_not_found", "Entity user requires a property named username"}
	noClient   = says("client_id must be provided.")
	badClient  = refusal{400, "invalid_grant", "client_id does not match"}
	badSecret  = refusal{400, "invalid_grant", "client_secret does not match"}
)

// notLegal is the answer to an ID that no user can have.
func notLegal(id string) refusal { return says("username [" + id + "] is not legal") }

func tokenTables() map[string]table {
	long := chars(100_000, "x")
	return map[string]table{"get_token": {
		method: "POST", path: "/token", guarded: true, body: `{"grant_type":"inherit","username":"amelia","autoCreateUser":true,"ttl":7200}`, who: anybody, nothing: unfit,
		params: []param{
			{"grant_type", text, unfit, []value{{"empty", `""`, unfit}, {"unknown", `"magic"`, unfit}, {"in capitals", `"INHERIT"`, unfit}, {"long", long, unfit}}},
			{"username", text, notLegal(""), []value{
				{"empty", `""`, notLegal("")},
				{"illegal", `"a b"`, notLegal("a b")},
				{"of 65 bytes", chars(65, "x"), tooLong},
				{"of 64 bytes", chars(64, "x"), taken},
				{"long", long, tooLong},
				{"in capitals", `"AMELIA"`, taken},
			}},
			{"autoCreateUser", flag, taken, []value{{"as text", `"true"`, taken}, {"false", `false`, taken}}},
			{"ttl", number, taken, []value{
				{"negative", `-1`, unfit},
				{"0", `0`, taken},
				{"1", `1`, taken},
				{"as text", `"1024000"`, taken},
				{"the largest 32-bit", `2147483647`, taken},
				{"larger", `2147483648`, taken},
				{"the largest", `9223372036854775807`, taken},
				{"beyond", `9223372036854775808`, unfit},
			}},
			{"client_id", text, taken, nil},
			{"client_secret", text, taken, nil},
			{"password", text, taken, nil},
		},
		more: []special{
			{name: "inherit without token", token: "none", want: noToken},
			{name: "inherit, corrupt token", token: "corrupt", want: corrupt},
			{name: "inherit, another app's token", token: "foreign", want: corrupt},
			{name: "inherit, a forged token", token: "forged", want: unknown},
			{name: "inherit, expired token", token: "expired", want: noToken},
			{name: "inherit, a user's token", token: "amelia", want: corrupt},
			{name: "inherit, nobody", body: `{"grant_type":"inherit"}`, want: noEntity},
			{name: "inherit, unknown", body: `{"grant_type":"inherit","username":"nobody"}`, want: noEntity},
			{name: "inherit, illegal", body: `{"grant_type":"inherit","username":"a b"}`, want: noEntity},
			{name: "password, nobody", body: `{"grant_type":"password"}`, token: "none", want: noUser},
			{name: "password, none", body: `{"grant_type":"password","username":"amelia"}`, token: "none", want: badGrant},
			{name: "password, empty, of one who has none", body: `{"grant_type":"password","username":"amelia","password":""}`, token: "none", want: badGrant},
			{name: "password, too long", body: `{"grant_type":"password","username":"amelia","password":` + long + `}`, token: "none", want: badGrant},
			{name: "password, unknown", body: `{"grant_type":"password","username":"nobody","password":"x"}`, token: "none", want: noUser},
			{name: "password, illegal", body: `{"grant_type":"password","username":"a b","password":"x"}`, token: "none", want: noUser},
			{name: "password, a corrupt token", body: `{"grant_type":"password","username":"amelia","password":"x"}`, token: "corrupt", want: badGrant},
			{name: "client, nothing", body: `{"grant_type":"client_credentials"}`, token: "none", want: noClient},
			{name: "client, empty", body: `{"grant_type":"client_credentials","client_id":"","client_secret":""}`, token: "none", want: noClient},
			{name: "client, unknown", body: `{"grant_type":"client_credentials","client_id":"YXA6x","client_secret":"x"}`, token: "none", want: badClient},
			{name: "client, no secret", body: `{"grant_type":"client_credentials","client_id":"CLIENT"}`, token: "none", want: says("client_secret must be provided")},
			{name: "client, empty secret", body: `{"grant_type":"client_credentials","client_id":"CLIENT","client_secret":""}`, token: "none", want: says("client_secret must be provided")},
			{name: "client, long secret", body: `{"grant_type":"client_credentials","client_id":"CLIENT","client_secret":` + long + `}`, token: "none", want: badSecret},
			{name: "client, negative life", body: `{"grant_type":"client_credentials","client_id":"CLIENT","client_secret":"SECRET","ttl":-1}`, token: "none", want: unfit},
			{name: "client", body: `{"grant_type":"client_credentials","client_id":"CLIENT","client_secret":"SECRET"}`, token: "none", want: taken},
		},
	}}
}

func accountTables() map[string]table {
	illegalNames := []value{
		{"with a blank", `"a b"`, notLegal("a b")},
		{"with a slash", `"a/b"`, notLegal("a/b")},
		{"with NUL", `"a\u0000b"`, notLegal("a\x00b")},
		{"with @", `"a@b"`, notLegal("a@b")},
		{"with a number sign", `"a\u0023b"`, notLegal("a#b")},
		{"not ASCII", `"amélie"`, notLegal("amélie")},
		{"a picture", `"🎨"`, notLegal("🎨")},
		{"empty", `""`, notLegal("")},
		{"of 65 bytes", chars(65, "x"), tooLong},
		{"long", chars(100_000, "x"), tooLong},
	}
	page := []param{
		{"limit", number, taken, []value{
			{"0", "0", unfit}, {"-1", "-1", unfit}, {"1", "1", taken}, {"100", "100", taken}, {"101", "101", taken}, {"the largest", "2147483647", taken},
		}},
		{"cursor", text, taken, []value{
			{"of nobody", "nothing", unfit},
			{"short", "AAAA", unfit},
			{"long", strings.Repeat("A", 5000), unfit},
			{"padded", strings.Repeat("A", 32) + "%3D", unfit},
			{"with a line end", strings.Repeat("A", 32) + "%0A", unfit},
			{"not URL-safe", strings.Repeat("A", 31) + "%2B", unfit},
			{"empty", "", taken},
		}},
	}
	// Nobody is listed, and nobody deleted, whom a filter may have left out.
	filters := []special{
		{name: "a filter", path: "/users?ql=created%20%3E%2010", want: unfit},
		{name: "an empty filter", path: "/users?ql=", want: unfit},
		{name: "a filter and a limit", path: "/users?limit=1&ql=x", want: unfit},
	}
	open := func(name, body string, want refusal) []special {
		var all []special
		for _, token := range []string{"none", "corrupt", "foreign", "expired", "amelia"} {
			all = append(all, special{name: name + ", token " + token, body: body, token: token, want: want})
		}
		return all
	}
	return map[string]table{
		"register_user": {
			method: "POST", path: "/users", body: `{"username":"new-#","nickname":"N"}`, who: anybody, nothing: noUsername,
			params: []param{
				{"username", text, noUsername, append([]value{
					{"there", `"amelia"`, notUnique}, {"there in capitals", `"AMELIA"`, notUnique}, {"of 64 bytes", chars(64, "x"), taken}, {"of 1 byte", `"x"`, taken},
				}, illegalNames...)},
				{"password", text, taken, []value{
					{"empty", `""`, noPassword}, {"of 64", chars(64, "é"), taken}, {"of 65", chars(65, "x"), unfit}, {"long", chars(100_000, "x"), unfit},
				}},
				{"nickname", text, taken, []value{{"empty", `""`, taken}, {"of 100", chars(100, "é"), taken}, {"of 101", chars(101, "x"), longNick}, {"with NUL", `"a\u0000"`, unfit}}},
			},
			more: open("not open", `{"username":"new-#","password":"x"}`, notOpen),
		},
		"register_users_batch": {
			method: "POST", path: "/users", body: `{"username":"new-#","password":"x"}`, wrap: [2]string{"[", "]"}, who: anybody, nothing: noUsername,
			params: []param{
				{"username", text, noUsername, append([]value{{"there", `"amelia"`, taken}, {"of 64 bytes", chars(64, "x"), taken}}, illegalNames...)},
				{"password", text, noPassword, []value{{"empty", `""`, noPassword}, {"of 64", chars(64, "é"), taken}, {"of 65", chars(65, "x"), unfit}}},
				{"nickname", text, taken, []value{{"empty", `""`, taken}, {"of 100", chars(100, "é"), taken}, {"of 101", chars(101, "x"), longNick}, {"with NUL", `"a\u0000"`, unfit}}},
			},
			more: append(open("not open", `[{"username":"new-#","password":"x"}]`, notOpen),
				special{name: "60", body: list(60, sameUser), want: taken},
				special{name: "61", body: list(61, sameUser), want: says("Request body array size[61] had almost reached or been greater than the upper range value[60]")},
				special{name: "one illegal", body: `[{"username":"new-#","password":"x"},{"username":"a b","password":"x"}]`, want: notLegal("a b")},
				special{name: "one twice, two passwords", body: `[{"username":"twice","password":"x"},{"username":"TWICE","password":"y"}]`, want: refusal{
					400, "duplicate_unique_property_exists", "the same user twice has a different password, the passwords are ***",
				}},
				special{name: "one is no object", body: `[{"username":"new-#","password":"x"},7]`, want: unfit},
				special{name: "one is null", body: `[{"username":"new-#","password":"x"},null]`, want: unfit},
				special{name: "one is a list", body: `[{"username":"new-#","password":"x"},[]]`, want: unfit},
				special{name: "one without username", body: `[{"username":"new-#","password":"x"},{"password":"x"}]`, want: noUsername},
				special{name: "one without password", body: `[{"username":"new-#","password":"x"},{"username":"new-x"}]`, want: noPassword},
				special{name: "twice", body: `[{"username":"new-#","password":"x"},{"username":"NEW-#","password":"x"}]`, want: taken},
			),
		},
		"get_user":    {method: "GET", path: "/users/{username=amelia}", stranger: gone},
		"list_users":  {method: "GET", path: "/users", query: page, more: filters},
		"delete_user": {method: "DELETE", path: "/users/{username=amelia}", stranger: gone, once: true},
		// A good call leaves nobody.
		"delete_users_batch": {method: "DELETE", path: "/users", query: page, more: filters},
		"change_password": {
			method: "PUT", also: "POST", path: "/users/{username=amelia}/password", guarded: true, body: `{"newpassword":"new"}`,
			who: appOrSelf, self: says("oldPassword is required"),
			stranger: noEntity, nothing: says("newpassword is required"),
			params: []param{
				{"newpassword", text, says("newpassword is required"), []value{
					{"empty", `""`, says("newpassword is required")}, {"of 64", chars(64, "é"), taken}, {"of 65", chars(65, "x"), unfit}, {"long", chars(100_000, "x"), unfit},
				}},
				{"oldpassword", text, taken, []value{{"of the app", `"whatever"`, taken}}},
				{"oldPassword", text, taken, nil},
			},
			more: []special{
				{name: "own, no old one", token: "amelia", body: `{"newpassword":"x","oldpassword":""}`, want: says("oldPassword is required")},
				{name: "own, no new one", token: "amelia", body: `{"oldPassword":"x"}`, want: says("newpassword is required")},
				{name: "own, wrong", token: "amelia", body: `{"newpassword":"x","oldpassword":"wrong"}`, want: refusal{401, "unauthorized", "oldPassword does not match"}},
				{name: "own, much too long", token: "amelia", body: `{"newpassword":"x","oldpassword":` + chars(100_000, "x") + `}`, want: refusal{401, "unauthorized", "oldPassword does not match"}},
				{name: "own, a number", token: "amelia", body: `{"newpassword":"x","oldpassword":7}`, want: unfit},
			},
		},
	}
}

func sameUser(int) string { return `{"username":"amelia","password":"x"}` }

// stateTables are those of what a user is: online, away, banned.
func stateTables() map[string]table {
	ignored := []special{{name: "a body nobody reads", body: `{"x":`, want: taken}}
	return map[string]table{
		"get_user_online_status": {method: "GET", path: "/users/{username=amelia}/status", stranger: gone},
		"get_users_online_status_batch": {
			method: "POST", path: "/users/batch/status", body: `{"usernames":["amelia","nobody"]}`, nothing: unfit,
			params: []param{{"usernames", strs, unfit, []value{
				{"none", `[]`, unfit},
				{"100", list(100, quoted), taken},
				{"101", list(101, quoted), says("request body exceeds maximum limit, maximum limit is 100")},
				{"one twice", `["amelia","AMELIA","amelia"]`, taken},
				{"who cannot be", impossible, taken},
			}}},
		},
		"get_offline_message_count": {method: "GET", path: "/users/{username=amelia}/offline_msg_count", stranger: gone},
		"get_offline_message_status": {
			method: "GET", path: "/users/{username=amelia}/offline_msg_status/{message_id:1029457500870543736}", stranger: gone,
			inPath: map[string][]value{"message_id": {
				{"of letters", "abc", unfit},
				{"negative", "-1", unfit},
				{"with a fraction", "1.5", unfit},
				{"too large", "9223372036854775808", unfit},
				{"of 2,000 digits", strings.Repeat("1", 2000), unfit},
				{"blank", "%20", unfit},
				{"unknown", "17", taken},
				{"the largest", "9223372036854775807", taken},
			}},
		},
		"deactivate_user": {method: "POST", path: "/users/{username=amelia}/deactivate", stranger: gone, more: ignored},
		"activate_user":   {method: "POST", path: "/users/{username=amelia}/activate", stranger: gone, more: ignored},
		"disconnect_user": {
			method: "GET", path: "/users/{username=amelia}/disconnect", stranger: gone,
			more: []special{
				{name: "unknown, one device", path: "/users/nobody/disconnect/web_1", want: gone},
				{name: "cannot be, one device", path: "/users/a%20b/disconnect/web_1", want: gone},
				{name: "device of no UTF-8", path: "/users/amelia/disconnect/a%FFb", want: unfit},
				{name: "device not there", path: "/users/amelia/disconnect/web_1", want: taken},
				{name: "device with a long name", path: "/users/amelia/disconnect/" + strings.Repeat("x", 2000), want: taken},
			},
		},
	}
}

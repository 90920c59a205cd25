package contract

import "strings"

func pushTables() map[string]table {
	// A call changes what it names and must name something.
	bad := func(name string) refusal { return says("parameters is invalid : " + name) }
	style, begins, ends := bad("notification_display_style"), bad("notification_no_disturbing_start"), bad("notification_no_disturbing_end")
	tooManyDigits := "notification_ignore_" + strings.Repeat("1", 33)
	row := func(own, body string) table {
		params := []param{
			{"nickname", text, taken, []value{{"empty", `""`, taken}, {"of 100", chars(100, "é"), taken}, {"of 101", chars(101, "x"), longNick}, {"with NUL", `"a\u0000"`, bad("nickname")}}},
			{"notification_display_style", number, taken, []value{
				{"0", `0`, taken}, {"1 as text", `"1"`, taken}, {"-1", `-1`, style}, {"2", `2`, style}, {"large", `2147483648`, style},
			}},
			{"notification_no_disturbing", flag, taken, []value{{"as text", `"true"`, taken}, {"false", `false`, taken}}},
			{"notification_no_disturbing_start", number, taken, hours(begins)},
			{"notification_no_disturbing_end", number, taken, hours(ends)},
			{"notification_ignore_184524748161025", flag, taken, []value{{"as text", `"false"`, taken}}},
			{"notification_ignore_abc", flag, taken, []value{{"of no group", `true`, bad("notification_ignore_abc")}}},
			{tooManyDigits, flag, taken, []value{{"of too many digits", `true`, bad(tooManyDigits)}}},
			{"notifier_name", text, taken, []value{{"of 512", chars(512, "x"), taken}, {"of 513", chars(513, "x"), bad("notifier_name")}, {"with NUL", `"a\u0000"`, bad("notifier_name")}}},
			{"device_token", text, taken, []value{{"of 512", chars(512, "x"), taken}, {"of 513", chars(513, "x"), bad("device_token")}}},
			{"device_id", text, taken, []value{{"of 512", chars(512, "x"), taken}, {"of 513", chars(513, "x"), bad("device_id")}}},
		}
		for i := range params {
			if params[i].name == own {
				params[i].missing = unfit
			}
		}
		return table{
			method: "PUT", path: "/users/{username=amelia}", body: body, who: appOrSelf, stranger: noProperty, nothing: unfit, params: params,
			mistyped: func(name string) refusal {
				if name == "" {
					return unfit
				}
				return bad(name)
			},
			more: []special{
				{name: "nothing known", body: `{"colour":"red"}`, want: unfit},
				{name: "one of two does not fit", body: `{"nickname":"N","notification_display_style":7}`, want: style},
				{name: "no group", body: `{"notification_ignore_":true}`, want: unfit},
			},
		}
	}
	return map[string]table{
		"set_push_nickname":       row("nickname", `{"nickname":"N"}`),
		"set_push_display_style":  row("notification_display_style", `{"notification_display_style":1}`),
		"set_push_do_not_disturb": row("notification_no_disturbing", `{"notification_no_disturbing":true}`),
	}
}

func hours(bad refusal) []value {
	return []value{
		{"-1", `-1`, bad}, {"24", `24`, bad}, {"24 as text", `"24"`, bad}, {"large", `2147483648`, bad}, {"0", `0`, taken}, {"23 as text", `"23"`, taken},
	}
}

func attributeTables() map[string]table {
	tooLarge := refusal{403, "FORBIDDEN", "size of metadata for this single user exceeds the user defined limit, 2048Bytes"}
	notYours := refusal{401, "metadata_error", "auth error"}
	return map[string]table{
		"set_user_attributes": {
			method: "PUT", path: "/metadata/user/{username=amelia}", body: `{"k":"v"}`, who: appOrSelf, foreign: notYours, stranger: taken, impossible: unfit, nothing: unfit,
			more: []special{
				{name: "an empty object", body: `{}`, want: unfit},
				{name: "null for a value", body: `{"k":"v","a":null}`, want: unfit},
				{name: "an object for a value", body: `{"k":"v","a":{}}`, want: unfit},
				{name: "a list for a value", body: `{"k":"v","a":[]}`, want: unfit},
				{name: "no name", body: `{"":"v"}`, want: unfit},
				{name: "no name in a form", body: `=v`, want: unfit},
				{name: "a broken escape in a form", body: `k=%zz`, want: unfit},
				{name: "no UTF-8 in a form", body: `k=%ff`, want: unfit},
				{name: "no UTF-8, not escaped, in a form", body: "k=\xff", want: unfit},
				{name: "a semicolon in a form", body: `k=1;b=2`, want: taken},
				{name: "2,049 bytes", body: "k=" + strings.Repeat("x", 2048), want: tooLarge},
				{name: "2,049 bytes of two-byte characters", body: "k=" + strings.Repeat("é", 1024), want: tooLarge},
				{name: "a long name", body: strings.Repeat("k", 2049) + "=", want: tooLarge},
				{name: "2,048 bytes", body: "k=" + strings.Repeat("x", 2047), want: taken},
				{name: "a number", body: `{"k":7}`, want: taken},
				{name: "a form", body: `k=v&m=`, want: taken},
			},
		},
		"get_user_attributes":          {method: "GET", path: "/metadata/user/{username=amelia}", who: appOrUser, stranger: taken},
		"get_user_attributes_capacity": {method: "GET", path: "/metadata/user/capacity"},
		"get_users_attributes_batch": {
			method: "POST", path: "/metadata/user/get", body: `{"targets":["amelia"],"properties":["k"]}`, who: appOrUser, nothing: unfit,
			params: []param{
				{"targets", strs, unfit, []value{
					{"none", `[]`, unfit},
					{"100", list(100, quoted), taken},
					{"101", list(101, quoted), refusal{400, "BAD_REQUEST", "exceed allowed batch size 100"}},
					{"one twice", `["amelia","AMELIA","amelia"]`, taken},
					{"who cannot be", impossible, taken},
				}},
				{"properties", strs, taken, []value{{"none", `[]`, taken}, {"an empty one", `[""]`, taken}, {"one twice", `["k","k"]`, taken}, {"1,000", list(1000, quoted), taken}}},
			},
		},
		"delete_user_attributes": {method: "DELETE", path: "/metadata/user/{username=amelia}", who: appOrSelf, foreign: notYours, stranger: taken},
	}
}

func relationTables() map[string]table {
	full := refusal{403, "forbidden_op", "the block list is full: at most 500 users"}
	return map[string]table{
		"add_contact": {
			method: "POST", path: "/users/{owner_username=amelia}/contacts/users/{friend_username=bruno}", stranger: gone,
			inPath: map[string][]value{
				"friend_username": {{"self", "amelia", unfit}, {"self in capitals", "AMELIA", unfit}, {"in capitals", "BRUNO", taken}},
				"owner_username":  {{"self", "bruno", unfit}},
			},
			more: []special{{name: "a body nobody reads", body: `{"x":`, want: taken}},
		},
		"remove_contact": {
			method: "DELETE", path: "/users/{owner_username=amelia}/contacts/users/{friend_username=bruno}", who: appOrSelf, stranger: gone,
			inPath: map[string][]value{"friend_username": {{"no friend", "carla", taken}, {"self", "amelia", taken}}},
			query:  []param{{"resource", text, taken, []value{{"of nobody", "web_1", taken}, {"empty", "", taken}, {"long", strings.Repeat("x", 2000), taken}}}},
		},
		"list_contacts": {method: "GET", path: "/users/{owner_username=amelia}/contacts/users", who: appOrSelf, stranger: gone},
		"list_user_blocks": {
			method: "GET", path: "/users/{owner_username=amelia}/blocks/users", who: appOrSelf, stranger: gone,
			query: []param{
				{"pageSize", number, taken, []value{{"0", "0", unfit}, {"-1", "-1", unfit}, {"1", "1", taken}, {"50", "50", taken}, {"51", "51", unfit}, {"the largest", "2147483647", unfit}}},
				{"cursor", text, taken, []value{{"of nobody", "nothing", unfit}, {"short", "AAAA", unfit}, {"long", strings.Repeat("A", 5000), unfit}, {"empty", "", taken}}},
			},
		},
		"add_user_blocks": {
			method: "POST", path: "/users/{owner_username=amelia}/blocks/users", body: `{"usernames":["bruno"]}`, who: appOrSelf, stranger: gone, nothing: unfit,
			params: []param{{"usernames", strs, unfit, []value{
				{"none", `[]`, unfit},
				{"self", `["amelia"]`, unfit},
				{"self among others", `["bruno","AMELIA"]`, unfit},
				{"unknown", `["nobody"]`, gone},
				{"unknown among others", `["bruno","nobody"]`, gone},
				{"who cannot be", `["a b"]`, gone},
				{"empty", `[""]`, gone},
				{"of 65 bytes", `[` + chars(65, "x") + `]`, gone},
				{"500 unknown", list(500, quoted), gone},
				{"501", list(501, quoted), full},
				{"one twice", `["bruno","BRUNO"]`, taken},
			}}},
		},
		"remove_user_block": {
			method: "DELETE", path: "/users/{owner_username=amelia}/blocks/users/{blocked_username=bruno}", who: appOrSelf, stranger: gone,
			inPath: map[string][]value{"blocked_username": {{"not blocked", "carla", taken}, {"self", "amelia", taken}}},
		},
	}
}

func muteTables() map[string]table {
	seconds := []value{
		{"-2", `-2`, unfit}, {"too large", `2147483648`, unfit}, {"the largest", `2147483647`, taken}, {"as text", `"600"`, taken}, {"for ever", `-1`, taken}, {"lifted", `0`, taken},
	}
	return map[string]table{
		"set_global_mute": {
			method: "POST", path: "/mutes", body: `{"username":"amelia","chat":600}`, nothing: noProperty,
			params: []param{
				{"username", text, noProperty, []value{
					{"empty", `""`, noProperty}, {"unknown", `"nobody"`, noProperty}, {"illegal", `"a b"`, noProperty}, {"of 65 bytes", chars(65, "x"), noProperty}, {"in capitals", `"AMELIA"`, taken},
				}},
				{"chat", number, taken, seconds},
				{"groupchat", number, taken, seconds},
				{"chatroom", number, taken, seconds},
			},
			more: []special{
				{name: "one of two does not fit", body: `{"username":"amelia","chat":600,"chatroom":-2}`, want: unfit},
				{name: "no kind", body: `{"username":"amelia"}`, want: taken},
			},
		},
		"get_global_mute": {method: "GET", path: "/mutes/{username=amelia}", stranger: noProperty},
		"list_global_mutes": {method: "GET", path: "/mutes", query: []param{
			{"pageNum", number, taken, []value{{"0", "0", unfit}, {"-1", "-1", unfit}, {"1", "1", taken}, {"the largest", "2147483647", taken}}},
			{"pageSize", number, taken, []value{{"0", "0", unfit}, {"-1", "-1", unfit}, {"1", "1", taken}, {"50", "50", taken}, {"51", "51", unfit}, {"the largest", "2147483647", unfit}}},
		}},
	}
}

func presenceTables() map[string]table {
	badStatus, badDevice, tooBig := says("set presence failed"), says("resource not exist"), says("ext is too big")
	users := func(none, tooMany refusal, more ...value) []param {
		return []param{{"usernames", strs, none, append([]value{
			{"none", `[]`, none}, {"100", list(100, quoted), taken}, {"101", list(101, quoted), tooMany}, {"unknown", `["nobody"]`, taken}, {"one twice", `["bruno","BRUNO"]`, taken},
		}, more...)}}
	}
	self := says("you can't sub yourself")
	manyUnsubs := says("too many unsub presences")
	empty, null := says("usernames is empty"), says("usernames cannot be null")
	return map[string]table{
		"set_presence": {
			method: "POST", path: "/users/{username=amelia}/presence/{resource:web_1}/{status:1}", body: `{"ext":"x"}`, who: appOrSelf, stranger: gone, nothing: taken,
			null: map[string]refusal{"ext": says("ext cannot be null")},
			params: []param{{"ext", text, taken, []value{
				{"empty", `""`, taken},
				{"of 1,024 bytes", chars(1024, "x"), taken},
				{"of 1,025 bytes", chars(1025, "x"), tooBig},
				{"of 1,024 bytes in two-byte characters", chars(512, "é"), taken},
				{"of 1,026 bytes in two-byte characters", chars(513, "é"), tooBig},
				{"with NUL", `"a\u0000"`, unfit},
			}}},
			inPath: map[string][]value{
				"resource": {
					{"of no kind", "fridge_1", badDevice},
					{"without ID", "web_", badDevice},
					{"with a blank", "web_a%20b", badDevice},
					{"in capitals", "WEB_1", badDevice},
					{"long", "web_" + strings.Repeat("x", 2000), badDevice},
					{"not ASCII", "web_%C3%A9", badDevice},
					{"with NUL", "web_%00", badDevice},
					{"a kind alone", "android", taken},
				},
				"status": {
					{"a word", "busy", badStatus},
					{"negative", "-1", badStatus},
					{"with a fraction", "1.5", badStatus},
					{"too large", "2147483648", badStatus},
					{"of 2,000 digits", strings.Repeat("1", 2000), badStatus},
					{"blank", "%20", badStatus},
					{"other digits", "%D9%A1", badStatus},
					{"0", "0", taken},
					{"the largest", "2147483647", taken},
				},
			},
		},
		"subscribe_presence": {
			method: "POST", path: "/users/{username=amelia}/presence/{expiry:3600}", body: `{"usernames":["bruno"]}`, who: appOrSelf, stranger: gone, nothing: empty,
			params: users(empty, says("too many sub presence"), value{"self", `["bruno","AMELIA"]`, self}, value{"empty", `[""]`, unfit}, value{"illegal", `["a b"]`, unfit},
				value{"of 65 bytes", `[` + chars(65, "x") + `]`, unfit}),
			inPath: map[string][]value{"expiry": {
				{"0", "0", unfit},
				{"-1", "-1", unfit},
				{"a word", "soon", unfit},
				{"with a fraction", "1.5", unfit},
				{"too long", "2592001", unfit},
				{"of 2,000 digits", strings.Repeat("1", 2000), unfit},
				{"blank", "%20", unfit},
				{"1", "1", taken},
				{"30 days", "2592000", taken},
			}},
		},
		"get_presence_batch": {
			method: "POST", path: "/users/{username=amelia}/presence", body: `{"usernames":["bruno"]}`, who: appOrSelf, stranger: taken, nothing: empty,
			params: users(empty, says("too many get presences"), value{"self", `["amelia"]`, taken}, value{"who cannot be", impossible, taken}),
		},
		"unsubscribe_presence": {
			method: "DELETE", path: "/users/{username=amelia}/presence", body: `{"usernames":["bruno"]}`, who: appOrSelf, stranger: gone, nothing: null,
			params: users(null, manyUnsubs, value{"self", `["amelia"]`, taken}, value{"who cannot be", impossible, taken}),
			shapes: map[string]refusal{"[]": null},
			more: []special{
				{name: "a list", body: `["bruno"]`, want: taken},
				{name: "a list of 100", body: list(100, quoted), want: taken},
				{name: "a list of 101", body: list(101, quoted), want: manyUnsubs},
				{name: "a list with null", body: `["bruno",null]`, want: unfit},
				{name: "users", body: `{"users":["bruno"]}`, want: taken},
				{name: "users, a name", body: `{"users":"bruno"}`, want: unfit},
				{name: "users, none", body: `{"users":[]}`, want: null},
				{name: "users, 101", body: `{"users":` + list(101, quoted) + `}`, want: manyUnsubs},
			},
		},
		"list_presence_subscriptions": {
			method: "GET", path: "/users/{username=amelia}/presence/sublist", who: appOrSelf, stranger: taken,
			query: []param{
				{"pageNum", number, taken, []value{{"0", "0", unfit}, {"-1", "-1", unfit}, {"1", "1", taken}, {"the largest", "2147483647", taken}}},
				{"pageSize", number, taken, []value{
					{"0", "0", unfit}, {"-1", "-1", unfit}, {"1", "1", taken}, {"500", "500", taken}, {"501", "501", says("too many queries")}, {"the largest", "2147483647", says("too many queries")},
				}},
			},
		},
	}
}

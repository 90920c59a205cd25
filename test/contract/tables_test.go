package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/test/harness"
)

// table is what may be wrong with the calls of one rule. A good call stands at
// its head; each case changes one thing of it. Most cases follow from what the
// parameters are (see cases); the table has what is particular.
type table struct {
	// method and path of the good call. A parameter in the path that names a
	// user is written {name=user}, any other {name:value}. In path and body "#"
	// becomes a number that is new in each call, CLIENT and SECRET the app's.
	method, path string
	// also is a second method with the same meaning.
	also string
	// body of the good call, JSON; empty for calls that have none. It is sent
	// between the two parts of wrap.
	body string
	wrap [2]string
	// who may call besides the app, and the answer to the user in the path.
	who  callers
	self refusal
	// stranger is the answer about a user in the path who is unknown, impossible
	// that about one who cannot exist, if it is another.
	stranger, impossible refusal
	// foreign is the answer to the token of another user, if it is not mayNot.
	foreign refusal
	// nothing is the answer to a body without any field, and to none at all.
	nothing refusal
	// broken is the answer to a body that is no JSON, mistyped that to a field of
	// another type, in bodies that are no object as well; without them, the
	// usual ones.
	broken   refusal
	mistyped func(name string) refusal
	// params are the fields of the body, query those of the query.
	params, query []param
	// null are answers to null for a field, where it is not as if absent.
	null map[string]refusal
	// shapes are answers to bodies that are no object, where they are not
	// unfit.
	shapes map[string]refusal
	// values of parameters in the path that name no user.
	inPath map[string][]value
	// more are cases that concern several parameters. Their paths and bodies
	// stand for themselves.
	more []special
	// prepare makes what the good call needs.
	prepare func(f *fixture)
	// once says that the good call can be made only once.
	once bool
	// guarded says that wrong tries are delayed once they are many.
	guarded bool
}

// callers says whose tokens a call takes.
type callers int

const (
	appOnly   callers = iota
	appOrSelf         // and the token of the user in the path
	appOrUser         // and that of any user
	anybody           // no token is asked for
)

// refusal is an answer that is wanted. The zero one is 200.
type refusal struct {
	status     int
	word, text string
}

var (
	taken   = refusal{}
	unfit   = refusal{400, illegal, invalid}
	gone    = refusal{404, noResource, notFound}
	broken  = refusal{400, "json_parse", ""} // the text has the place
	foreign = refusal{415, "web_application", "Unsupported Media Type"}
	large   = refusal{413, "Request Entity Too Large", "Request Entity Too Large"}
	noToken = refusal{401, "unauthorized", missing}
	corrupt = refusal{401, "auth_bad_access_token", "Unable to authenticate due to corrupt access token"}
	unknown = refusal{401, "auth_bad_access_token", "Unable to authenticate"}
	mayNot  = refusal{401, "unauthorized", "Unable to authenticate (OAuth)"}
)

func says(text string) refusal { return refusal{400, illegal, text} }

// code returns the number that goes with an answer, 0 if there is none.
func (r refusal) code() int {
	switch {
	case r == notOpen:
		return 0
	case r.status == 401:
		return 40001
	}
	return map[string]int{
		"param from can't be empty": 14001, "param to can't be empty": 14002, "param body can't be empty": 14005, "message is too large": 14007,
	}[r.text]
}

// hasCode makes sure that an answer has its number, or none.
func (r refusal) hasCode(t *testing.T, got map[string]any, name string) {
	t.Helper()
	if n := r.code(); n != 0 {
		require.InDelta(t, n, got["error_code"], 0, name)
		return
	}
	require.NotContains(t, got, "error_code", name)
}

// param is a field of a body or query.
type param struct {
	name string
	kind kind
	// missing is the answer without it, and to null.
	missing refusal
	values  []value
}

// value is what a parameter may have: JSON in a body, plain in a query or path.
type value struct {
	name, text string
	want       refusal
}

// kind is the type of a parameter. What is of another type is unfit.
type kind int

const (
	text kind = iota
	number
	flag
	strs
	fields   // an object
	whatever // no type is wrong by itself
)

// others are values of other types, as they stand in a body.
var others = map[kind][]string{
	text:   {`7`, `true`, `["x"]`, `{"x":"y"}`},
	number: {`"many"`, `""`, `true`, `[1]`, `{}`, `1.5`, `"0x10"`, `"1 "`, `1e300`, `99999999999999999999`, `-99999999999999999999`},
	flag:   {`1`, `"yes"`, `""`, `[true]`, `{}`},
	fields: {`"x"`, `7`, `true`, `[]`, `[{}]`},
	strs:   {`"x"`, `7`, `true`, `{}`, `[7]`, `[null]`, `[["x"]]`, `[{"x":"y"}]`},
}

// otherNumbers are no numbers that a query may hold.
var otherNumbers = []string{"", "many", "1.5", "0x10", "99999999999999999999", "-99999999999999999999", "2147483648", "null", "%zz", "%ff", "%00", "1%20"}

// special is a case of a table's own. Empty fields are the good call's.
type special struct {
	name, path, body, token string
	want                    refusal
}

// probe is one call of a table.
type probe struct {
	name                       string
	app                        *harness.App
	method, path, token, label string
	body                       string
	coding                     string // Content-Encoding
	respelled                  bool   // the body is sent as respell has it
	want                       refusal
	changes                    bool // a good call, which may change something
}

var (
	placeholder = regexp.MustCompile(`\{([a-z_]+)([=:])([^}]*)\}`)
	fresh       atomic.Int64
)

// fill gives a path with the values of its parameters, one of them replaced.
func fill(path, name, value string) string {
	return placeholder.ReplaceAllStringFunc(path, func(p string) string {
		m := placeholder.FindStringSubmatch(p)
		if m[1] == name {
			return value
		}
		return m[3]
	})
}

// strangers are users in a path who are not there; gone marks those who cannot
// be.
var strangers = []value{
	{name: "unknown", text: "nobody"},
	{name: "of 64 bytes", text: strings.Repeat("x", 64)},
	{name: "a UUID", text: "6c1f2e40-7a55-11ee-9c3b-0b6d2f1a9e77"},
	{"of 65 bytes", strings.Repeat("x", 65), gone},
	{"of 2,000 bytes", strings.Repeat("x", 2000), gone},
	{"with a blank", "a%20b", gone},
	{"a picture", "%F0%9F%8E%A8", gone},
	{"with a quote", "a'b", gone},
	{"with NUL", "a%00b", gone},
}

// misfit is the answer to a field of another type; without a name, to a body
// that is no object.
func (tb *table) misfit(name string) refusal {
	if tb.mistyped == nil {
		return unfit
	}
	return tb.mistyped(name)
}

// orElse returns the first refusal that is none of taken.
func orElse(r, otherwise refusal) refusal {
	if r == taken {
		return otherwise
	}
	return r
}

// sent gives a body as it is sent.
func (tb *table) sent(body string) string {
	if body == "" {
		return ""
	}
	return tb.wrap[0] + body + tb.wrap[1]
}

// cases gives everything that a table says, and what follows from it.
func (tb *table) cases(f *fixture, tokens map[string]string) []probe {
	good := fill(tb.path, "", "")
	var all []probe
	add := func(name, path, body string, want refusal) {
		all = append(all, probe{name: name, method: tb.method, path: path, body: body, token: f.Token, want: want, changes: want == taken})
	}
	as := func(name, token string, want refusal) {
		all = append(all, probe{name: name, method: tb.method, path: good, body: tb.sent(tb.body), token: token, want: want, changes: want == taken})
	}
	if tb.who != anybody {
		as("no token", "", noToken)
		as("corrupt token", "nonsense", corrupt)
		as("token of another app", tokens["foreign"], corrupt)
		as("token of another app's user", tokens["foreign user"], corrupt)
		as("forged token", tokens["forged"], unknown)
		as("expired token", tokens["expired"], noToken)
		as("expired token of a user", tokens["expired user"], noToken)
	}
	switch tb.who {
	case appOnly:
		as("the user's own token", tokens["amelia"], mayNot)
	case appOrSelf:
		as("another user's token", tokens["bruno"], orElse(tb.foreign, mayNot))
		if tb.self != taken {
			as("the user's own token", tokens["amelia"], tb.self)
		}
	case appOrUser, anybody:
	}
	for _, m := range placeholder.FindAllStringSubmatch(tb.path, -1) {
		name := m[1]
		if m[2] == "=" {
			for _, s := range strangers {
				want := tb.stranger
				if s.want == gone && tb.impossible != taken {
					want = tb.impossible
				}
				add(name+" "+s.name, fill(tb.path, name, s.text), tb.sent(tb.body), want)
			}
		}
		add(name+" is no UTF-8", fill(tb.path, name, "a%FFb"), tb.sent(tb.body), unfit)
		for _, v := range tb.inPath[name] {
			add(name+" "+v.name, fill(tb.path, name, v.text), tb.sent(tb.body), v.want)
		}
	}
	tb.queries(good, add)
	if tb.body != "" {
		tb.bodies(f, good, add)
	}
	for _, s := range tb.more {
		p := probe{name: s.name, method: tb.method, path: good, body: tb.sent(tb.body), token: f.Token, want: s.want, changes: s.want == taken}
		if s.path != "" {
			p.path = s.path
		}
		if s.body != "" {
			p.body = s.body
		}
		if s.token != "" {
			p.token = tokens[s.token]
		}
		all = append(all, p)
	}
	return append(respelled(all, tb.guarded), tb.elsewhere(f, good)...)
}

// elsewhere are cases about what is not the call's own: app, method, label.
func (tb *table) elsewhere(f *fixture, good string) []probe {
	var all []probe
	for _, where := range [][2]string{{f.Org, "nowhere"}, {"nobody", f.Name}, {f.Org, strings.ToUpper(f.Name)}} {
		other := *f.App
		other.Org, other.Name = where[0], where[1]
		bare, _, _ := strings.Cut(good, "?")
		all = append(all, probe{
			name: "app " + where[0] + "/" + where[1], app: &other, method: tb.method, path: good, body: tb.sent(tb.body), token: f.Token,
			want: refusal{404, "organization_application_not_found", fmt.Sprintf(
				"Could not find application for %s/%s from URI: %s/%s%s", where[0], where[1], where[0], where[1], bare)},
		})
	}
	if !strings.Contains(good, "?") {
		all = append(all, tb.slashes(f, good)...)
	}
	all = append(all, probe{
		name: "wrong method", method: "PATCH", path: good, body: tb.sent(tb.body), token: f.Token,
		want: refusal{405, "unsupported_service_operation", "Service operation not supported"},
	})
	if tb.body == "" {
		return all
	}
	for _, coding := range []string{"gzip", "deflate", "br", "identity, gzip"} {
		all = append(all, probe{name: "body in " + coding, method: tb.method, path: good, body: tb.sent(tb.body), coding: coding, token: f.Token, want: foreign})
	}
	for _, label := range []string{"text/xml", "text/plain", "multipart/form-data; boundary=x", "application/octet-stream", ";"} {
		all = append(all, probe{name: "body labelled " + label, method: tb.method, path: good, body: tb.sent(tb.body), label: label, token: f.Token, want: foreign})
	}
	return all
}

func (tb *table) queries(good string, add func(name, path, body string, want refusal)) {
	if len(tb.query) == 0 {
		return
	}
	with := func(name, value string) string { return good + "?" + name + "=" + value }
	for _, p := range tb.query {
		switch p.kind {
		case number:
			for _, v := range otherNumbers {
				add(p.name+" "+strconv.Quote(v), with(p.name, v), "", unfit)
			}
		default:
			for _, v := range []string{"%zz", "%ff"} {
				add(p.name+" "+v, with(p.name, v), "", unfit)
			}
		}
		for _, v := range p.values {
			add(p.name+" "+v.name, with(p.name, v.text), "", v.want)
		}
		if p.missing != taken {
			add("no "+p.name, good, "", p.missing)
		}
	}
	add("unknown in the query", with("colour", "red"), "", taken)
}

func (tb *table) bodies(f *fixture, good string, add func(name, path, body string, want refusal)) {
	add("no body", good, "", tb.nothing)
	add("blank body", good, " \n", tb.nothing)
	for name, body := range map[string]string{
		"half an object": `{"x":`, "a comma too many": `{"x":1,}`, "names without quotes": `{x:1}`, "two objects": `{}{}`, "no JSON": `hello`,
		"no UTF-8": "{\"x\":\"\xff\"}", "a control character": "{\"x\":\"\x01\"}", "half a pair of surrogates outside a string": `\ud800`,
		"too deep": strings.Repeat("[", 600) + strings.Repeat("]", 600), "a number out of shape": `{"x":01}`, "a number out of range": `{"x":[1e999]}`, "a long number out of range": `{"x":` + strings.Repeat("9", 400) + `}`,
	} {
		if want, own := tb.shapes[name]; own {
			add(name, good, body, want)
		} else {
			add(name, good, body, orElse(tb.broken, broken))
		}
	}
	for _, shape := range []string{`7`, `"x"`, `true`, `null`, `[]`, `[7]`} {
		if want, own := tb.shapes[shape]; own {
			add("body "+shape, good, shape, want)
		} else {
			add("body "+shape, good, shape, tb.misfit(""))
		}
	}
	add("body too large", good, `{"x":"`+strings.Repeat("x", 1<<20)+`"}`, large)
	if len(tb.params) == 0 {
		return
	}
	fields := make(map[string]json.RawMessage)
	require.NoError(f.t, json.Unmarshal([]byte(tb.body), &fields), tb.body)
	with := func(name, value string) string {
		changed := maps.Clone(fields)
		if value == "" {
			delete(changed, name)
		} else {
			changed[name] = json.RawMessage(value)
		}
		return tb.sent(object(changed))
	}
	add("an empty object", good, `{}`, tb.nothing)
	for _, p := range tb.params {
		add("no "+p.name, good, with(p.name, ""), p.missing)
		add(p.name+" null", good, with(p.name, "null"), orElse(tb.null[p.name], p.missing))
		for _, v := range others[p.kind] {
			add(p.name+" "+v, good, with(p.name, v), tb.misfit(p.name))
		}
		for _, v := range p.values {
			add(p.name+" "+v.name, good, with(p.name, v.text), v.want)
		}
	}
	// What the path and the gateway say cannot be said in the body.
	add("unknown in the body", good, with("colour", `{"x":[1,null]}`), taken)
	add("app in the body", good, with("org", `"x"`), taken)
	add("app in the body", good, with("app", `7`), taken)
	for _, m := range placeholder.FindAllStringSubmatch(tb.path, -1) {
		add(m[1]+" in the body", good, with(m[1], `"nobody"`), taken)
	}
}

// object writes an object without touching its values, which need not be JSON
// that encoding/json would write.
func object(fields map[string]json.RawMessage) string {
	parts := make([]string, 0, len(fields))
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		parts = append(parts, strconv.Quote(k)+":"+string(fields[k]))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// Package contract holds one test for each call of the REST API, named by the
// ID of the rule that governs it: the whole shape of its answer, its errors,
// what repeating it does and what others see of it. A whole server answers.
package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/testkit"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	"github.com/chappe-im/chappe/services/gateway/routes"
	"github.com/chappe-im/chappe/test/harness"
)

func TestMain(m *testing.M) {
	harness.RunChild()
	api, err := newDocumented(harness.API.Transport)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	harness.API.Transport = api
	testkit.Main(suite{m, api})
}

// suite runs the tests of the package and then asks whether they have called all
// that the OpenAPI document has.
type suite struct {
	tests *testing.M
	api   *documented
}

// Run runs the tests.
func (s suite) Run() int {
	code := s.tests.Run()
	if names := s.api.unseen(); code == 0 && len(names) > 0 {
		fmt.Fprintln(os.Stderr, "no test calls these operations of the OpenAPI document with success:", names)
		return 1
	}
	return code
}

// rows are all tests by rule.
func rows() map[string]func(*testing.T, *fixture) {
	all := make(map[string]func(*testing.T, *fixture))
	for _, area := range []map[string]func(*testing.T, *fixture){tokenRows(), accountRows(), pushRows(), attributeRows(), relationRows(), muteRows(), presenceRows(), messageRows()} {
		maps.Copy(all, area)
	}
	return all
}

func TestEveryRowHasATest(t *testing.T) {
	t.Parallel()
	all := rows()
	for _, r := range routes.All() {
		for _, id := range r.Rules {
			if _, ok := all[id]; !ok {
				t.Errorf("the calls of rule %s have no contract test", id)
			}
		}
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	server := harness.Start(t)
	all := rows()
	for _, id := range slices.Sorted(maps.Keys(all)) {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			all[id](t, newFixture(t, server))
		})
	}
}

// fixture is an app of a test's own with the users amelia, bruno and carla.
type fixture struct {
	*harness.App
	server *harness.Server
	t      *testing.T
	// appUUID is the app's, uuid has those of users.
	appUUID string
	uuid    map[string]string
}

// oneAddress has all callers share one address: the tests of all apps do.
const oneAddress = `{"rate_counting":{"per_ip":false}}`

func newFixture(t *testing.T, s *harness.Server) *fixture {
	t.Helper()
	return newFixtureWith(t, s, oneAddress)
}

// newFixtureWith makes a fixture whose app has overrides of its tier.
func newFixtureWith(t *testing.T, s *harness.Server, overrides string) *fixture {
	t.Helper()
	f := &fixture{App: s.NewApp(t, "enterprise", overrides), server: s, t: t, uuid: make(map[string]string)}
	known, err := s.Admin().GetApp(t.Context(), &limiterv1.GetAppRequest{Org: f.Org, App: f.Name})
	require.NoError(t, err)
	f.appUUID = known.GetApp().GetUuid()
	f.Register(t, "amelia", "bruno", "carla")
	for _, u := range []string{"amelia", "bruno", "carla"} {
		got := f.call("GET", "/users/"+u, "")
		f.uuid[u] = got.Body["entities"].([]any)[0].(map[string]any)["uuid"].(string)
	}
	return f
}

// call makes a call with the app's token.
func (f *fixture) call(method, path, body string) harness.Response {
	f.t.Helper()
	return f.as(f.Token, method, path, body)
}

// as makes a call with another token, or with none.
func (f *fixture) as(token, method, path, body string) harness.Response {
	f.t.Helper()
	var b any
	if body != "" {
		b = body
	}
	return f.Call(f.t, method, path, b, token)
}

// answers makes a call and compares the whole answer. In what is wanted,
// "<ms>", "<int>", "<uuid>" and "<text>" stand for any value of that kind, and
// ORG, APP, BASE and ITS-UUID for the app's.
func (f *fixture) answers(method, path, body, want string) harness.Response {
	f.t.Helper()
	got := f.call(method, path, body)
	f.matches(got, want)
	return got
}

func (f *fixture) matches(got harness.Response, want string) {
	f.t.Helper()
	require.Equal(f.t, http.StatusOK, got.Status, "%s", got.Raw)
	want = strings.NewReplacer("ITS-UUID", f.appUUID, "ORG", f.Org, "APP", f.Name, "BASE", f.Server.HTTP+"/"+f.Org+"/"+f.Name).Replace(want)
	var w any
	require.NoError(f.t, json.Unmarshal([]byte(want), &w), want)
	if err := match("", w, map[string]any(got.Body)); err != nil {
		require.NoError(f.t, err, "%s", got.Raw)
	}
}

// fields of all answers that name the app, and of those that tell times.
const (
	app   = `"application":"ITS-UUID","organization":"ORG","applicationName":"APP"`
	times = `"timestamp":"<ms>","duration":"<int>"`
)

// entity is a user without settings; more are fields to add.
func (f *fixture) entity(user string, more ...string) string {
	id := f.uuid[user]
	if id == "" {
		id = "<uuid>"
	}
	fields := append([]string{`"uuid":"` + id + `"`, `"type":"user"`, `"created":"<ms>"`, `"modified":"<ms>"`, `"username":"` + user + `"`}, more...)
	if !strings.Contains(strings.Join(more, ","), `"activated"`) {
		fields = append(fields, `"activated":true`)
	}
	return `{` + strings.Join(fields, ",") + `}`
}

func match(at string, want, got any) error {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is no object: %v", at, got)
		}
		for k := range g {
			if _, ok := w[k]; !ok {
				return fmt.Errorf("%s.%s is not wanted: %v", at, k, g[k])
			}
		}
		for k, v := range w {
			if _, ok := g[k]; !ok {
				return fmt.Errorf("%s.%s is missing", at, k)
			}
			if err := match(at+"."+k, v, g[k]); err != nil {
				return err
			}
		}
		return nil
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Errorf("%s is %v and not %v", at, got, want)
		}
		for i := range w {
			if err := match(fmt.Sprintf("%s[%d]", at, i), w[i], g[i]); err != nil {
				return err
			}
		}
		return nil
	case string:
		if kind, ok := kinds[w]; ok {
			if !kind(got) {
				return fmt.Errorf("%s is %v and not %s", at, got, w)
			}
			return nil
		}
	}
	if want != got {
		return fmt.Errorf("%s is %v and not %v", at, got, want)
	}
	return nil
}

var kinds = map[string]func(any) bool{
	"<ms>":   func(v any) bool { n, ok := v.(float64); return ok && n > 1e12 && n == float64(int64(n)) },
	"<int>":  func(v any) bool { n, ok := v.(float64); return ok && n >= 0 && n == float64(int64(n)) },
	"<text>": func(v any) bool { s, ok := v.(string); return ok && s != "" },
	"<uuid>": func(v any) bool {
		s, ok := v.(string)
		return ok && len(s) == 36 && strings.Count(s, "-") == 4 && s == strings.ToLower(s)
	},
}

// Error words and texts that come again and again.
const (
	invalid    = "this is an invalid request."
	notFound   = "Service resource not found"
	missing    = "Unable to authenticate due to expired access token"
	illegal    = "illegal_argument"
	noResource = "service_resource_not_found"
)

// bad is a call that does not fit.
type bad struct {
	name         string
	method, path string
	body         string
	status       int
	word, text   string
}

// refuses makes calls that do not fit, and with the first of them also those
// that fail for every call: no token, an unknown app.
func (f *fixture) refuses(open bool, cases ...bad) {
	f.t.Helper()
	for _, c := range cases {
		got := f.call(c.method, c.path, c.body)
		f.refused(got, c.name, c.status, c.word, c.text)
	}
	if !open {
		f.refused(f.as("", cases[0].method, cases[0].path, cases[0].body), "no token", 401, "unauthorized", missing)
	}
	nowhere := *f.App
	nowhere.Name = "nowhere"
	got := nowhere.Call(f.t, cases[0].method, cases[0].path, cases[0].body, f.Token)
	path, _, _ := strings.Cut(cases[0].path, "?")
	f.refused(got, "unknown app", 404, "organization_application_not_found",
		"Could not find application for "+f.Org+"/nowhere from URI: "+f.Org+"/nowhere"+path)
	f.refused(f.call("PATCH", cases[0].path, ""), "wrong method", 405, "unsupported_service_operation", "Service operation not supported")
}

func (f *fixture) refused(got harness.Response, name string, status int, word, text string) {
	f.t.Helper()
	require.Equal(f.t, status, got.Status, "%s: %s", name, got.Raw)
	require.Equal(f.t, word, got.Body["error"], "%s: %s", name, got.Raw)
	require.Equal(f.t, text, got.Body["error_description"], "%s: %s", name, got.Raw)
	for _, k := range []string{"exception", "timestamp", "duration"} {
		require.Contains(f.t, got.Body, k, name)
	}
	refusal{status, word, text}.hasCode(f.t, got.Body, name)
}

// list repeats a JSON text n times in an array.
func list(n int, element func(int) string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = element(i)
	}
	return "[" + strings.Join(all, ",") + "]"
}

func quoted(i int) string { return fmt.Sprintf(`"user-%d"`, i) }

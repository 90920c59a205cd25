package contract

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/pkg/tier"
	"github.com/chappe-im/chappe/pkg/token"
	"github.com/chappe-im/chappe/services/gateway/routes"
	"github.com/chappe-im/chappe/test/harness"
)

// try makes the call of a probe and checks that the answer is what is wanted.
func (f *fixture) try(p probe) {
	f.t.Helper()
	app := p.app
	if app == nil {
		app = f.App
	}
	number := strconv.FormatInt(fresh.Add(1), 10)
	own := strings.NewReplacer("#", number, "CLIENT", f.ClientID, "SECRET", f.ClientSecret)
	var body io.Reader
	if p.body != "" {
		sent := own.Replace(p.body)
		if p.respelled {
			sent = respell(f.t, sent)
		}
		body = strings.NewReader(sent)
	}
	req, err := http.NewRequestWithContext(f.t.Context(), p.method, app.Server.HTTP+"/"+app.Org+"/"+app.Name+own.Replace(p.path), body)
	require.NoError(f.t, err, p.name)
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	if p.label != "" {
		req.Header.Set("Content-Type", p.label)
	}
	if p.coding != "" {
		req.Header.Set("Content-Encoding", p.coding)
	}
	resp, err := harness.API.Do(req)
	require.NoError(f.t, err, p.name)
	raw, err := io.ReadAll(resp.Body)
	require.NoError(f.t, err, p.name)
	require.NoError(f.t, resp.Body.Close())
	name := p.name + ": " + string(raw[:min(len(raw), 500)])

	want := p.want
	if want == taken {
		want.status = http.StatusOK
	}
	if resp.StatusCode != want.status {
		f.t.Errorf("%s\n%s %.200s %.200s: status %d, want %d", name, p.method, p.path, p.body, resp.StatusCode, want.status)
		return
	}
	require.Equal(f.t, "application/json", resp.Header.Get("Content-Type"), name)
	var got map[string]any
	require.NoError(f.t, json.Unmarshal(raw, &got), name)
	if want.status == http.StatusOK {
		return
	}
	for _, k := range []string{"exception", "timestamp", "duration"} {
		require.Contains(f.t, got, k, name)
	}
	want.hasCode(f.t, got, name)
	if reason, repeated := got["result"]; repeated {
		require.Equal(f.t, got["error_description"], reason, name)
	} else if want.status == http.StatusBadRequest && strings.Contains(p.path, "/presence") {
		require.Contains(f.t, p.name, "UTF-8", "an error of presence has its reason as result: %s", name)
	}
	if got["error"] != want.word || want.text != "" && got["error_description"] != want.text || got["error_description"] == "" {
		f.t.Errorf("%s\n%s %.200s %.200s: error %q %q, want %q %q", name, p.method, p.path, p.body, got["error"], got["error_description"], want.word, want.text)
	}
}

// snapshot is all that the calls of this area show of the fixture's users, but
// for what only says when it was asked.
func (f *fixture) snapshot() map[string]any {
	f.t.Helper()
	all := make(map[string]any)
	for _, path := range []string{
		"/users?limit=100", "/mutes", "/metadata/user/capacity", "/metadata/user/amelia", "/metadata/user/bruno", "/users/amelia/contacts/users",
		"/users/bruno/contacts/users", "/users/amelia/blocks/users", "/users/bruno/blocks/users", "/users/amelia/presence/sublist?pageSize=500",
		"/users/amelia/offline_msg_count", "/users/amelia/status",
	} {
		got := f.call("GET", path, "")
		require.Equal(f.t, 200, got.Status, "%s", got.Raw)
		for _, k := range []string{"timestamp", "duration", "params"} {
			delete(got.Body, k)
		}
		if d, ok := got.Body["data"].(map[string]any); ok {
			delete(d, "unixtime")
		}
		all[path] = got.Body
	}
	got := f.call("POST", "/users/amelia/presence", `{"usernames":["amelia","bruno"]}`)
	require.Equal(f.t, 200, got.Status, "%s", got.Raw)
	all["presence"] = got.Body["result"]
	return all
}

// unlimited lifts the rates of an app's calls: a table makes more of them in a
// second than a rule allows.
func unlimited(t *testing.T) string {
	t.Helper()
	many := []map[string]any{{"count": 1000000, "per": "second", "unit": "call", "scope": "app"}}
	rules, buckets := make(map[string]any), make(map[string]any)
	for _, id := range slices.Collect(maps.Keys(tables())) {
		rules[id] = map[string]any{"limits": many}
	}
	shared := map[string]string{
		"register_user": "register_users", "register_users_batch": "register_users",
		"set_push_nickname": "push_settings", "set_push_display_style": "push_settings", "set_push_do_not_disturb": "push_settings",
		"get_user_attributes": "user_attributes_read", "get_user_attributes_capacity": "user_attributes_read",
	}
	for id, bucket := range shared {
		delete(rules, id)
		buckets[bucket] = map[string]any{"limits": many}
	}
	raw, err := json.Marshal(map[string]any{"rate_counting": map[string]any{"per_ip": false}, "rules": rules, "shared_buckets": buckets})
	require.NoError(t, err)
	return string(raw)
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		badInput(t, harness.Start(t), tables(), unlimited(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		database := testkit.Postgres(t)
		if database == "" {
			t.Skip("there is no PostgreSQL server")
		}
		badInput(t, harness.StartOn(t, database), tables(), unlimited(t))
	})
}

func badInput(t *testing.T, server *harness.Server, all map[string]table, overrides string) {
	other := server.NewApp(t, "enterprise", oneAddress)
	strange := map[string]string{"foreign": other.Token, "foreign user": other.UserToken(t, "amelia")}
	// All apps are made first, so that their short tokens run out together.
	fixtures, tokensOf := make(map[string]*fixture), make(map[string]map[string]string)
	for id := range all {
		f := newFixtureWith(t, server, overrides)
		tokens := maps.Clone(strange)
		tokens["amelia"], tokens["bruno"] = f.UserToken(t, "amelia"), f.UserToken(t, "bruno")
		tokens["expired"], tokens["expired user"] = f.short()
		tokens["corrupt"] = "nonsense"
		tokens["forged"] = forged(t, f)
		fixtures[id], tokensOf[id] = f, tokens
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			tb, f, tokens := all[id], fixtures[id], tokensOf[id]
			f.t = t
			f.eventually(func() bool {
				return f.as(tokens["expired"], "GET", "/users/amelia", "").Status == 401 &&
					f.as(tokens["expired user"], "GET", "/metadata/user/amelia", "").Status == 401
			})
			if tb.prepare != nil {
				tb.prepare(f)
			}
			cases := tb.cases(f, tokens)
			if tb.also != "" {
				second := tb
				second.method = tb.also
				cases = append(cases, second.cases(f, tokens)...)
			}
			before := f.snapshot()
			bad, good := 0, 0
			for _, p := range cases {
				if !p.changes {
					f.try(p)
					bad++
				}
			}
			require.Equal(t, before, f.snapshot(), "what was refused has changed something")
			for _, p := range cases {
				if p.changes {
					f.try(p)
					good++
				}
			}
			good += f.goods(&tb, tokens)
			t.Logf("%d calls refused, %d taken", bad, good)
		})
	}
}

// goods makes the good call with every label and token that it takes, so that
// the cases have failed for what they changed and nothing else.
func (f *fixture) goods(tb *table, tokens map[string]string) int {
	f.t.Helper()
	p := probe{name: "the good call", method: tb.method, path: fill(tb.path, "", ""), body: tb.sent(tb.body), token: f.Token}
	f.try(p)
	if tb.once {
		return 1
	}
	n := 1
	if tb.body != "" {
		for _, label := range []string{
			"application/json", "application/json; charset=utf-8", "application/json, application/json", "application/x-www-form-urlencoded",
		} {
			p.label = label
			f.try(p)
			n++
		}
		p.label, p.coding = "", "identity"
		f.try(p)
		p.coding = ""
		n++
	}
	switch tb.who {
	case appOrSelf:
		if tb.self != taken {
			return n
		}
		p.token = tokens["amelia"]
	case appOrUser:
		p.token = tokens["bruno"]
	case appOnly, anybody:
		return n
	}
	f.try(p)
	return n + 1
}

// forged returns an app token whose signature is not ours.
func forged(t *testing.T, f *fixture) string {
	t.Helper()
	number, ok := token.PeekApp(f.Token)
	require.True(t, ok)
	return token.Sign(token.Key{ID: 1, Secret: []byte("not the secret of the app")}, token.Claims{Kind: token.App, App: number, IssuedAt: time.Now()})
}

// short gives tokens of the app and of amelia that run out after a second.
func (f *fixture) short() (app, user string) {
	f.t.Helper()
	get := func(body map[string]any) string {
		body["ttl"] = 1
		got := f.Call(f.t, "POST", "/token", body, f.Token)
		require.Equal(f.t, 200, got.Status, "%s", got.Raw)
		return got.Body["access_token"].(string)
	}
	return get(map[string]any{"grant_type": "client_credentials", "client_id": f.ClientID, "client_secret": f.ClientSecret}),
		get(map[string]any{"grant_type": "inherit", "username": "amelia"})
}

// areas are the modules of the catalogue whose calls have tables here.
var areas = []string{"account", "message", "push", "user_metadata", "contact", "global_mute", "presence"}

func TestEveryRowHasATable(t *testing.T) {
	t.Parallel()
	all := tables()
	served := make(map[string]bool)
	for _, r := range routes.All() {
		for _, id := range r.Rules {
			served[id] = true
		}
	}
	rows := 0
	for _, r := range tier.Catalogue() {
		if !slices.Contains(areas, r.Module) {
			continue
		}
		if r.Module == "message" && !served[r.ID] {
			continue // not built yet
		}
		rows++
		if _, ok := all[r.ID]; !ok {
			t.Errorf("the calls of rule %s have no table of bad input", r.ID)
		}
	}
	require.Len(t, all, rows, "every table belongs to a rule")
}

// TestTablesNameEveryParameter compares the tables with the requests that the
// calls are made into.
func TestTablesNameEveryParameter(t *testing.T) {
	t.Parallel()
	all := tables()
	// What only the gateway says, and what stands in the form of the body.
	notSent := []string{"org", "app", "check_old", "anonymous", "batch", "users", "attributes", "notification_ignore", "ql", "use_msg_id"}
	for _, r := range routes.All() {
		for _, id := range r.Rules {
			tb, ok := all[id]
			if !ok {
				continue
			}
			var named []string
			for _, p := range append(slices.Clone(tb.params), tb.query...) {
				named = append(named, p.name)
			}
			for _, m := range placeholder.FindAllStringSubmatch(tb.path, -1) {
				named = append(named, m[1])
			}
			fields := requestOf(t, r.Method).Fields()
			for i := range fields.Len() {
				f := fields.Get(i)
				name := string(f.Name())
				if slices.Contains(notSent, name) || elsewhereNamed[id+"."+name] != "" {
					continue
				}
				if !slices.Contains(named, name) && !slices.Contains(named, f.JSONName()) {
					t.Errorf("the table of %s does not name %s", id, name)
				}
			}
		}
	}
}

func requestOf(t *testing.T, method string) protoreflect.MessageDescriptor {
	t.Helper()
	service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	require.NoError(t, err)
	return d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name)).Input()
}

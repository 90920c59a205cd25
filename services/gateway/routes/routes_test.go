package routes_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/chappe-im/chappe/pkg/tier"
	"github.com/chappe-im/chappe/services/gateway/routes"
)

// rule is an entry of the HTTP rules that the protos are generated with.
type rule struct {
	Selector string
	Get      string
	Post     string
	Put      string
	Delete   string
	Body     string
	Bindings []rule `yaml:"additional_bindings"`
}

// method gives the full gRPC method of a selector.
func (r rule) method() string {
	i := strings.LastIndexByte(r.Selector, '.')
	return "/" + r.Selector[:i] + "/" + r.Selector[i+1:]
}

// bindings gives the methods and paths of a rule.
func (r rule) bindings() [][2]string {
	var all [][2]string
	for method, path := range map[string]string{"GET": r.Get, "POST": r.Post, "PUT": r.Put, "DELETE": r.Delete} {
		if path != "" {
			all = append(all, [2]string{method, path})
		}
	}
	for _, b := range r.Bindings {
		all = append(all, b.bindings()...)
	}
	return all
}

func httpRules(t *testing.T) []rule {
	t.Helper()
	data, err := os.ReadFile("../../../proto/http.yaml")
	require.NoError(t, err)
	var doc struct{ HTTP struct{ Rules []rule } }
	require.NoError(t, yaml.Unmarshal(data, &doc))
	require.NotEmpty(t, doc.HTTP.Rules)
	return doc.HTTP.Rules
}

var parameter = regexp.MustCompile(`\{[^}]*\}`)

// TestTable compares the routes with the HTTP rules and with the rules of
// tiers: no call without a rule, no rule that no tier could know.
func TestTable(t *testing.T) {
	t.Parallel()
	table := routes.All()
	served := make(map[string]bool)
	for _, r := range httpRules(t) {
		served[r.method()] = true
		route, ok := table[r.method()]
		if !ok {
			t.Errorf("%s has no entry", r.method())
			continue
		}
		require.Equal(t, r.method(), route.Method)
		require.NotZero(t, route.Policy, route.Method)
		require.NotNil(t, route.Render, route.Method)
		checkRules(t, r, route)
		checkFields(t, r, route)
	}
	for method := range table {
		if !served[method] {
			t.Errorf("%s has an entry and no HTTP rule", method)
		}
	}
}

// checkRules makes sure that a route either is on rules or says that it is on
// none.
func checkRules(t *testing.T, r rule, route *routes.Route) {
	t.Helper()
	if route.Unlisted == "" {
		require.NotEmpty(t, route.Rules, route.Method)
		for _, id := range route.Rules {
			require.NotEmpty(t, id, route.Method)
			checkRule(t, r, route, id)
		}
		return
	}
	require.Empty(t, route.Rules, "%s has rules and is unlisted", route.Method)
	require.Nil(t, route.Rule, route.Method)
	require.Nil(t, route.Cost, "%s: the default rate counts calls", route.Method)
	require.Equal(t, route.Unlisted, route.RuleFor(nil))
	_, ok := tier.LookupCall(route.Unlisted)
	require.False(t, ok, "%s: %s is the ID of a rule", route.Method, route.Unlisted)
	for _, call := range tier.Catalogue() {
		for _, b := range r.bindings() {
			for _, path := range call.Paths {
				require.False(t, sameCall(b, call.Method, path), "%s: %s %s has the rule %s", route.Method, b[0], b[1], call.ID)
			}
		}
	}
}

// sameCall compares a binding with a method and path, whatever their
// parameters are called.
func sameCall(b [2]string, method, path string) bool {
	return b[0] == method && parameter.ReplaceAllString(b[1], "{}") == parameter.ReplaceAllString(path, "{}")
}

// checkRule looks for the rule among those of tiers, and for the call that it
// is about among the route's paths.
func checkRule(t *testing.T, r rule, route *routes.Route, id string) {
	t.Helper()
	call, ok := tier.LookupCall(id)
	if !ok {
		t.Errorf("%s: no tier knows the rule %s", route.Method, id)
		return
	}
	if call.Targets != (route.Cost != nil) {
		t.Errorf("%s: calls with targets have a cost, others none", route.Method)
	}
	for _, b := range r.bindings() {
		for _, path := range call.Paths {
			if sameCall(b, call.Method, path) {
				return
			}
		}
	}
	t.Errorf("%s: rule %s is about %s %v, which is none of its paths", route.Method, id, call.Method, call.Paths)
}

// checkFields looks for what the route names among the request's fields.
func checkFields(t *testing.T, r rule, route *routes.Route) {
	t.Helper()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(r.Selector))
	require.NoError(t, err)
	fields := d.(protoreflect.MethodDescriptor).Input().Fields()
	for _, name := range route.Query {
		f := fields.ByJSONName(name)
		require.NotNil(t, f, "%s has no field %s", route.Method, name)
		for _, b := range r.bindings() {
			require.NotContains(t, b[1], "{"+string(f.Name())+"}", "%s: %s is in the path", route.Method, name)
		}
	}
	require.Equal(t, route.Policy == routes.AppOrSelf, route.Self != "", route.Method)
	if route.Self != "" {
		for _, b := range r.bindings() {
			require.Contains(t, b[1], "{"+route.Self+"}", route.Method)
		}
	}
	for _, b := range r.bindings() {
		require.True(t, strings.HasPrefix(b[1], "/{org}/{app}/"), b[1])
	}
}

// TestRulesAreUsedOnce makes sure that no two calls share a rule, or a name
// under which they are counted, by accident.
func TestRulesAreUsedOnce(t *testing.T) {
	t.Parallel()
	used := make(map[string][]string)
	for method, r := range routes.All() {
		for _, id := range r.Rules {
			used[id] = append(used[id], method)
		}
		if r.Unlisted != "" {
			used[r.Unlisted] = append(used[r.Unlisted], method)
		}
	}
	for id, methods := range used {
		slices.Sort(methods)
		require.Len(t, methods, 1, "%s governs %v", id, methods)
	}
}

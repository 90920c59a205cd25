package routes_test

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/tier"
	"github.com/chappe-im/chappe/services/gateway/routes"
)

// bindings returns the methods and paths of http.yaml by RPC.
func bindings(t *testing.T) map[string][]routes.Binding {
	t.Helper()
	list, err := routes.Bindings()
	require.NoError(t, err)
	require.NotEmpty(t, list)
	all := make(map[string][]routes.Binding)
	for _, b := range list {
		require.True(t, strings.HasPrefix(b.Path, "/{org}/{app}/"), b.Path)
		all[b.RPC] = append(all[b.RPC], b)
	}
	return all
}

var parameter = regexp.MustCompile(`\{[^}]*\}`)

// TestTable compares the routes with the HTTP rules and with the rules of
// tiers: no call without a rule, no rule that no tier could know.
func TestTable(t *testing.T) {
	t.Parallel()
	all := bindings(t)
	for method, route := range routes.All() {
		require.NotEmpty(t, all[method], "%s has an entry and no HTTP rule", method)
		require.NotZero(t, route.Policy, method)
		checkRules(t, all[method], route)
		checkFields(t, all[method], route)
		delete(all, method)
	}
	require.Empty(t, all, "HTTP rules without an entry")
}

// checkRules makes sure that a route either is on rules or says that it is on
// none.
func checkRules(t *testing.T, paths []routes.Binding, route *routes.Route) {
	t.Helper()
	if route.Unlisted == "" {
		require.NotEmpty(t, route.Rules, route.Method)
		for _, id := range route.Rules {
			require.NotEmpty(t, id, route.Method)
			checkRule(t, paths, route, id)
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
		require.False(t, isCall(paths, call.Method, call.Paths), "%s: %s %v has the rule %s", route.Method, call.Method, call.Paths, call.ID)
	}
}

// isCall reports whether one of the bindings has a method and one of its paths,
// whatever their parameters are called.
func isCall(bindings []routes.Binding, method string, paths []string) bool {
	return slices.ContainsFunc(bindings, func(b routes.Binding) bool {
		return b.Method == method && slices.ContainsFunc(paths, func(path string) bool {
			return parameter.ReplaceAllString(b.Path, "{}") == parameter.ReplaceAllString(path, "{}")
		})
	})
}

// checkRule looks for the rule among those of tiers, and for the call that it
// is about among the route's paths.
func checkRule(t *testing.T, paths []routes.Binding, route *routes.Route, id string) {
	t.Helper()
	call, ok := tier.LookupCall(id)
	require.True(t, ok, "%s: no tier knows the rule %s", route.Method, id)
	require.Equal(t, call.Targets, route.Cost != nil, "%s: calls with targets have a cost, others none", route.Method)
	require.True(t, isCall(paths, call.Method, call.Paths), "%s: rule %s is about %s %v, which is none of its paths", route.Method, id, call.Method, call.Paths)
}

// checkFields looks for what the route names among the request's fields.
func checkFields(t *testing.T, paths []routes.Binding, route *routes.Route) {
	t.Helper()
	fields := route.Descriptor().Input().Fields()
	for _, name := range route.Query {
		f := fields.ByJSONName(name)
		require.NotNil(t, f, "%s has no field %s", route.Method, name)
		for _, b := range paths {
			require.NotContains(t, b.Path, "{"+string(f.Name())+"}", "%s: %s is in the path", route.Method, name)
		}
	}
	named := slices.Clone(route.Body.Hidden)
	if route.Body.Array != "" {
		named = append(named, route.Body.Array)
	}
	for _, field := range route.Body.Aliases {
		named = append(named, field)
	}
	for _, name := range named {
		require.NotNil(t, fields.ByName(protoreflect.Name(name)), "%s has no field %s", route.Method, name)
	}
	require.Equal(t, route.Policy == routes.AppOrSelf, route.Self != "", route.Method)
	if route.Self != "" {
		for _, b := range paths {
			require.Contains(t, b.Path, "{"+route.Self+"}", route.Method)
		}
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

// TestEveryAnswerIsAnObject writes each answer from a request and response
// without any field, which finds an entry that takes the messages of another
// RPC, and a list that is null.
func TestEveryAnswerIsAnObject(t *testing.T) {
	t.Parallel()
	message := func(d protoreflect.MessageDescriptor) proto.Message {
		mt, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
		require.NoError(t, err)
		return mt.New().Interface()
	}
	for method, r := range routes.All() {
		d := r.Descriptor()
		e := &routes.Envelope{App: &catalog.App{Org: "acme", Name: "chat"}, Action: "get", Scheme: "http", Host: `h"`, Path: "/x", Query: "a=1&b=2", Now: time.Now()}
		require.NoError(t, r.Answer.Append(e, message(d.Input()), message(d.Output())), method)
		var got map[string]any
		require.NoError(t, json.Unmarshal(e.Buf, &got), "%s: %s", method, e.Buf)
		require.NotContains(t, string(e.Buf), "null", method)
		for _, v := range []*routes.Value{r.Answer.Path, r.Answer.At, r.Answer.Cursor} {
			require.True(t, v == nil || v.Type.Kind() == reflect.String, method)
		}
	}
}

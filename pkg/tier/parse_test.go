package tier

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type tree = map[string]any

func seed(t testing.TB, name string) *Document {
	t.Helper()
	seeds, err := Seeds()
	require.NoError(t, err)
	for _, d := range seeds {
		if d.Name == name {
			return d
		}
	}
	t.Fatalf("no tier %s", name)
	return nil
}

func mutate(t testing.TB, edit func(tree)) []byte {
	t.Helper()
	var m tree
	require.NoError(t, json.Unmarshal(seed(t, "basic").JSON(), &m))
	edit(m)
	b, err := json.Marshal(m)
	require.NoError(t, err)
	return b
}

func sub(m tree, path ...string) tree {
	for _, p := range path {
		m = m[p].(tree)
	}
	return m
}

func limit(count any, per, unit, scope string) tree {
	return tree{"count": count, "per": per, "unit": unit, "scope": scope}
}

type faultCase struct {
	edit func(tree)
	want []string
	// relation marks what a JSON Schema cannot see.
	relation bool
}

var faultCases = map[string]faultCase{
	"unknown name": {
		edit: func(m tree) { m["colour"] = "red" },
		want: []string{"colour: unknown name"},
	},
	"unknown quota": {
		edit: func(m tree) { sub(m, "quotas")["cats"] = 1 },
		want: []string{"quotas.cats: unknown name"},
	},
	"missing quota": {
		edit: func(m tree) { delete(sub(m, "quotas"), "groups") },
		want: []string{"quotas.groups: is missing"},
	},
	"negative quota": {
		edit: func(m tree) { sub(m, "quotas")["groups"] = -1 },
		want: []string{"quotas.groups: must be at least 0, not -1"},
	},
	"fraction": {
		edit: func(m tree) { sub(m, "quotas")["groups"] = 1.5 },
		want: []string{"quotas.groups: must be a whole number, not 1.5"},
	},
	"text for a number": {
		edit: func(m tree) { sub(m, "sizes")["upload_bytes"] = "big" },
		want: []string{"sizes.upload_bytes: must be a whole number, not a string"},
	},
	"null where a value must be": {
		edit: func(m tree) { m["rules"] = nil },
		want: []string{"rules: must be an object, not null"},
	},
	"no days": {
		edit: func(m tree) { m["retention_days"] = 0 },
		want: []string{"retention_days: must be at least 1, not 0"},
	},
	"bad name": {
		edit: func(m tree) { m["name"] = "Big Plan" },
		want: []string{"name: must match " + namePattern},
	},
	"unknown rule": {
		edit: func(m tree) { sub(m, "rules")["fly"] = tree{"limits": []any{limit(1, "second", "call", "app")}} },
		want: []string{"rules.fly: unknown rule"},
	},
	"unknown rule in a list": {
		edit: func(m tree) { sub(m, "rate_counting")["per_ip_except"] = []any{"fly"} },
		want: []string{`rate_counting.per_ip_except[0]: unknown rule "fly"`},
	},
	"rule without limits": {
		edit: func(m tree) { sub(m, "rules")["get_user"] = tree{} },
		want: []string{"rules.get_user: must have exactly one of bucket and limits"},
	},
	"rule with both": {
		edit: func(m tree) {
			sub(m, "rules")["get_user"] = tree{"bucket": "push_settings", "limits": []any{limit(1, "second", "call", "app")}}
		},
		want: []string{"rules.get_user: must have exactly one of bucket and limits"},
	},
	"empty limits": {
		edit: func(m tree) { sub(m, "rules")["get_user"] = tree{"limits": []any{}} },
		want: []string{"rules.get_user.limits: must not be empty"},
	},
	"incomplete limit": {
		edit: func(m tree) { sub(m, "rules")["get_user"] = tree{"limits": []any{tree{"count": 5}}} },
		want: []string{
			"rules.get_user.limits[0].per: is missing", "rules.get_user.limits[0].scope: is missing",
			"rules.get_user.limits[0].unit: is missing",
		},
	},
	"unknown interval": {
		edit: func(m tree) { sub(m, "rules")["get_user"] = tree{"limits": []any{limit(1, "day", "call", "app")}} },
		want: []string{`rules.get_user.limits[0].per: must be one of second, minute, not "day"`},
	},
	"no base": {
		edit: func(m tree) { sub(m, "downstream")["base"] = 0 },
		want: []string{"downstream.base: must be at least 1, not 0"},
	},
	"all at once": {
		edit: func(m tree) {
			sub(m, "quotas")["groups"] = -1
			sub(m, "rules")["fly"] = tree{"limits": []any{}}
			sub(m, "rules")["get_user"] = tree{"limits": []any{limit(-1, "second", "call", "app"), limit(1, "second", "call", "app")}}
			sub(m, "rules")["list_users"] = tree{"limits": []any{limit(1, "second", "message", "app")}}
			sub(m, "rules")["delete_user"] = tree{"bucket": "broken"}
			sub(m, "rules")["get_token"] = tree{"bucket": "nowhere"}
			sub(m, "shared_buckets")["broken"] = tree{"limits": 5}
			m["name"] = 7
			sub(m, "rate_counting")["per_ip"] = "yes"
		},
		want: []string{
			"name: must be a string, not a number", "quotas.groups: must be at least 0, not -1",
			"rate_counting.per_ip: must be true or false, not a string",
			"rules.fly: unknown rule", "rules.fly.limits: must not be empty",
			"rules.get_token.bucket: unknown bucket \"nowhere\"",
			"rules.get_user.limits[0].count: must be at least 0, not -1",
			"rules.list_users.limits[0]: unit mismatch: the call has no targets, so it cannot be counted in messages",
			"shared_buckets.broken.limits: must be a list, not a number",
		},
	},
	"unit mismatch": {
		relation: true,
		edit: func(m tree) {
			sub(m, "rules")["get_user"] = tree{"limits": []any{limit(1, "second", "message", "app")}}
		},
		want: []string{"rules.get_user.limits[0]: unit mismatch: the call has no targets, so it cannot be counted in messages"},
	},
	"unit mismatch of a shared bucket": {
		relation: true,
		edit: func(m tree) {
			sub(m, "shared_buckets")["mixed"] = tree{"limits": []any{limit(1, "second", "message", "app")}}
			sub(m, "rules")["get_user"] = tree{"bucket": "mixed"}
			sub(m, "rules")["send_message"] = tree{"bucket": "mixed"}
		},
		want: []string{"rules.get_user.bucket: unit mismatch: the call has no targets, so it cannot be counted in messages"},
	},
	"unknown bucket": {
		relation: true,
		edit:     func(m tree) { sub(m, "rules")["get_user"] = tree{"bucket": "nowhere"} },
		want:     []string{`rules.get_user.bucket: unknown bucket "nowhere"`},
	},
	"the same limit twice": {
		relation: true,
		edit: func(m tree) {
			sub(m, "rules")["get_user"] = tree{"limits": []any{limit(1, "second", "call", "app"), limit(2, "second", "call", "app")}}
		},
		want: []string{"rules.get_user.limits[1]: repeats a limit per second, call and app"},
	},
	"bad pattern": {
		relation: true,
		edit:     func(m tree) { sub(m, "patterns")["chatroom_attribute_key"] = "[" },
		want:     []string{"patterns.chatroom_attribute_key: bad pattern: error parsing regexp: missing closing ]: `[`"},
	},
}

func TestParseNamesEveryFault(t *testing.T) {
	t.Parallel()
	for name, c := range faultCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(mutate(t, c.edit))
			var faults Faults
			require.ErrorAs(t, err, &faults)
			require.Equal(t, strings.Join(c.want, "\n"), faults.Error())
		})
	}
}

func TestParseRefusesWhatIsNotADocument(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want string }{
		"nothing":       {"", "it ends too early"},
		"a list":        {"[]", "must be a JSON object"},
		"half":          {`{"name":`, "it ends too early"},
		"rubbish":       {`{name}`, "not valid JSON"},
		"more":          {`{} {}`, "more follows"},
		"a name twice":  {`{"name":"a","quotas":{"groups":1,"groups":2}}`, "quotas.groups: occurs twice"},
		"deep":          {strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100), "nested more than"},
		"too large":     {`{"name":"` + strings.Repeat("x", MaxDocumentBytes) + `"}`, "larger than"},
		"empty":         {"{}", "quotas: is missing"},
		"huge exponent": {`{"retention_days":1e400}`, "must be a whole number"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(c.in))
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestParseKeepsWhatItReads(t *testing.T) {
	t.Parallel()
	seeds, err := Seeds()
	require.NoError(t, err)
	for _, d := range seeds {
		again, err := Parse(d.JSON())
		require.NoError(t, err)
		require.Equal(t, d, again)
		again, err = Parse(d.JSONIndent())
		require.NoError(t, err)
		require.Equal(t, d, again)
		require.Equal(t, d, d.Clone())
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	base := seed(t, "free")

	t.Run("names merge, rules are replaced, null is unlimited", func(t *testing.T) {
		t.Parallel()
		got, err := Merge(base, []byte(`{
			"quotas": {"groups": 7, "registered_users": null},
			"rules": {"register_user": {"limits": [{"count": 5, "per": "minute", "unit": "call", "scope": "app"}]}},
			"downstream": {"factor": 3}}`))
		require.NoError(t, err)
		require.Equal(t, []string{
			"downstream.factor: 20 -> 3",
			"quotas.groups: 100 -> 7",
			"quotas.registered_users: 100 -> unlimited",
			"rules.register_user: bucket register_users -> 5 calls/minute/app",
		}, Diff(base, got))
	})
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		for _, none := range []string{"", "  ", "{}"} {
			got, err := Merge(base, []byte(none))
			require.NoError(t, err)
			require.Empty(t, Diff(base, got))
		}
	})
	for name, c := range map[string]struct{ over, want string }{
		"renaming":          {`{"name": "x"}`, "name: overrides cannot name a tier"},
		"an unknown quota":  {`{"quotas": {"cats": 1}}`, "quotas.cats: unknown name"},
		"half a limit":      {`{"rate_counting": {"default": {"count": 1}}}`, "rate_counting.default.per: is missing"},
		"an unknown bucket": {`{"rules": {"get_user": {"bucket": "x"}}}`, `rules.get_user.bucket: unknown bucket "x"`},
		"both kinds at once": {
			`{"quotas": {"cats": 1}, "rules": {"get_user": {"bucket": "x"}}}`,
			"quotas.cats: unknown name\nrules.get_user.bucket: unknown bucket \"x\"",
		},
		"not even an object": {`3`, "must be a JSON object"},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			_, err := Merge(base, []byte(c.over))
			require.ErrorContains(t, err, c.want)
		})
	}
	t.Run("leaves the base alone", func(t *testing.T) {
		t.Parallel()
		before := base.JSON()
		_, err := Merge(base, []byte(`{"quotas": {"groups": 1}}`))
		require.NoError(t, err)
		require.Equal(t, before, base.JSON())
	})
}

// The short way of merging gives what the long way gives, and leaves the tier
// alone.
func FuzzMerge(f *testing.F) {
	for _, over := range []string{
		`{}`, `{"quotas": {"groups": 7, "registered_users": null}}`, `{"retention_days": null}`, `{"retention_days": 5}`,
		`{"rate_counting": {"per_ip": false, "per_ip_except": ["get_user"], "per_ip_percent": 5}}`,
		`{"rate_counting": {"default": {"count": 1, "per": "minute", "unit": "call", "scope": "app"}}}`,
		`{"rules": {"get_user": {"bucket": "push_settings"}, "send_message": {"limits": [{"count": 2, "per": "second", "unit": "message", "scope": "app"}]}}}`,
		`{"shared_buckets": {"push_settings": {"limits": [{"count": 2, "per": "second", "unit": "call", "scope": "user"}]}}}`,
		`{"downstream": {"factor": null, "apply_to": ["client"], "rules": [], "max_backlog_seconds": 3}}`, `{"downstream": {"factor": 1, "base": 2}}`,
		`{"sizes": {"upload_bytes": 1}, "patterns": {"chatroom_attribute_key": "^a$"}, "title": "x"}`,
		`{"rules": {"get_user": {"bucket": "nowhere"}}}`, `{"Quotas": {"groups": 1}}`,
	} {
		f.Add([]byte(over))
	}
	seeds, err := Seeds()
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, over []byte) {
		base := seeds[len(over)%len(seeds)]
		before := string(base.JSON())
		tree, err := overridesTree(over)
		if err != nil {
			return
		}
		long, err := mergeTrees(base, tree)
		short := overlay(base, over)
		require.Equal(t, err == nil, short != nil, "%v", err)
		if err == nil {
			require.Equal(t, string(long.JSON()), string(short.JSON()))
		}
		require.Equal(t, before, string(base.JSON()))
	})
}

func BenchmarkMerge(b *testing.B) {
	base := seed(b, "free")
	for b.Loop() {
		if _, err := Merge(base, []byte(`{"rules": {"get_user": {"limits": [{"count": 5, "per": "minute", "unit": "call", "scope": "app"}]}}}`)); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	seeds, err := Seeds()
	require.NoError(f, err)
	for _, d := range seeds {
		f.Add(d.JSON())
	}
	f.Add([]byte(`{"name":"x","rules":{"get_user":{"limits":[{"count":-1}]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse(data)
		if err != nil {
			var faults Faults
			require.ErrorAs(t, err, &faults)
			require.NotEmpty(t, faults)
			return
		}
		_, err = Compile(d)
		require.NoError(t, err)
		again, err := Parse(d.JSON())
		require.NoError(t, err)
		require.Empty(t, Diff(d, again))
		if CheckOverrides(data) == nil {
			t.Fatal("a complete document has a name, which overrides may not have")
		}
	})
}

package tier

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxFaults bounds the answer to a hopeless document.
const maxFaults = 200

// walker checks a decoded document and collects all faults.
type walker struct {
	// partial allows names to be missing, for overrides.
	partial bool
	faults  Faults
}

func (w *walker) fault(path, format string, args ...any) {
	if len(w.faults) < maxFaults {
		w.faults = append(w.faults, Fault{path, fmt.Sprintf(format, args...)})
	}
}

func (w *walker) result() error {
	if len(w.faults) == 0 {
		return nil
	}
	sort.SliceStable(w.faults, func(i, j int) bool { return w.faults[i].Path < w.faults[j].Path })
	return w.faults
}

var nameRegexp = regexp.MustCompile(namePattern)

func (w *walker) check(n *node, v any, path string) {
	if v == nil {
		if !n.nullable {
			w.fault(path, "must be %s, not null", n.article())
		}
		return
	}
	switch n.kind {
	case object:
		w.object(n, v, path)
	case list:
		items, ok := v.([]any)
		if !ok {
			w.mismatch(n, v, path)
			return
		}
		if n.nonEmpty && len(items) == 0 {
			w.fault(path, "must not be empty")
		}
		for i, item := range items {
			w.check(n.elem, item, path+"["+strconv.Itoa(i)+"]")
		}
	case integer:
		w.integer(n, v, path)
	case text:
		s, ok := v.(string)
		if !ok {
			w.mismatch(n, v, path)
			return
		}
		w.text(n, s, path)
	case boolean:
		if _, ok := v.(bool); !ok {
			w.mismatch(n, v, path)
		}
	}
}

func (w *walker) object(n *node, v any, path string) {
	m, ok := v.(map[string]any)
	if !ok {
		w.mismatch(n, v, path)
		return
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		at := join(path, key)
		switch child := n.child(key); {
		case child == nil:
			w.fault(at, "unknown name")
		case n.elem != nil && n.keys != nil && !slices.Contains(n.keys(), key):
			w.fault(at, "unknown rule")
			w.check(child, m[key], at)
		case n.elem != nil && n.keys == nil && !nameRegexp.MatchString(key):
			w.fault(at, "a name must match %s", namePattern)
		default:
			w.check(child, m[key], at)
		}
	}
	if !w.partial || n.whole {
		for _, key := range n.required {
			if _, ok := m[key]; !ok {
				w.fault(join(path, key), "is missing")
			}
		}
	}
	if len(n.either) > 0 {
		found := 0
		for _, key := range n.either {
			if _, ok := m[key]; ok {
				found++
			}
		}
		if found != 1 {
			w.fault(path, "must have exactly one of %s", strings.Join(n.either, " and "))
		}
	}
}

func (w *walker) integer(n *node, v any, path string) {
	num, ok := v.(json.Number)
	if !ok {
		w.mismatch(n, v, path)
		return
	}
	i, err := strconv.ParseInt(num.String(), 10, 64)
	switch {
	case err != nil:
		w.fault(path, "must be a whole number, not %s", num)
	case i < n.min:
		w.fault(path, "must be at least %d, not %d", n.min, i)
	case i > n.max:
		w.fault(path, "must be at most %d, not %d", n.max, i)
	}
}

func (w *walker) text(n *node, s, path string) {
	switch {
	case n.enum != nil:
		if allowed := n.enum(); !slices.Contains(allowed, s) {
			if n == idNode {
				w.fault(path, "unknown rule %q", s)
				return
			}
			w.fault(path, "must be one of %s, not %q", strings.Join(allowed, ", "), s)
		}
	case n.pattern != "":
		if !nameRegexp.MatchString(s) {
			w.fault(path, "must match %s", n.pattern)
		}
	case utf8.RuneCountInString(s) > maxText:
		w.fault(path, "must have at most %d characters", maxText)
	}
}

func (w *walker) mismatch(n *node, v any, path string) {
	got := "something else"
	switch v.(type) {
	case string:
		got = "a string"
	case json.Number:
		got = "a number"
	case bool:
		got = "a boolean"
	case []any:
		got = "a list"
	case map[string]any:
		got = "an object"
	}
	w.fault(path, "must be %s, not %s", n.article(), got)
}

func (n *node) article() string {
	switch n.kind {
	case object:
		return "an object"
	case list:
		return "a list"
	case integer:
		return "a whole number"
	case text:
		return "a string"
	default:
		return "true or false"
	}
}

// broken reports whether a fault was found at a path or below it.
func (w *walker) broken(path string) bool {
	return slices.ContainsFunc(w.faults, func(f Fault) bool {
		rest, ok := strings.CutPrefix(f.Path, path)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// sound gives a tree without the parts that have faults: without single
// entries of rules and the like, without whole parts otherwise.
func (w *walker) sound(tree map[string]any) map[string]any {
	if len(w.faults) == 0 {
		return tree
	}
	out := make(map[string]any, len(tree))
	for name, v := range tree {
		part := documentNode.child(name)
		entries, ok := v.(map[string]any)
		switch {
		case !w.broken(name):
			out[name] = v
		case ok && part != nil && part.elem != nil:
			kept := make(map[string]any, len(entries))
			for key, entry := range entries {
				if !w.broken(join(name, key)) {
					kept[key] = entry
				}
			}
			out[name] = kept
		}
	}
	return out
}

// relations checks what concerns several places of a document. Places that are
// broken by themselves are not in it.
func (w *walker) relations(d *Document) {
	for _, id := range slices.Sorted(maps.Keys(d.Rules)) {
		rule, path := d.Rules[id], "rules."+id
		limits, at := rule.Limits, path+".limits"
		if rule.Bucket != "" {
			bucket, ok := d.SharedBuckets[rule.Bucket]
			if !ok && !w.broken("shared_buckets."+rule.Bucket) {
				w.fault(path+".bucket", "unknown bucket %q", rule.Bucket)
			}
			limits, at = bucket.Limits, path+".bucket"
		}
		call, _ := LookupCall(id)
		for i, l := range limits {
			if l.Unit == UnitMessage && !call.Targets {
				w.fault(at+indexIf(rule.Bucket == "", i), "unit mismatch: the call has no targets, so it cannot be counted in messages")
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.SharedBuckets)) {
		w.duplicates("shared_buckets."+name+".limits", d.SharedBuckets[name].Limits)
	}
	for _, id := range slices.Sorted(maps.Keys(d.Rules)) {
		w.duplicates("rules."+id+".limits", d.Rules[id].Limits)
	}
	if !w.broken("rate_counting") {
		if d.RateCounting.Default.Unit != UnitCall {
			w.fault("rate_counting.default.unit", "unit mismatch: the default counts calls")
		}
		if d.RateCounting.Default.Scope != ScopeApp {
			w.fault("rate_counting.default.scope", "the default counts per app")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.Patterns)) {
		if _, err := regexp.Compile(d.Patterns[name]); err != nil {
			w.fault("patterns."+name, "bad pattern: %v", err)
		}
	}
}

// duplicates refuses two limits of the same kind on one call: the looser of
// them would mean nothing.
func (w *walker) duplicates(path string, limits []LimitDocument) {
	for i, l := range limits {
		for _, before := range limits[:i] {
			l.Count, before.Count = 0, 0
			if l == before {
				w.fault(path+indexIf(true, i), "repeats a limit per %s, %s and %s", l.Per, l.Unit, l.Scope)
			}
		}
	}
}

func indexIf(yes bool, i int) string {
	if !yes {
		return ""
	}
	return "[" + strconv.Itoa(i) + "]"
}

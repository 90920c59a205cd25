package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/chappe-im/chappe/pkg/tier"
	"github.com/chappe-im/chappe/services/gateway/routes"
)

// compatibility lists every call that may have a rule: whether the gateway
// routes it, and its rate, which is the same on all compiled-in tiers. A call
// is there exactly if an entry of the gateway's table names its rule.
func compatibility() (string, error) {
	seeds, err := tier.Seeds()
	if err != nil {
		return "", err
	}
	routed := map[string]bool{}
	for _, r := range routes.All() {
		for _, id := range r.Rules {
			routed[id] = true
		}
	}
	var b strings.Builder
	done, all := 0, tier.Catalogue()
	for _, c := range all {
		if routed[c.ID] {
			done++
		}
	}
	b.WriteString(strconv.Itoa(done) + " of " + strconv.Itoa(len(all)) + " calls are there.\n")
	module := ""
	var rows [][]string
	flush := func() {
		if len(rows) > 0 {
			b.WriteString("\n### " + module + "\n\n")
			b.WriteString(table([]string{"", "call", "path", "rule", "rate"}, rows))
			rows = nil
		}
	}
	for _, c := range all {
		if c.Module != module {
			flush()
			module = c.Module
		}
		mark := "–"
		if routed[c.ID] {
			mark = "✓"
		}
		var paths []string
		for _, p := range c.Paths {
			paths = append(paths, code(c.Method+" "+strings.TrimPrefix(p, "/{org}/{app}")))
		}
		rows = append(rows, []string{mark, c.Title, strings.Join(paths, "<br>"), code(c.ID), limits(seeds[0], c.ID)})
	}
	flush()
	return strings.TrimSuffix(b.String(), "\n") + "\n", nil
}

// httpRule is an entry of proto/http.yaml.
type httpRule struct {
	Selector string
	Get      string
	Post     string
	Put      string
	Delete   string
	Bindings []httpRule `yaml:"additional_bindings"`
}

// calls gives the method and path of a rule and of its further bindings.
func (r httpRule) calls() [][2]string {
	var all [][2]string
	for _, c := range [][2]string{{"GET", r.Get}, {"POST", r.Post}, {"PUT", r.Put}, {"DELETE", r.Delete}} {
		if c[1] != "" {
			all = append(all, c)
		}
	}
	for _, b := range r.Bindings {
		all = append(all, b.calls()...)
	}
	return all
}

var pathParameter = regexp.MustCompile(`\{[^}]*\}`)

// otherCalls lists the paths that the gateway serves and that no rule is about:
// those of client SDKs, and other paths of calls that have a rule.
func otherCalls(root string) (string, error) {
	data, err := os.ReadFile(filepath.Join(root, "proto", "http.yaml"))
	if err != nil {
		return "", err
	}
	var doc struct{ HTTP struct{ Rules []httpRule } }
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return "", err
	}
	key := func(method, path string) string { return method + " " + pathParameter.ReplaceAllString(path, "{}") }
	listed := map[string]bool{}
	for _, c := range tier.Catalogue() {
		for _, p := range c.Paths {
			listed[key(c.Method, p)] = true
		}
	}
	var list [][]string
	all := routes.All()
	for _, r := range doc.HTTP.Rules {
		i := strings.LastIndexByte(r.Selector, '.')
		route := all["/"+r.Selector[:i]+"/"+r.Selector[i+1:]]
		if route == nil {
			return "", fmt.Errorf("%s has no route", r.Selector)
		}
		for _, c := range r.calls() {
			if listed[key(c[0], c[1])] {
				continue
			}
			governed := "the default rate, as " + code(route.Unlisted)
			if route.Unlisted == "" {
				governed = code(route.RuleFor(nil))
			}
			list = append(list, []string{title(r.Selector[i+1:]), code(c[0] + " " + strings.TrimPrefix(c[1], "/{org}/{app}")), governed})
		}
	}
	return table([]string{"call", "path", "governed by"}, list), nil
}

// title writes the name of an RPC as words: "List connections".
func title(name string) string {
	var b strings.Builder
	for i, c := range name {
		if i > 0 && unicode.IsUpper(c) {
			b.WriteByte(' ')
			c = unicode.ToLower(c)
		}
		b.WriteRune(c)
	}
	return b.String()
}

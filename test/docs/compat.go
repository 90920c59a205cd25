package docs

import (
	"strconv"
	"strings"

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

package docs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/chappe-im/chappe/pkg/tier"
)

// quotas tells the compiled-in tiers apart: a row for each quota.
func quotas() (string, error) {
	seeds, err := tier.Seeds()
	if err != nil {
		return "", err
	}
	header := []string{"quota"}
	for _, d := range seeds {
		header = append(header, d.Name)
	}
	var rows [][]string
	for _, q := range tier.Quotas() {
		row := []string{code(q)}
		for _, d := range seeds {
			row = append(row, number(d.Quotas[q]))
		}
		rows = append(rows, row)
	}
	retention := []string{code("retention_days")}
	for _, d := range seeds {
		retention = append(retention, number(d.RetentionDays))
	}
	return table(header, append(rows, retention)), nil
}

// sizes lists the sizes, which the compiled-in tiers have in common.
func sizes() (string, error) {
	seeds, err := tier.Seeds()
	if err != nil {
		return "", err
	}
	var rows [][]string
	for _, s := range tier.Sizes() {
		for _, d := range seeds[1:] {
			if number(d.Sizes[s]) != number(seeds[0].Sizes[s]) {
				return "", fmt.Errorf("%s differs between tiers: give it a column each", s)
			}
		}
		rows = append(rows, []string{code(s), number(seeds[0].Sizes[s])})
	}
	return table([]string{"size", "value"}, rows), nil
}

// clientRates tells what connected clients may send: a row for each rule.
func clientRates() (string, error) {
	seeds, err := tier.Seeds()
	if err != nil {
		return "", err
	}
	header := []string{"rule", "what", "each user"}
	for _, d := range seeds {
		header = append(header, d.Name)
	}
	var rows [][]string
	for _, c := range tier.ClientCalls() {
		var user string
		var apps []string
		for _, d := range seeds {
			for _, l := range d.Rules[c.ID].Limits {
				text := number(&l.Count) + "/" + l.Per
				switch {
				case l.Scope == tier.ScopeApp:
					apps = append(apps, text)
				case user != "" && user != text:
					return "", fmt.Errorf("%s: the limit per user differs between tiers: give it a column each", c.ID)
				default:
					user = text
				}
			}
		}
		rows = append(rows, append([]string{code(c.ID), c.Title, user}, apps...))
	}
	return table(header, rows), nil
}

// limits words a rule's limits of the compiled-in tiers.
func limits(d *tier.Document, rule string) string {
	r, ok := d.Rules[rule]
	if !ok {
		return words(d.RateCounting.Default)
	}
	list := r.Limits
	if r.Bucket != "" {
		list = d.SharedBuckets[r.Bucket].Limits
	}
	parts := make([]string, len(list))
	for i, l := range list {
		parts[i] = words(l)
	}
	text := strings.Join(parts, " and ")
	if r.Bucket != "" {
		text += ", shared as " + code(r.Bucket)
	}
	return text
}

func words(l tier.LimitDocument) string {
	text := strconv.FormatInt(l.Count, 10) + " " + l.Unit + "s/" + l.Per
	if l.Scope != tier.ScopeApp {
		text += "/" + l.Scope
	}
	return text
}

func number(v *int64) string {
	if v == nil {
		return "–"
	}
	s := strconv.FormatInt(*v, 10)
	var groups []string
	for len(s) > 3 {
		groups = append(groups, s[len(s)-3:])
		s = s[:len(s)-3]
	}
	groups = append(groups, s)
	slices.Reverse(groups)
	return strings.Join(groups, ",")
}

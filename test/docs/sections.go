// Package docs keeps the tables of the documentation true: it makes them from
// the code, and its test fails when a page says something else. The tables
// stand in the pages between marks:
//
//	<!-- generated: flags -->
//	<!-- end -->
//
// make docs writes them anew.
package docs

import (
	"errors"
	"fmt"
	"strings"
)

const (
	beginMark = "<!-- generated: "
	endMark   = "<!-- end -->"
)

// errMarks says that a page's marks do not pair up.
var errMarks = errors.New("a generated section has no end, or begins within another")

// Fill puts the sections that render makes between the marks of a page. It
// gives an error when the marks do not pair up or name an unknown section.
func Fill(page string, render func(section string) (string, error)) (string, error) {
	var out strings.Builder
	inside := false
	for line := range strings.Lines(page) {
		name, begins := strings.CutPrefix(strings.TrimSpace(line), beginMark)
		switch {
		case begins:
			if inside {
				return "", errMarks
			}
			inside = true
			name = strings.TrimSuffix(name, " -->")
			section, err := render(name)
			if err != nil {
				return "", fmt.Errorf("section %s: %w", name, err)
			}
			out.WriteString(line + "\n" + section + "\n")
		case strings.TrimSpace(line) == endMark:
			if !inside {
				return "", errMarks
			}
			inside = false
			out.WriteString(line)
		case !inside:
			out.WriteString(line)
		}
	}
	if inside {
		return "", errMarks
	}
	return out.String(), nil
}

// table writes a Markdown table.
func table(header []string, rows [][]string) string {
	var b strings.Builder
	row := func(cells []string) {
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	row(header)
	b.WriteString(strings.Repeat("|---", len(header)) + "|\n")
	for _, r := range rows {
		row(r)
	}
	return b.String()
}

func code(s string) string { return "`" + s + "`" }

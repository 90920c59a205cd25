package docs

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// metrics lists the metrics that the code under root registers, as their
// options in the source name and explain them.
func metrics(root string) (string, error) {
	var rows [][]string
	for _, dir := range []string{"cmd", "pkg", "services"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			src, err := os.ReadFile(path) //nolint:gosec // a source file of this module
			if err != nil {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, src, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if row := metric(n); row != nil {
					rows = append(rows, row)
				}
				return true
			})
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	if len(rows) == 0 {
		return "", errors.New("no metric found")
	}
	slices.SortFunc(rows, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	return table([]string{"metric", "labels", "meaning"}, rows), nil
}

// metric reads a constructor's call, such as NewCounterVec(CounterOpts{Name: …,
// Help: …}, []string{…}), or one of the forms that take name and help as plain
// arguments (NewDesc).
func metric(n ast.Node) []string {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return nil
	}
	opts, ok := call.Args[0].(*ast.CompositeLit)
	if !ok {
		return nil
	}
	var name, help string
	for _, e := range opts.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		key, ok := kv.Key.(*ast.Ident)
		if !ok {
			continue
		}
		switch key.Name {
		case "Name":
			name = text(kv.Value)
		case "Help":
			help = text(kv.Value)
		}
	}
	if !strings.HasPrefix(name, "chappe_") {
		return nil
	}
	var labels []string
	if len(call.Args) > 1 {
		if list, ok := call.Args[1].(*ast.CompositeLit); ok {
			for _, e := range list.Elts {
				labels = append(labels, code(text(e)))
			}
		}
	}
	return []string{code(name), strings.Join(labels, ", "), help}
}

// text gives the value of a string literal, or of several joined by +.
func text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		if err == nil {
			return s
		}
	case *ast.BinaryExpr:
		return text(e.X) + text(e.Y)
	}
	return ""
}

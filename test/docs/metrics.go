package docs

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
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
			src, err := os.ReadFile(path) // a source file of this module
			if err != nil {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, src, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			rows = append(rows, metricsOf(file)...)
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
	rows = slices.CompactFunc(rows, slices.Equal) // one name, registered once for each value of a label
	return table([]string{"metric", "labels", "meaning"}, rows), nil
}

// metricsOf reads the constructors' calls of a file, such as
// NewCounterVec(CounterOpts{Name: …, Help: …}, []string{…}), and the calls of
// local functions around such a constructor, whose parameters stand in for its
// texts.
func metricsOf(file *ast.File) [][]string {
	var rows [][]string
	helpers := map[string]helper{}
	consts := constants(file)
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if h, ok := helperOf(n, consts); ok {
				helpers[h.name] = h
				return false
			}
		case *ast.CallExpr:
			row := metric(n, consts)
			if f, ok := n.Fun.(*ast.Ident); ok && row == nil {
				if h, ok := helpers[f.Name]; ok {
					row = metric(h.call, h.arguments(n))
				}
			}
			if row != nil {
				rows = append(rows, row)
			}
		}
		return true
	})
	return rows
}

// constants gives the texts of the constants that a file declares.
func constants(file *ast.File) map[string]string {
	consts := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
			for _, spec := range d.Specs {
				v, ok := spec.(*ast.ValueSpec)
				if !ok {
					continue
				}
				for i, e := range v.Values[:min(len(v.Values), len(v.Names))] {
					consts[v.Names[i].Name] = text(e, nil)
				}
			}
		}
		return true
	})
	return consts
}

// helper is a local function that makes metrics of one kind.
type helper struct {
	name   string
	params []string
	call   *ast.CallExpr
	consts map[string]string
}

func helperOf(n *ast.AssignStmt, consts map[string]string) (helper, bool) {
	if len(n.Lhs) != 1 || len(n.Rhs) != 1 {
		return helper{}, false
	}
	name, ok := n.Lhs[0].(*ast.Ident)
	if !ok {
		return helper{}, false
	}
	f, ok := n.Rhs[0].(*ast.FuncLit)
	if !ok {
		return helper{}, false
	}
	h := helper{name: name.Name, consts: consts}
	for _, field := range f.Type.Params.List {
		for _, p := range field.Names {
			h.params = append(h.params, p.Name)
		}
	}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok && h.call == nil && metric(c, consts) != nil {
			h.call = c
		}
		return true
	})
	return h, h.call != nil
}

// arguments gives the texts of a call by the parameters' names, among those of
// the file's constants.
func (h helper) arguments(call *ast.CallExpr) map[string]string {
	args := maps.Clone(h.consts)
	for i, e := range call.Args[:min(len(call.Args), len(h.params))] {
		args[h.params[i]] = text(e, nil)
	}
	return args
}

// metric reads a constructor's call; nil if it is none of ours.
func metric(call *ast.CallExpr, args map[string]string) []string {
	if len(call.Args) == 0 {
		return nil
	}
	opts, ok := call.Args[0].(*ast.CompositeLit)
	if !ok {
		return nil
	}
	var name, help string
	var labels []string
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
			name = text(kv.Value, args)
		case "Help":
			help = text(kv.Value, args)
		case "ConstLabels":
			labels = append(labels, labelNames(kv.Value, args)...)
		}
	}
	if !strings.HasPrefix(name, "chappe_") {
		return nil
	}
	if len(call.Args) > 1 {
		if list, ok := call.Args[1].(*ast.CompositeLit); ok {
			for _, e := range list.Elts {
				labels = append(labels, code(text(e, args)))
			}
		}
	}
	return []string{code(name), strings.Join(labels, ", "), help}
}

// labelNames gives the names of constant labels, a map from name to value.
func labelNames(e ast.Expr, args map[string]string) []string {
	m, ok := e.(*ast.CompositeLit)
	if !ok {
		return nil
	}
	var names []string
	for _, e := range m.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			names = append(names, code(text(kv.Key, args)))
		}
	}
	return names
}

// text gives the value of a string literal, of a parameter, or of several
// joined by +; for what only the running program knows, its name in braces.
func text(e ast.Expr, args map[string]string) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if s, err := strconv.Unquote(e.Value); err == nil {
			return s
		}
	case *ast.Ident:
		if v, ok := args[e.Name]; ok {
			return v
		}
		return "{" + e.Name + "}"
	case *ast.SelectorExpr:
		return "{" + strings.ToLower(e.Sel.Name) + "}"
	case *ast.BinaryExpr:
		return text(e.X, args) + text(e.Y, args)
	}
	return ""
}

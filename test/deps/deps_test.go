package deps

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDependencyDirection reads the import graph of the whole module.
func TestDependencyDirection(t *testing.T) {
	t.Parallel()
	packages := list(t)
	require.NotEmpty(t, packages)
	for _, v := range Check(packages) {
		t.Error(v)
	}
}

// TestRules shows for each rule one import that it refuses and one that it
// lets pass, so that a rule that no longer bites is noticed.
func TestRules(t *testing.T) {
	t.Parallel()
	const sub = module + "/"
	cases := []struct {
		name    string
		pkg     Package
		refused bool
	}{
		{"service to service", Package{Path: "services/account", Imports: []string{sub + "services/group"}}, true},
		{"service's test to service", Package{Path: "services/account", TestImports: []string{sub + "services/group"}}, true},
		{"service to its own parts", Package{Path: "services/gateway", Imports: []string{sub + "services/gateway/conn"}}, false},
		{"run to services", Package{Path: "services/run", Imports: []string{sub + "services/group"}}, false},
		{"service to run", Package{Path: "services/group", Imports: []string{sub + "services/run"}}, true},
		{"history to partition", Package{Path: "services/messaging/history", Imports: []string{sub + "services/messaging/partition"}}, true},
		{"history to its service", Package{Path: "services/messaging/history", TestImports: []string{sub + "services/messaging"}}, true},
		{"history to the log", Package{Path: "services/messaging/history", Imports: []string{sub + "pkg/natsx"}}, true},
		{"partition to its service", Package{Path: "services/messaging/partition", Imports: []string{sub + "services/messaging"}}, true},
		{"partition to history", Package{Path: "services/messaging/partition", Imports: []string{sub + "services/messaging/history"}}, false},
		{"messaging to its parts", Package{Path: "services/messaging", Imports: []string{sub + "services/messaging/partition"}}, false},
		{"pkg to service", Package{Path: "pkg/quota", Imports: []string{sub + "services/account"}}, true},
		{"pkg to pkg", Package{Path: "pkg/quota", Imports: []string{sub + "pkg/store"}}, false},
		{"service to main", Package{Path: "services/run", Imports: []string{sub + "cmd/chappe"}}, true},
		{"generated to own", Package{Path: "proto/gen/chappe/bus/v1", Imports: []string{sub + "pkg/errs"}}, true},
		{"generated to generated", Package{Path: "proto/gen/chappe/bus/v1", Imports: []string{sub + "proto/gen/chappe/account/v1"}}, false},
		{"pure to grpc", Package{Path: "pkg/rate", Deps: []string{grpc + "/status"}}, true},
		{"pure to generated", Package{Path: "pkg/tier", Deps: []string{sub + "proto/gen/chappe/limiter/v1"}}, true},
		{"pure to plain", Package{Path: "pkg/rate", Deps: []string{"time", sub + "pkg/domain"}}, false},
		{"service to embedded", Package{Path: "services/run", Imports: []string{sub + "pkg/embed"}}, true},
		{"main to embedded", Package{Path: "cmd/chappe", Imports: []string{sub + "pkg/embed"}}, false},
		{"node main to embedded", Package{Path: "cmd/chappe-node", Imports: []string{sub + "pkg/embed"}}, true},
		{"node main links a server", Package{Path: "cmd/chappe-node", Deps: []string{natsServer + "/v2/server"}}, true},
		{"service to the test kit", Package{Path: "services/group", Imports: []string{sub + "pkg/testkit"}}, true},
		{"service's test to the test kit", Package{Path: "services/group", TestImports: []string{sub + "pkg/testkit"}}, false},
		{"service to nats", Package{Path: "services/messaging", Imports: []string{natsClient + "/jetstream"}}, true},
		{"natsx to nats", Package{Path: "pkg/natsx", Imports: []string{natsClient + "/jetstream"}}, false},
		{"service to etcd", Package{Path: "services/limiter", Imports: []string{etcdClient + "/v3"}}, true},
		{"etcdx to etcd", Package{Path: "pkg/etcdx", Imports: []string{etcdClient + "/v3"}}, false},
		{"service to the nats server", Package{Path: "services/run", Imports: []string{natsServer + "/v2/server"}}, true},
		{"service to the etcd server", Package{Path: "services/run", Imports: []string{etcdServer + "/v3/embed"}}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			found := Check([]Package{c.pkg})
			if c.refused {
				require.NotEmpty(t, found)
			} else {
				require.Empty(t, found)
			}
		})
	}
}

// list asks the go command for every package of the module.
func list(t *testing.T) []Package {
	t.Helper()
	type pkg struct {
		ImportPath                               string
		Imports, TestImports, XTestImports, Deps []string
	}
	var packages []Package
	golist(t, func(p pkg) {
		packages = append(packages, Package{
			Path:        own(p.ImportPath),
			Imports:     p.Imports,
			TestImports: slices.Concat(p.TestImports, p.XTestImports),
			Deps:        p.Deps,
		})
	}, "-json=ImportPath,Imports,TestImports,XTestImports,Deps", module+"/...")
	return packages
}

// golist runs go list and gives each object that it prints to f.
func golist[T any](t *testing.T, f func(T), args ...string) {
	t.Helper()
	readTree(t)
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-e"}, args...)...)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	require.NoError(t, err, errOut.String())
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var v T
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
		f(v)
	}
}

// TestDependenciesAreDocumented compares the modules that the module's own
// packages and tests import with the rows of docs/dependencies.md.
func TestDependenciesAreDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/dependencies.md")
	require.NoError(t, err)
	documented := map[string]bool{}
	for line := range strings.Lines(string(doc)) {
		if rest, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ := strings.Cut(rest, "`")
			documented[name] = true
		}
	}
	imported := modules(t)
	for m := range imported {
		if !documented[m] {
			t.Errorf("docs/dependencies.md has no row for %s", m)
		}
	}
	for m := range documented {
		if !imported[m] {
			t.Errorf("docs/dependencies.md has a row for %s, which nothing imports directly", m)
		}
	}
}

// modules gives the paths of all modules that the module's own packages, tests
// included, import directly.
func modules(t *testing.T) map[string]bool {
	t.Helper()
	type pkg struct {
		ImportPath string
		Imports    []string
		Module     *struct {
			Path string
			Main bool
		}
	}
	moduleOf := map[string]string{}
	var own []pkg
	golist(t, func(p pkg) {
		if p.Module == nil {
			return // of the standard library
		}
		if p.Module.Main {
			own = append(own, p)
			return
		}
		moduleOf[p.ImportPath] = p.Module.Path
	}, "-deps", "-test", "-json=ImportPath,Imports,Module", module+"/...")
	direct := map[string]bool{}
	for _, p := range own {
		for _, imp := range p.Imports {
			imp, _, _ = strings.Cut(imp, " ") // without the mark of a test's variant
			if m := moduleOf[imp]; m != "" {
				direct[m] = true
			}
		}
	}
	return direct
}

// readTree lists every folder of the module, so that go test knows that the
// result depends on them: what a child process reads it does not see, and it
// would call an old result up to date.
func readTree(t *testing.T) {
	t.Helper()
	require.NoError(t, filepath.WalkDir("../..", func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && slices.Contains([]string{".git", "bin", "data", "node_modules"}, d.Name()) {
			return fs.SkipDir
		}
		return err
	}))
}

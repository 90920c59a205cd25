package deps

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
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
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e",
		"-json=ImportPath,Imports,TestImports,XTestImports,Deps", module+"/...")
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	require.NoError(t, err, errOut.String())
	var packages []Package
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath                               string
			Imports, TestImports, XTestImports, Deps []string
		}
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages = append(packages, Package{
			Path:        own(p.ImportPath),
			Imports:     p.Imports,
			TestImports: slices.Concat(p.TestImports, p.XTestImports),
			Deps:        p.Deps,
		})
	}
}

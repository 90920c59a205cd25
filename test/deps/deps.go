// Package deps states which package may import which, and why. Its test reads
// the import graph from the go command and fails on every edge that points the
// wrong way: cmd -> services/run -> services/X -> pkg -> proto/gen, and never
// back.
package deps

import (
	"fmt"
	"slices"
	"strings"
)

// module is the path all own packages begin with.
const module = "github.com/chappe-im/chappe"

// Package is what the rules look at of one package of the module: its path
// below the module ("pkg/rate") and what it imports.
type Package struct {
	// Path is relative to the module; the root is "".
	Path string
	// Imports holds the direct imports of the package's own files, TestImports
	// those of its tests, as full import paths.
	Imports, TestImports []string
	// Deps holds the transitive imports of the package's own files.
	Deps []string
}

// Violation is one forbidden import.
type Violation struct {
	Package, Import, Reason string
}

func (v Violation) String() string {
	return fmt.Sprintf("%s imports %s: %s", v.Package, v.Import, v.Reason)
}

// scope says which imports of a package a rule looks at.
type scope int

const (
	// direct looks at the imports of the package's own files.
	direct scope = iota
	// withTests looks at the imports of its tests too.
	withTests
	// transitive looks at everything that gets linked because of it.
	transitive
)

// A rule forbids imports to some packages.
type rule struct {
	reason string
	scope  scope
	// applies tells whether the rule holds for a package, by its relative path.
	applies func(pkg string) bool
	// forbids tells whether pkg must not import imp, a full import path.
	forbids func(pkg, imp string) bool
}

// Third-party trees that only few packages may touch.
const (
	grpc       = "google.golang.org/grpc"
	natsClient = "github.com/nats-io/nats.go"
	natsServer = "github.com/nats-io/nats-server"
	etcdClient = "go.etcd.io/etcd/client"
	etcdServer = "go.etcd.io/etcd/server"
)

// pure are the packages that hold arithmetic and rules only.
var pure = []string{"pkg/domain", "pkg/rate", "pkg/fanout", "pkg/tier"}

// rules is the whole dependency policy.
var rules = []rule{
	{
		reason: "a service reaches another one through its generated gRPC client, so that each can run in a process of its own",
		scope:  withTests,
		applies: func(pkg string) bool {
			return service(pkg) != "" && service(pkg) != "run"
		},
		forbids: func(pkg, imp string) bool {
			other := service(own(imp))
			return other != "" && other != service(pkg)
		},
	},
	{
		reason:  "the parts of messaging are in layers: history is below partition, and what callers see is above both",
		scope:   withTests,
		applies: in("services/messaging/history", "services/messaging/partition"),
		forbids: func(pkg, imp string) bool {
			up, ok := strings.CutPrefix(own(imp), "services/messaging")
			return ok && (up == "" || pkg == "services/messaging/history" && own(imp) != pkg)
		},
	},
	{
		reason:  "history is the lower part of messaging: it is told by partition what the log holds and does not reach for it",
		scope:   direct,
		applies: in("services/messaging/history"),
		forbids: func(_, imp string) bool { return within(own(imp), "pkg/natsx", "pkg/etcdx") },
	},
	{
		reason:  "pkg is the layer below the services and is used by all of them",
		scope:   withTests,
		applies: in("pkg"),
		forbids: func(_, imp string) bool { return within(own(imp), "services", "cmd", "bench", "test") },
	},
	{
		reason:  "services are started by cmd and know nothing of it, nor of the tools that measure them",
		scope:   direct,
		applies: in("services"),
		forbids: func(_, imp string) bool { return within(own(imp), "cmd", "bench", "test") },
	},
	{
		reason:  "generated code depends on nothing that is written by hand",
		scope:   direct,
		applies: in("proto/gen"),
		forbids: func(_, imp string) bool { return own(imp) != "" && !within(own(imp), "proto/gen") },
	},
	{
		reason:  "it is arithmetic and rules over plain Go values; transport, storage and wire types belong to its callers",
		scope:   transitive,
		applies: in(pure...),
		forbids: func(_, imp string) bool {
			return within(imp, grpc, natsClient, natsServer, "go.etcd.io/etcd") || within(own(imp), "proto/gen")
		},
	},
	{
		reason: "the embedded servers weigh 20 MB: only the all-in-one, the test kit, the benchmark and tests carry them",
		scope:  direct,
		applies: func(pkg string) bool {
			return !within(pkg, "cmd/chappe", "pkg/testkit", "bench", "test")
		},
		forbids: func(_, imp string) bool { return within(own(imp), "pkg/embed", "pkg/testkit") },
	},
	{
		reason:  "only pkg/embed runs servers inside the process",
		scope:   withTests,
		applies: not("pkg/embed"),
		forbids: func(pkg, imp string) bool {
			if within(imp, natsServer) {
				// An in-process connection is made to the server itself.
				return !within(pkg, "pkg/natsx", "bench")
			}
			return within(imp, etcdServer)
		},
	},
	{
		reason: "pkg/natsx holds the table of streams and consumers; NATS is reached through it alone",
		scope:  withTests,
		// An example stands for a program of somebody else's.
		applies: not("pkg/natsx", "pkg/embed", "bench", "examples"),
		forbids: func(_, imp string) bool { return within(imp, natsClient) },
	},
	{
		reason:  "pkg/etcdx holds the watches and leases; etcd is reached through it alone",
		scope:   withTests,
		applies: not("pkg/etcdx", "pkg/embed"),
		forbids: func(_, imp string) bool { return within(imp, etcdClient) },
	},
	{
		reason:  "the node binary connects to servers and must not link them",
		scope:   transitive,
		applies: in("cmd/chappe-node"),
		forbids: func(_, imp string) bool { return within(imp, natsServer, etcdServer) },
	},
}

// Check gives every violation of the policy, sorted.
func Check(packages []Package) []Violation {
	var found []Violation
	for _, p := range packages {
		for _, r := range rules {
			if !r.applies(p.Path) {
				continue
			}
			imports := p.Imports
			switch r.scope {
			case direct:
			case withTests:
				imports = slices.Concat(p.Imports, p.TestImports)
			case transitive:
				imports = p.Deps
			}
			for _, imp := range imports {
				if r.forbids(p.Path, imp) {
					found = append(found, Violation{Package: p.Path, Import: imp, Reason: r.reason})
				}
			}
		}
	}
	slices.SortFunc(found, func(a, b Violation) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(found)
}

// service gives the name of the service a relative path belongs to, or "".
func service(pkg string) string {
	rest, ok := strings.CutPrefix(pkg, "services/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// own gives an import's path below the module, or "" for others.
func own(imp string) string {
	rest, ok := strings.CutPrefix(imp, module+"/")
	if !ok {
		return ""
	}
	return rest
}

// within tells whether path is one of the trees or lies below one.
func within(path string, trees ...string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool {
		return path == tree || strings.HasPrefix(path, tree+"/")
	})
}

func in(trees ...string) func(string) bool {
	return func(pkg string) bool { return within(pkg, trees...) }
}

func not(trees ...string) func(string) bool {
	return func(pkg string) bool { return !within(pkg, trees...) }
}

package harness

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/services/run"
)

// flagsEnv tells a test binary to be a server with these flags, as JSON.
const flagsEnv = "CHAPPE_TEST_SERVE_FLAGS"

// Flags are flags of a server, by name, without dashes.
type Flags map[string]string

// With returns the flags with further ones.
func (f Flags) With(more Flags) Flags {
	out := maps.Clone(f)
	maps.Copy(out, more)
	return out
}

// SingleNode returns the flags of a server that runs everything, on ports of the
// system's choice.
func SingleNode(data string) Flags {
	return Flags{
		"target": run.TargetAll, "data": data, "http": "127.0.0.1:0", "grpc": "127.0.0.1:0", "ops": "127.0.0.1:0",
		"demo": "false", "partitions": "4",
	}
}

// Part returns the flags of a server that runs some services with others' etcd.
func (f Flags) Part(target string, more Flags) Flags {
	return f.With(Flags{"target": target}).With(more)
}

// config parses flags as the command line does.
func (f Flags) config() (run.Config, error) {
	var cfg run.Config
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	cfg.Flags(fs)
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if err := fs.Set(name, f[name]); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

// HasFlag reports whether servers have a flag.
func HasFlag(name string) bool {
	var cfg run.Config
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	cfg.Flags(fs)
	return fs.Lookup(name) != nil
}

// StartFlags runs a server with flags as a process of its own and waits until
// it is ready. It is killed at the test's end if it still runs.
func StartFlags(t testing.TB, f Flags) *Process {
	t.Helper()
	p, err := TryFlags(t, f)
	require.NoError(t, err)
	return p
}

// TryFlags is StartFlags that gives back why the server did not get ready.
func TryFlags(t testing.TB, f Flags) (*Process, error) {
	t.Helper()
	cfg, err := f.config()
	require.NoError(t, err)
	raw, err := json.Marshal(f)
	require.NoError(t, err)
	return tryProcess(t, flagsEnv+"="+string(raw), func(t testing.TB, addrs []string) *Server {
		return connect(t, cfg, addrs[0], addrs[1], addrs[2])
	})
}

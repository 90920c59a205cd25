package run

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// parse reads a configuration as a process does.
func parse(t *testing.T, file, env string, args ...string) *Config {
	t.Helper()
	var cfg Config
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	cfg.Flags(fs)
	require.NoError(t, fs.Parse(args))
	path := ""
	if file != "" {
		path = filepath.Join(t.TempDir(), "chappe.yaml")
		require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
	}
	require.NoError(t, Fill(fs, path, func(name string) string {
		if name == "CHAPPE_PEER" {
			return env
		}
		return ""
	}))
	return &cfg
}

func TestPeers(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		file, env string
		args      []string
		account   string
		presence  string
	}{
		"none":            {account: "dns:///chappe-account:9090", presence: "dns:///chappe-presence:9090"},
		"one flag":        {args: []string{"--peer", "account=h:1"}, account: "h:1", presence: "dns:///chappe-presence:9090"},
		"repeated":        {args: []string{"--peer", "account=h:1", "--peer=presence=h:2"}, account: "h:1", presence: "h:2"},
		"list":            {args: []string{"--peer", "account=h:1,presence=dns:///h:2"}, account: "h:1", presence: "dns:///h:2"},
		"environment":     {env: "account=h:1,presence=h:2", account: "h:1", presence: "h:2"},
		"file, map":       {file: "peer:\n  account: h:1\n  presence: h:2\n", account: "h:1", presence: "h:2"},
		"file, list":      {file: "peer: [account=h:1, presence=h:2]\n", account: "h:1", presence: "h:2"},
		"file, text":      {file: "peer: account=h:1,presence=h:2\n", account: "h:1", presence: "h:2"},
		"flag over rest":  {file: "peer: {account: f:1}\n", env: "account=e:1", args: []string{"--peer=account=h:1"}, account: "h:1", presence: "dns:///chappe-presence:9090"},
		"in this process": {args: []string{"--target=all", "--peer=account=h:1"}, account: "h:1", presence: "dns:///chappe-presence:9090"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := parse(t, c.file, c.env, c.args...)
			require.NoError(t, cfg.Validate())
			require.Equal(t, c.account, cfg.peerAddr(TargetAccount))
			require.Equal(t, c.presence, cfg.peerAddr(TargetPresence))
		})
	}
	for _, bad := range []string{"limiter=h:1", "gateway=h:1", "acount=h:1", "account="} {
		require.ErrorContains(t, parse(t, "", "", "--peer", bad).Validate(), "peer: ", bad)
	}
}

// Every service is in the table once, and the gateway after all that it calls.
func TestTable(t *testing.T) {
	t.Parallel()
	all := targets()
	require.Equal(t, TargetGateway, all[len(all)-1])
	seen := map[string]bool{TargetAll: true}
	for _, name := range all {
		require.False(t, seen[name], name)
		seen[name] = true
	}
}

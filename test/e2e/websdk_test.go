package e2e

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/test/harness"
)

// TestWebSDK runs the unmodified official Web SDK under Node against a server.
// It needs Node and the packages that `npm ci` puts into test/websdk; `make
// test` sees to both. Words after -args choose scenario files: `go test
// ./test/e2e -run WebSDK -args contacts presence`.
func TestWebSDK(t *testing.T) {
	app := harness.Start(t).NewApp(t, "enterprise", harness.NoLimits)
	webSDK(t, app, nil, flag.Args()...)
}

// TestWebSDKIsLimited runs the scenario of a user who sends too much.
func TestWebSDKIsLimited(t *testing.T) {
	t.Parallel()
	app := harness.Start(t).NewApp(t, "free", `{"rules":{"client_send_message":{"limits":[{"count":4,"per":"minute","unit":"message","scope":"user"}]}}}`)
	webSDK(t, app, []string{"CHAPPE_SEND_LIMIT=4"}, "limits")
}

// webSDK runs scenario files, all of them if none is named, with the SDK.
func webSDK(t *testing.T, app *harness.App, env []string, scenarios ...string) {
	t.Helper()
	dir, err := filepath.Abs("../websdk")
	require.NoError(t, err)
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "easemob-websdk")); err != nil {
		t.Skip("the SDK is not installed: run `npm ci` in test/websdk, or `make test`")
	}
	node, err := exec.LookPath("node")
	require.NoError(t, err)
	s := app.Server
	cmd := exec.CommandContext(t.Context(), node, append([]string{"verify.mjs"}, scenarios...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CHAPPE_API="+s.HTTP, "CHAPPE_WS="+s.WS, "CHAPPE_APP="+app.Key(),
		"CHAPPE_CLIENT_ID="+app.ClientID, "CHAPPE_CLIENT_SECRET="+app.ClientSecret)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	require.NoError(t, cmd.Run())
}

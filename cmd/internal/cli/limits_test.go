package cli

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/tier"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// TestLimitsShowClientSends shows what connected clients send like every other
// rate, and an override of it.
func TestLimitsShowClientSends(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	run := func(stdin string, args ...string) string {
		t.Helper()
		out, err := chappe(t, addr, stdin, args...)
		require.NoError(t, err, out)
		return out
	}
	run("", "app", "create", "acme/shop", "--tier", "free")
	run(`{"rules":{"client_send_message":{"limits":[{"count":3,"per":"minute","unit":"message","scope":"user"}]}}}`,
		"app", "override", "acme/shop", "-f", "-")

	conn, err := grpcx.Dial(addr, nil)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	limits := limiterv1.NewLimiterServiceClient(conn)
	check := func() bool {
		resp, err := limits.Check(t.Context(), &limiterv1.CheckRequest{Org: "acme", App: "shop", Rule: tier.RuleClientMessage, User: "amelia", Cost: 1})
		require.NoError(t, err)
		return resp.GetAllowed()
	}
	for check() {
	}
	var line string
	for l := range strings.Lines(run("", "limits", "show", "acme/shop")) {
		if strings.HasPrefix(l, tier.RuleClientMessage) {
			line = strings.Join(strings.Fields(l), " ")
		}
	}
	require.Equal(t, "client_send_message user 3 3 1m0s 3 1", line)
	require.Contains(t, run("", "limits", "show", "acme/shop", "--all"), tier.RuleClientReceipt)
	require.Contains(t, run("", "tier", "diff", "free", "basic"),
		"rules.client_send_message: 20 messages/second/user and 200 messages/second/app -> 20 messages/second/user and 1000 messages/second/app")
}

package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/tier"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// TestClientSendsOnTheLocalShare has no limiter at all, and four gateways: each
// admits a quarter of what clients may send, by user and by app.
func TestClientSendsOnTheLocalShare(t *testing.T) {
	t.Parallel()
	r := newRig(t, "shop")
	c := r.client(func(d *Deps) {
		d.Shares = func() int { return 4 }
		d.Clock = func() int64 { return 1 } // all at one moment
	})
	admitted := func(rule string, users ...string) (n int) {
		for _, user := range users {
			for {
				resp, err := c.Check(t.Context(), &limiterv1.CheckRequest{Org: "acme", App: "shop", Rule: rule, User: user, Cost: 1})
				require.NoError(t, err)
				if !resp.GetAllowed() {
					require.Equal(t, reasonRate, resp.GetReason())
					break
				}
				n++
			}
		}
		return n
	}
	require.Equal(t, 5, admitted(tier.RuleClientMessage, "amelia"), "20 a second")
	require.Equal(t, 5, admitted(tier.RuleClientMessage, "bruno"), "each her own")
	require.Equal(t, 1500, admitted(tier.RuleClientReceipt, "amelia"), "6000 a minute")
	many := make([]string, 100)
	for i := range many {
		many[i] = "user-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
	}
	require.Equal(t, 250-10, admitted(tier.RuleClientMessage, many...), "1000 a second of the app")
}

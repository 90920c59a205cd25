package limiter

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/tier"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// TestClientRulesPerApp has as many users send at once as reach the app's own
// limit while each stays below hers. The limit is met exactly; one user's limit
// stops nobody else; a later window begins anew.
func TestClientRulesPerApp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, name := range []string{"free", "basic"} {
		app := r.app(t, "app-"+name, name)
		check := func(id, user string) *limiterv1.CheckResponse {
			resp, err := r.Check(t.Context(), &limiterv1.CheckRequest{Org: app.Org, App: app.Name, Rule: id, Ip: "192.0.2.1", User: user, Cost: 1})
			require.NoError(t, err)
			return resp
		}
		for _, id := range []string{tier.RuleClientMessage, tier.RuleClientReceipt} {
			t.Run(name+" "+id, func(t *testing.T) {
				r.clock.Add(int64(tier.MaxWindow))
				var user, all tier.Limit
				for _, l := range app.Tier.Rule(id).Limits {
					if l.PerUser {
						user = l
					} else {
						all = l
					}
				}
				for range user.Units {
					r.clock.Add(user.Window / (2 * user.Units))
					require.True(t, check(id, "loud").GetAllowed())
				}
				resp := check(id, "loud")
				require.False(t, resp.GetAllowed())
				require.Equal(t, ReasonRate, resp.GetReason())
				require.True(t, check(id, "quiet").GetAllowed(), "one user's limit is no other's")

				r.clock.Add(int64(tier.MaxWindow))
				admitted := int64(0)
				for i := range all.Units + 50 {
					if check(id, fmt.Sprint("user-", i)).GetAllowed() {
						admitted++
					}
				}
				require.Equal(t, all.Units, admitted)
				r.clock.Add(int64(time.Second))
				require.True(t, check(id, "quiet").GetAllowed())
			})
		}
	}
}

package limiter

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/tier"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// TestEveryRuleOfEveryTier offers each call of each seeded tier three times
// what its rule allows, at random moments. No window ever sees more than its
// limit, a full window's worth gets through, and no other bucket notices. It
// goes by the tiers and not by routes, so that it holds also for calls that no
// service has yet.
func TestEveryRuleOfEveryTier(t *testing.T) {
	t.Parallel()
	var ids []string
	for _, call := range tier.Catalogue() {
		ids = append(ids, call.ID)
	}
	require.Len(t, ids, 120)
	// Of what clients send, the limits per user are the tight ones here; those
	// per app are reached in TestClientRulesPerApp.
	for _, call := range tier.ClientCalls() {
		ids = append(ids, call.ID)
	}
	ids = append(ids, "a_call_without_a_rule")
	for _, name := range []string{"free", "basic", "advanced", "enterprise"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &offers{}
			o.rig = newRig(t, WithRecorder(o.record))
			o.shop, o.other = o.app(t, "shop", name), o.app(t, "other", name)
			for _, id := range ids {
				t.Run(id, func(t *testing.T) { o.offerThrice(t, id) })
			}
		})
	}
}

// offers is a limiter under load, and its own record of the call at hand.
type offers struct {
	*rig
	shop, other *catalog.App
	log         []admission
}

type admission struct{ at, cost int64 }

func (o *offers) record(app, _ string, cost, at int64) {
	if app == o.shop.Key {
		o.log = append(o.log, admission{at, cost})
	}
}

func (o *offers) call(t *testing.T, app *catalog.App, id string, cost int64) *limiterv1.CheckResponse {
	t.Helper()
	resp, err := o.Check(t.Context(), &limiterv1.CheckRequest{
		Org: app.Org, App: app.Name, Rule: id, Ip: "192.0.2.1", User: "amy", Cost: cost,
	})
	require.NoError(t, err)
	return resp
}

func (o *offers) offerThrice(t *testing.T, id string) {
	rule := o.shop.Tier.Rule(id)
	r := rand.New(rand.NewPCG(uint64(len(id)), rule.Hash))
	longest := int64(0)
	for _, l := range rule.Limits {
		longest = max(longest, l.Window)
	}
	o.clock.Add(int64(tier.MaxWindow)) // what came before has left every window
	o.log = nil
	// One user keeps per-user and per-app limits equal in what they see.
	tight := rule.Limits[0]
	calls := 3 * 3 * tight.Units
	gap := 3 * longest / calls
	for range calls {
		o.clock.Add(1 + r.Int64N(2*gap))
		cost := int64(1)
		if tight.Messages {
			cost = 1 + r.Int64N(3)
		}
		if resp := o.call(t, o.shop, id, cost); !resp.GetAllowed() {
			require.Equal(t, ReasonRate, resp.GetReason())
			require.Positive(t, resp.GetRetryAfterMs())
			require.LessOrEqual(t, resp.GetRetryAfterMs(), longest/int64(time.Millisecond))
		}
	}
	log := o.log
	for _, l := range rule.Limits {
		lo, sum, most := 0, int64(0), int64(0)
		for _, a := range log {
			for a.at-log[lo].at >= l.Window {
				sum -= l.Cost(log[lo].cost)
				lo++
			}
			sum += l.Cost(a.cost)
			most = max(most, sum)
		}
		require.LessOrEqual(t, most, l.Units)
		if l == tight {
			require.GreaterOrEqual(t, most, l.Units-2, "the limit is reached, up to what a call of three units leaves")
		}
	}
	for other, otherRule := range o.shop.Tier.Rules() {
		if otherRule.Bucket != rule.Bucket {
			require.Zero(t, o.used(t, other), "%s must not notice %s", other, id)
		}
	}
	for other, otherRule := range o.shop.Tier.Rules() {
		if otherRule.Bucket != rule.Bucket {
			require.True(t, o.call(t, o.shop, other, 1).GetAllowed(), "%s must not notice %s", other, id)
		}
	}
	require.True(t, o.call(t, o.other, id, 1).GetAllowed(), "another app must not notice")
}

// used reads what is used of a call's windows.
func (o *offers) used(t *testing.T, id string) (used int64) {
	t.Helper()
	for _, u := range o.buckets.Usage(o.shop.Number, id, o.shop.Tier.Rule(id)) {
		used = max(used, u.Used)
	}
	return used
}

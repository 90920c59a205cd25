package tier

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/rate"
)

// limitsOf returns a rule's limits as user and app limits.
func limitsOf(t *testing.T, c *Compiled, id string) (user, app rate.Limit) {
	t.Helper()
	r := c.Rule(id)
	require.Equal(t, id, r.ID, "not the default rule")
	for _, l := range r.Limits {
		if l.PerUser {
			user = l.Limit
		} else {
			app = l.Limit
		}
	}
	return user, app
}

func perSecond(n int64) rate.Limit { return rate.Limit{Units: n, Window: int64(time.Second)} }
func perMinute(n int64) rate.Limit { return rate.Limit{Units: n, Window: int64(time.Minute)} }

func TestSeededClientRules(t *testing.T) {
	t.Parallel()
	for name, app := range map[string]int64{"free": 200, "basic": 1000, "advanced": 5000, "enterprise": 20_000} {
		c := compiled(t, name)
		user, all := limitsOf(t, c, RuleClientMessage)
		require.Equal(t, perSecond(20), user, name)
		require.Equal(t, perSecond(app), all, name)
		user, all = limitsOf(t, c, RuleClientReceipt)
		require.Equal(t, perMinute(6000), user, name)
		require.Equal(t, perSecond(10*app), all, name)
	}
	for _, call := range ClientCalls() {
		found, ok := LookupCall(call.ID)
		require.True(t, ok)
		require.Equal(t, call, found)
		require.NotContains(t, Catalogue(), call, "it is no REST call")
	}
}

// older returns a tier document as it was written before clients had rules:
// without them, and with the given rules beside.
func older(t *testing.T, name string, rules map[string]any) []byte {
	t.Helper()
	var tree map[string]any
	require.NoError(t, json.Unmarshal(seed(t, "free").JSON(), &tree))
	tree["name"] = name
	all := tree["rules"].(map[string]any)
	delete(all, RuleClientMessage)
	delete(all, RuleClientReceipt)
	for id, r := range rules {
		all[id] = r
	}
	raw, err := json.Marshal(tree)
	require.NoError(t, err)
	return raw
}

func TestDocumentsWithoutClientRulesGetTheDefaults(t *testing.T) {
	t.Parallel()
	edited := map[string]any{"limits": []any{map[string]any{"count": 7, "per": "minute", "unit": "message", "scope": "user"}}}
	for name, c := range map[string]struct {
		tier                  string
		rules                 map[string]any
		userMessages, appMsgs rate.Limit
		appReceipts           rate.Limit
	}{
		"a compiled-in tier gets its own": {tier: "basic", userMessages: perSecond(20), appMsgs: perSecond(1000), appReceipts: perSecond(10_000)},
		"another gets the largest's":      {tier: "gold", userMessages: perSecond(20), appMsgs: perSecond(20_000), appReceipts: perSecond(200_000)},
		"what was edited stays": {
			tier: "free", rules: map[string]any{RuleClientMessage: edited}, userMessages: perMinute(7), appReceipts: perSecond(2000),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := Parse(older(t, c.tier, c.rules))
			require.NoError(t, err)
			got, err := Compile(d)
			require.NoError(t, err)
			user, app := limitsOf(t, got, RuleClientMessage)
			require.Equal(t, c.userMessages, user)
			require.Equal(t, c.appMsgs, app)
			_, app = limitsOf(t, got, RuleClientReceipt)
			require.Equal(t, c.appReceipts, app)

			again, err := Parse(d.JSON())
			require.NoError(t, err)
			require.Equal(t, d, again)
		})
	}
}

func TestClientRulesInOverridesAndDiff(t *testing.T) {
	t.Parallel()
	base, err := Parse(older(t, "free", nil))
	require.NoError(t, err)
	over := []byte(`{"rules":{"client_send_message":{"limits":[{"count":3,"per":"second","unit":"message","scope":"user"}]}}}`)
	d, err := Merge(base, over)
	require.NoError(t, err)
	require.Equal(t, []string{
		"rules.client_send_message: 20 messages/second/user and 200 messages/second/app -> 3 messages/second/user",
	}, Diff(base, d))
	again, err := Parse(older(t, "free", nil))
	require.NoError(t, err)
	require.Equal(t, base, again, "the defaults are nobody's to change")

	_, err = Merge(base, []byte(`{"rules":{"client_send_receipt":{"limits":[{"count":3,"per":"second","unit":"message","scope":"user"}]}}}`))
	require.ErrorContains(t, err, "unit mismatch", "receipts have no targets")
}

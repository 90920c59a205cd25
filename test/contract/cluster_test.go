package contract

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/test/harness"
)

// TestRevocationReachesEveryGateway voids tokens through one gateway and asks
// another, which has just accepted them.
func TestRevocationReachesEveryGateway(t *testing.T) {
	t.Parallel()
	split := harness.StartSplit(t)
	f := newFixtureWith(t, split.Server, unlimited(t))
	far := f.On(split.Gateway(t))
	accepted := func(token string) bool {
		t.Helper()
		got := far.Call(t, "GET", "/metadata/user/amelia", nil, token)
		require.Contains(t, []int{200, 401}, got.Status, "%s", got.Raw)
		return got.Status == 200
	}
	var longest time.Duration
	for i := range 5 {
		for name, void := range map[string]struct{ method, path, body string }{
			"banned":   {"POST", "/users/%s/deactivate", ""},
			"password": {"PUT", "/users/%s/password", `{"newpassword":"new"}`},
			"deleted":  {"DELETE", "/users/%s", ""},
		} {
			user := fmt.Sprintf("%s-%d", name, i)
			token := f.UserToken(t, user)
			require.True(t, accepted(token), "the other gateway knows the token")
			c := far.Dial(t, user, msyncclient.Options{})

			began := time.Now()
			got := f.call(void.method, fmt.Sprintf(void.path, user), void.body)
			require.Equal(t, 200, got.Status, "%s", got.Raw)
			f.eventually(func() bool { return !accepted(token) })
			longest = max(longest, time.Since(began))
			select {
			case <-c.Done():
			case <-time.After(10 * time.Second):
				require.FailNow(t, "still connected to the other gateway", name)
			}
		}
	}
	t.Logf("at most %s from the call until the other gateway refused the token", longest.Round(time.Millisecond))
	require.True(t, accepted(f.UserToken(t, "amelia")), "tokens of others are as good as before")
}

// TestCrashedGatewaysConnectionsVanish kills a gateway, and looks at who was
// connected to it, and who was connected elsewhere as well.
func TestCrashedGatewaysConnectionsVanish(t *testing.T) {
	t.Parallel()
	split := harness.StartSplit(t)
	f := newFixtureWith(t, split.Server, unlimited(t))
	doomed := split.GatewayProcess(t)
	f.On(doomed.Server).Dial(t, "amelia", msyncclient.Options{Resource: "ios_1"})
	f.On(doomed.Server).Dial(t, "bruno", msyncclient.Options{Resource: "ios_1"})
	f.Dial(t, "bruno", msyncclient.Options{Resource: "web_1"})
	f.eventually(func() bool { return f.status("amelia") == "online" && f.status("bruno") == "online" })

	doomed.Kill(t)
	killed := time.Now()
	require.Eventually(t, func() bool { return f.status("amelia") == "offline" }, 30*time.Second, 20*time.Millisecond)
	t.Logf("offline %s after kill -9", time.Since(killed).Round(10*time.Millisecond))
	require.Equal(t, "online", f.status("bruno"), "the other connection is still there")
	got := f.call("POST", "/users/carla/presence", `{"usernames":["amelia","bruno"]}`)
	require.Equal(t, 200, got.Status, "%s", got.Raw)
	result := got.Body["result"].([]any)
	require.Equal(t, map[string]any{"ios_1": "0"}, result[0].(map[string]any)["status"])
	require.Equal(t, map[string]any{"ios_1": "0", "web_1": "1"}, result[1].(map[string]any)["status"])

	// What is sent now waits for amelia instead of going to a connection that is
	// gone.
	require.Equal(t, 200, f.call("POST", "/messages/users", message("bruno", "amelia", "are you there?")).Status)
	f.eventually(func() bool { return f.offline("amelia") == float64(1) })
}

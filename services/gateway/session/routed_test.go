package session_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/services/gateway/session"
	"github.com/chappe-im/chappe/test/harness"
)

// TestInterestTravelsThroughACluster has gateway and messaging service at two
// servers of a cluster, of which the one hears late of subscriptions at the other.
// What is pushed before it does is lost, and nothing follows it.
func TestInterestTravelsThroughACluster(t *testing.T) {
	t.Parallel()
	far := testkit.StartNATSMember(t, "far", "")
	link := harness.StartProxy(t, far.RouteAddr())
	near := testkit.StartNATSMember(t, "near", link.Addr)
	require.Eventually(t, func() bool { return near.Routes() > 0 && far.Routes() > 0 }, 10*time.Second, 5*time.Millisecond)

	r := startOn(t, near.Connect(t), newBackend(far.Connect(t)), tokens{}, func(c *session.Config) {
		c.RouteDelay = 300 * time.Millisecond
	})
	link.Silence()
	omar := r.dial("omar", msyncclient.Options{Resource: "web_1"})
	r.synced(omar)
	r.text(t, "lena", "omar", "pushed too early")
	require.NoError(t, r.nats.Flush(t.Context()))
	link.Pass()
	require.Equal(t, []string{"pushed too early"}, r.texts(omar, 1))
	r.text(t, "lena", "omar", "pushed in time")
	require.Equal(t, []string{"pushed in time"}, r.texts(omar, 1))
}

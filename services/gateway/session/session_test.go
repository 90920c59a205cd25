package session_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/services/gateway/session"
)

func TestTwoUsersTalk(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	ann := r.dial("ann", msyncclient.Options{})
	bob := r.dial("bob", msyncclient.Options{DeliveryAcks: true})
	r.synced(ann)
	r.synced(bob)

	ack, err := ann.SendText(t.Context(), "bob", "hello")
	require.NoError(t, err)
	require.NotZero(t, ack.ServerID)
	m := r.next(bob)
	require.Equal(t, "hello", m.Text())
	require.Equal(t, ack.ServerID, m.Meta.GetId())
	require.Equal(t, ack.Timestamp, m.Meta.GetTimestamp())
	require.Equal(t, "ann", m.Queue)
	require.Equal(t, "ann", m.Meta.GetFrom().GetName())
	require.Equal(t, ann.Resource(), m.Meta.GetFrom().GetClientResource())
	require.Equal(t, "bob", m.Meta.GetTo().GetName())
	require.Equal(t, "easemob.com", m.Meta.GetTo().GetDomain())
	body, err := m.Body()
	require.NoError(t, err)
	require.Equal(t, "bob", body.GetTo().GetName())

	receipt := r.next(ann)
	body, err = receipt.Body()
	require.NoError(t, err)
	require.Equal(t, ack.ServerID, body.GetAckMessageId())
	require.Equal(t, "bob", receipt.Queue)

	_, err = bob.SendText(t.Context(), "ann", "hi")
	require.NoError(t, err)
	require.Equal(t, "hi", r.next(ann).Text())

	require.Eventually(t, func() bool {
		return r.confirmed("bob", bob.Resource(), "ann~bob") == 3 && r.confirmed("ann", ann.Resource(), "ann~bob") == 3
	}, 5*time.Second, 5*time.Millisecond)
}

func TestOfflineThenCatchUp(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *session.Config) { c.PageEntries = 3 })
	want := make([]string, 0, 20)
	for i := range 10 {
		s := string(rune('a' + i))
		r.text(t, "ann", "bob", s)
		want = append(want, s)
	}
	r.text(t, "cid", "bob", "from cid")
	bob := r.dial("bob", msyncclient.Options{Resource: "phone"})
	got := map[string][]string{}
	for range 11 {
		m := r.next(bob)
		got[m.Queue] = append(got[m.Queue], m.Text())
	}
	require.Equal(t, map[string][]string{"ann": want, "cid": {"from cid"}}, got)
	r.synced(bob)
	bob.Close()

	r.text(t, "ann", "bob", "k")
	bob = r.dial("bob", msyncclient.Options{Resource: "phone", KeepDuplicates: true})
	require.Equal(t, "k", r.next(bob).Text())
	r.synced(bob)
	r.nothing(bob)
	r.text(t, "ann", "bob", "l")
	require.Equal(t, "l", r.next(bob).Text())
}

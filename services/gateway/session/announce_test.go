package session_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
)

// A gateway that presence took for dead enters its connections again.
func TestAnnounce(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.dial("amelia", msyncclient.Options{Resource: "web_1"})
	r.dial("bruno", msyncclient.Options{Resource: "web_2"})
	entered := func() (names []string) {
		r.set(func() {
			for _, c := range r.online {
				names = append(names, c.GetUser()+" "+c.GetResource()+" "+c.GetOs())
			}
		})
		return names
	}
	before := entered()
	require.Len(t, before, 2)
	r.set(func() { clear(r.online) })
	r.server.Announce()
	require.ElementsMatch(t, before, entered())
}

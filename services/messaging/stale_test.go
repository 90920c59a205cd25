package messaging_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/errs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// TestSendsGoOnWithoutAccounts has accounts go away: users who were seen in the
// last ten minutes are sent to and send, others are refused, and what is
// changed meanwhile is not overlooked.
func TestSendsGoOnWithoutAccounts(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	send := func(from, to string) error {
		_, err := r.send.SendToUsers(t.Context(), txt(from, "x", to))
		return err
	}
	require.NoError(t, send("lena", "omar"))
	require.NoError(t, send("omar", "dario"))
	r.users.setAway(errs.Unavailable("database", nil))
	r.ahead.Store(int64(9 * time.Minute))
	for range 50 {
		require.NoError(t, send("lena", "omar"))
	}
	require.True(t, errs.Is(send("lena", "grace"), errs.ReasonUnavailable), "who was not seen is not guessed")

	// Dario is changed: what was known of him is not used any more.
	event, err := proto.Marshal(&busv1.UserEvent{App: "acme#shop", User: "dario", Change: busv1.UserEvent_CHANGE_MUTES})
	require.NoError(t, err)
	require.NoError(t, send("lena", "dario"))
	require.NoError(t, r.conn.Publish(bus.UserEventSubject("acme#shop", "dario"), event))
	require.Eventually(t, func() bool { return errs.Is(send("lena", "dario"), errs.ReasonUnavailable) }, 10*time.Second, 5*time.Millisecond)

	r.ahead.Store(int64(11 * time.Minute))
	require.True(t, errs.Is(send("lena", "omar"), errs.ReasonUnavailable), "ten minutes are over")
	r.users.setAway(nil)
	require.NoError(t, send("lena", "omar"))
	require.NoError(t, send("lena", "dario"))
}

// TestSendsDoNotWaitForAccountsThatHang has accounts take calls and not answer.
func TestSendsDoNotWaitForAccountsThatHang(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	_, err := r.send.SendToUsers(t.Context(), txt("lena", "x", "omar"))
	require.NoError(t, err)
	release := r.users.hang()
	defer release()
	r.ahead.Store(int64(5 * time.Minute))
	began := time.Now()
	for range 100 {
		_, err := r.send.SendToUsers(t.Context(), txt("lena", "x", "omar"))
		require.NoError(t, err)
	}
	require.Less(t, time.Since(began), 20*time.Second, "each alone would wait 300 ms")
}

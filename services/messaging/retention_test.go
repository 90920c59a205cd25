package messaging_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

func TestRetentionDeletesAndKeepsPlaces(t *testing.T) {
	t.Parallel()
	testkit.EachDatabase(t, "messaging", nil, func(t *testing.T, db *store.DB) {
		r := newRigOn(t, 0, db)
		for i := range 3 {
			_, err := r.send.SendToUsers(t.Context(), txt("lena", strconv.Itoa(i), "omar"))
			require.NoError(t, err)
		}
		r.archived("lena~omar", 3)
		days := r.apps["acme#shop"].Tier.Retention()
		require.Positive(t, days)
		r.ahead.Store(int64(days - time.Hour))
		_, err := r.send.SendToUsers(t.Context(), txt("lena", "young", "omar"))
		require.NoError(t, err)
		require.Len(t, r.archived("lena~omar", 4), 4, "nothing is deleted before its time")
		r.ahead.Store(int64(days + time.Minute))
		left := func() []*messagingv1.Message {
			resp, err := r.send.ListMessages(t.Context(), &messagingv1.ListMessagesRequest{Org: "acme", App: "shop", Conversation: "lena~omar"})
			require.NoError(t, err)
			return resp.GetMessages()
		}
		require.Eventually(t, func() bool { return len(left()) == 1 }, 10*time.Second, 10*time.Millisecond)
		require.Equal(t, int64(4), left()[0].GetSeq())
		page, err := r.sync.PullConversation(t.Context(), &messagingv1.PullConversationRequest{Org: "acme", App: "shop", User: "omar", Resource: "w", Conversation: "lena~omar"})
		require.NoError(t, err)
		require.Len(t, page.GetEntries(), 1, "offline and history agree")
		r.ahead.Store(int64(3 * days))
		require.Eventually(t, func() bool { return len(left()) == 0 }, 10*time.Second, 10*time.Millisecond)
		r.stop()
		r.start()
		_, err = r.send.SendToUsers(t.Context(), txt("lena", "next", "omar"))
		require.NoError(t, err)
		require.Equal(t, int64(5), r.archived("lena~omar", 1)[0].GetSeq(), "places are not given out twice")
	})
}

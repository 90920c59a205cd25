package messaging_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

func (r *rig) list(user string, req *messagingv1.OpenDeviceRequest) *messagingv1.OpenDeviceResponse {
	r.t.Helper()
	if req == nil {
		req = &messagingv1.OpenDeviceRequest{}
	}
	req.Org, req.App, req.User, req.Resource = "acme", "shop", user, "phone"
	resp, err := r.sync.OpenDevice(r.t.Context(), req)
	require.NoError(r.t, err)
	return resp
}

// Whatever was acknowledged before a device asks is in its list, by whatever
// instance it was acknowledged and whichever is asked.
func TestListHoldsWhatIsAcknowledged(t *testing.T) {
	t.Parallel()
	testkit.EachDatabase(t, "messaging", nil, func(t *testing.T, db *store.DB) {
		r := newRigOn(t, 0, db)
		instances := []*rig{r, r.another()}
		var all sync.WaitGroup
		for w := range 8 {
			all.Go(func() {
				for i := range 15 {
					from, to := fmt.Sprintf("s%d", i), fmt.Sprintf("r%d", w)
					sender, asked := instances[(w+i)%2], instances[(w+i/2)%2]
					if _, err := sender.send.SendToUsers(t.Context(), txt(from, "hello", to)); err != nil {
						t.Errorf("send: %v", err)
						return
					}
					resp, err := asked.sync.OpenDevice(t.Context(), &messagingv1.OpenDeviceRequest{Org: "acme", App: "shop", User: to, Resource: "phone"})
					if err != nil || resp.GetPending() || len(resp.GetQueues()) != i+1 {
						t.Errorf("after %d messages the list holds %d (pending %v, error %v)", i+1, len(resp.GetQueues()), resp.GetPending(), err)
						return
					}
				}
			})
		}
		all.Wait()
	})
}

// hold keeps others from writing until release is called.
func hold(t *testing.T, db *store.DB) (release func()) {
	t.Helper()
	held, done, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		_ = db.Write(context.Background(), func(*sql.Tx) error {
			close(held)
			<-done
			return nil
		})
	}()
	<-held
	var once sync.Once
	release = func() {
		once.Do(func() {
			close(done)
			<-ended
		})
	}
	t.Cleanup(release)
	return release
}

// An archive that is behind gives no list at all, neither a short one after a
// while; the places that it has to reach stay the same from try to try.
func TestNoListWhileTheArchiveIsBehind(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	before := r.list("omar", nil)
	require.Empty(t, before.GetQueues())
	release := hold(t, r.db)
	_, err := r.send.SendToUsers(t.Context(), txt("lena", "hello", "omar"))
	require.NoError(t, err, "senders do not wait for the archive")

	first := r.list("omar", nil)
	require.True(t, first.GetPending())
	require.Empty(t, first.GetQueues())
	require.NotEqual(t, before.GetLogPlaces(), first.GetLogPlaces())
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = r.send.GetOfflineMessageCount(ctx, &messagingv1.GetOfflineMessageCountRequest{Org: "acme", App: "shop", Username: "omar"})
	require.Error(t, err, "a count without it would be wrong")
	_, err = r.send.SendToUsers(t.Context(), txt("lena", "later", "omar"))
	require.NoError(t, err)

	release()
	second := r.list("omar", &messagingv1.OpenDeviceRequest{LogPlaces: first.GetLogPlaces()})
	require.False(t, second.GetPending())
	require.Len(t, second.GetQueues(), 1)
	for p, place := range second.GetLogPlaces() {
		require.GreaterOrEqual(t, place, first.GetLogPlaces()[p])
	}
}

// A gateway may ask for some conversations only, and hears of each where the
// device stands.
func TestListOfSomeConversations(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	r.list("omar", nil)
	for i := range 6 {
		_, err := r.send.SendToUsers(t.Context(), txt(fmt.Sprintf("s%d", i%3), "hello", "omar"))
		require.NoError(t, err)
	}
	asked := []string{"omar~s0", "omar~s1", "omar~nobody", "lena~s0"}
	resp := r.list("omar", &messagingv1.OpenDeviceRequest{Conversations: asked})
	require.Len(t, resp.GetQueues(), 2, "those that the user is in")
	for _, q := range resp.GetQueues() {
		require.EqualValues(t, 2, q.GetLastSeq())
		require.Zero(t, q.GetConfirmedSeq())
		_, err := r.sync.ConfirmDevices(t.Context(), &messagingv1.ConfirmDevicesRequest{Positions: []*messagingv1.DevicePosition{
			{Org: "acme", App: "shop", User: "omar", Resource: "phone", Conversation: q.GetConversation(), Seq: 2},
		}})
		require.NoError(t, err)
	}
	resp = r.list("omar", &messagingv1.OpenDeviceRequest{Conversations: asked})
	require.Len(t, resp.GetQueues(), 2, "with nothing new too")
	for _, q := range resp.GetQueues() {
		require.EqualValues(t, 2, q.GetConfirmedSeq())
	}
	many := make([]string, 257)
	_, err := r.sync.OpenDevice(t.Context(), &messagingv1.OpenDeviceRequest{Org: "acme", App: "shop", User: "omar", Resource: "phone", Conversations: many})
	require.Error(t, err)
	_, err = r.sync.OpenDevice(t.Context(), &messagingv1.OpenDeviceRequest{Org: "acme", App: "shop", User: "omar", Resource: "phone", LogPlaces: []uint64{1}})
	require.Error(t, err, "another number of partitions")
}

// A push names the place of the entry before it, after a restart of the worker
// too, and of nothing when there is none.
func TestPushesNameTheEntryBefore(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	pushed := r.listen("acme#shop", "omar")
	last := map[string]uint64{}
	for i := range 12 {
		if i == 6 {
			r.stop()
			r.start()
		}
		from := fmt.Sprintf("s%d", i%3)
		_, err := r.send.SendToUsers(t.Context(), txt(from, "hello", "omar", "dario"))
		require.NoError(t, err)
		d := next(t, pushed)
		require.NotZero(t, d.GetLogPlace())
		require.Equal(t, last[from], d.GetLogPrevious())
		last[from] = d.GetLogPlace()
	}
}

// TestNewDeviceIsShownWhatCameSinceItsLogin has a device of the user confirm
// everything before the archive is asked for another one, which is new and
// logged in at some moment before.
func TestNewDeviceIsShownWhatCameSinceItsLogin(t *testing.T) {
	t.Parallel()
	testkit.EachDatabase(t, "messaging", nil, func(t *testing.T, db *store.DB) {
		r := newRigOn(t, 0, db)
		ctx := t.Context()
		now := func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }
		open := func(resource string, since int64) []*messagingv1.DeviceQueue {
			resp, err := r.sync.OpenDevice(ctx, &messagingv1.OpenDeviceRequest{Org: "acme", App: "shop", User: "omar", Resource: resource, Since: since})
			require.NoError(t, err)
			return resp.GetQueues()
		}
		send := func(n int) {
			for range n {
				_, err := r.send.SendToUsers(ctx, txt("lena", "x", "omar"))
				require.NoError(t, err)
			}
		}
		open("web_1", 0)
		before := now().UnixMilli()
		send(3)
		r.ahead.Add(int64(time.Minute))
		between := now().UnixMilli()
		send(2)
		r.archived("lena~omar", 5)
		_, err := r.sync.ConfirmDevices(ctx, &messagingv1.ConfirmDevicesRequest{Positions: []*messagingv1.DevicePosition{
			{Org: "acme", App: "shop", User: "omar", Resource: "web_1", Conversation: "lena~omar", Seq: 5},
		}})
		require.NoError(t, err)
		r.ahead.Add(int64(time.Minute))
		for name, x := range map[string]struct {
			since     int64
			confirmed int64 // -1: nothing is unread
		}{
			"before all":       {before, 0},
			"in between":       {between, 3},
			"afterwards":       {now().UnixMilli(), -1},
			"does not matter":  {0, -1},
			"before all times": {1, 0},
		} {
			queues := open("new "+name, x.since)
			if x.confirmed < 0 {
				require.Empty(t, queues, name)
				continue
			}
			require.Len(t, queues, 1, name)
			require.Equal(t, x.confirmed, queues[0].GetConfirmedSeq(), name)
			require.EqualValues(t, 5, queues[0].GetLastSeq(), name)
			require.Equal(t, x.confirmed, open("new "+name, now().UnixMilli())[0].GetConfirmedSeq(), "once and for all")
		}
	})
}

package session_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/lxzan/gws"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
	"github.com/chappe-im/chappe/services/gateway/session"
)

func (c *rawClient) sync(t testing.TB, ul *msyncv1.CommSyncUL) {
	t.Helper()
	payload, err := proto.Marshal(ul)
	require.NoError(t, err)
	c.write(t, &msyncv1.MSync{Command: msyncv1.MSync_SYNC.Enum(), Payload: payload})
}

func (c *rawClient) answer(t testing.TB) *msyncv1.CommSyncDL {
	t.Helper()
	f := c.frame(t)
	require.Equal(t, msyncv1.MSync_SYNC, f.GetCommand())
	dl := new(msyncv1.CommSyncDL)
	require.NoError(t, proto.Unmarshal(f.GetPayload(), dl))
	return dl
}

// Nothing but a SYNC that carries a meta and names no queue is a send, whatever
// else is in it. A pull of history is answered as empty.
func TestWhatIsNoSendBecomesNone(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	body, err := proto.Marshal(&msyncv1.MessageBody{
		Type:     msyncv1.MessageBody_CHAT.Enum(),
		Contents: []*msyncv1.MessageBody_Content{{Type: msyncv1.MessageBody_Content_TEXT.Enum(), Text: proto.String("roam")}},
	})
	require.NoError(t, err)
	meta := &msyncv1.Meta{Id: proto.Uint64(5), To: jid("bob"), Ns: msyncv1.Meta_CHAT.Enum(), Payload: body}
	for name, c := range map[string]struct {
		ul *msyncv1.CommSyncUL
		// refused: the meta is, and the pull is answered.
		roam, refused bool
	}{
		"history":                {&msyncv1.CommSyncUL{Meta: meta, Queue: jid("bob"), IsRoam: proto.Bool(true)}, true, false},
		"history with a key":     {&msyncv1.CommSyncUL{Meta: meta, Queue: jid("bob"), IsRoam: proto.Bool(true), Key: proto.Uint64(3)}, true, false},
		"history without queue":  {&msyncv1.CommSyncUL{Meta: meta, IsRoam: proto.Bool(true)}, true, false},
		"history without meta":   {&msyncv1.CommSyncUL{Queue: jid("bob"), IsRoam: proto.Bool(true)}, true, false},
		"history, going on":      {&msyncv1.CommSyncUL{Meta: meta, Queue: jid("bob"), LastFullRoamKey: proto.Uint64(9)}, true, false},
		"a pull with a meta":     {&msyncv1.CommSyncUL{Meta: meta, Queue: jid("bob")}, false, true},
		"a key too":              {&msyncv1.CommSyncUL{Meta: meta, Queue: jid("bob"), Key: proto.Uint64(3)}, false, true},
		"history is not meant":   {&msyncv1.CommSyncUL{Meta: meta, Queue: jid("bob"), IsRoam: proto.Bool(false)}, false, true},
		"an empty pull":          {&msyncv1.CommSyncUL{Queue: jid("bob")}, false, false},
		"a pull in another form": {&msyncv1.CommSyncUL{Meta: &msyncv1.Meta{}, Queue: jid("bob")}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw := dialRaw(t, r.url)
			raw.login(t, "ann")
			raw.sync(t, c.ul)
			dl := raw.answer(t)
			if c.refused {
				require.Equal(t, c.ul.GetMeta().GetId(), dl.GetMetaId())
				require.Equal(t, msyncv1.Status_FAIL, dl.GetStatus().GetErrorCode())
				require.Zero(t, dl.GetServerId())
				require.NotEmpty(t, dl.GetStatus().GetReason())
				dl = raw.answer(t)
			}
			require.Equal(t, msyncv1.Status_OK, dl.GetStatus().GetErrorCode())
			require.Nil(t, dl.MetaId, "no acknowledgement")
			require.Empty(t, dl.GetMetas())
			require.True(t, dl.GetIsLast())
			require.NotEmpty(t, dl.GetQueue().GetName())
			require.Equal(t, c.roam, dl.GetIsRoam())
		})
	}
	t.Run("afterwards", func(t *testing.T) {
		r.set(func() { require.Empty(t, r.sent) })
	})
}

// A device that asks as fast as it can is slowed down, and another is not.
func TestFramesArePaced(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	raw := dialRaw(t, r.url)
	raw.login(t, "ann")
	began := time.Now()
	payload, err := proto.Marshal(&msyncv1.CommSyncUL{Queue: jid("bob")})
	require.NoError(t, err)
	frame, err := proto.Marshal(&msyncv1.MSync{Command: msyncv1.MSync_SYNC.Enum(), Payload: payload})
	require.NoError(t, err)
	go func() {
		for range 20_000 {
			if raw.socket.WriteMessage(gws.OpcodeBinary, frame) != nil {
				return
			}
		}
	}()
	require.Eventually(t, func() bool { return time.Since(began) > time.Second }, 5*time.Second, 10*time.Millisecond)
	answers, passed := count(t, r.metrics, "chappe_session_frames_total", "page_empty"), time.Since(began)
	require.Greater(t, answers, 100.0)
	require.LessOrEqual(t, answers, 2000+1000*(passed.Seconds()+0.1), "in %s", passed)
	bob := r.dial("bob", msyncclient.Options{})
	r.synced(bob)
	r.text(t, "ann", "bob", "x")
	require.Equal(t, "x", r.next(bob).Text())
}

// Devices that log in, are sent much and never confirm take no more memory than
// the bound of the whole process, and get everything when they confirm again.
func TestPageMemoryIsBounded(t *testing.T) { //nolint:paralleltest // measures the process's memory
	const bound, devices, queues, each = 8 << 20, 24, 16, 20
	r := start(t, func(c *session.Config) { c.PageMemory = bound })
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	big := string(make([]byte, 16<<10))
	deaf := make([]manual, devices)
	for i := range deaf {
		deaf[i] = r.manual(fmt.Sprint("deaf", i), msyncclient.Options{Resource: "phone", Buffer: 4096})
		deaf[i].unread()
	}
	before, highest := heap(), 0.0
	for n := range each {
		for q := range queues {
			body := textBody(t, "x", big) // kept once by the backend, copied for each device by the gateway
			for i := range deaf {
				_, err := r.store(&busv1.Delivery{From: fmt.Sprint("writer", q), To: fmt.Sprint("deaf", i), Body: body})
				require.NoError(t, err)
			}
		}
		require.Eventually(t, func() bool { // not more than NATS keeps for a subscriber
			highest = max(highest, count(t, r.metrics, "chappe_session_page_memory_bytes"))
			return count(t, r.metrics, "chappe_session_pushes_total", "delivery") == float64((n+1)*devices*queues)
		}, 30*time.Second, time.Millisecond)
	}
	require.Greater(t, highest, bound/2.0, "the test is of use")
	require.LessOrEqual(t, highest, bound*1.1)
	// What the devices hold themselves, unread in their channels, is the first
	// page of each queue.
	own := int64(devices * queues * (16 << 10) * 3)
	require.LessOrEqual(t, heap()-before, int64(bound+each*queues*(16<<10)+32<<20)+own)

	one := deaf[0]
	one.Close()
	back := r.dial("deaf0", msyncclient.Options{Resource: "phone", Buffer: 4096, KeepDuplicates: true})
	r.synced(back)
	require.Eventually(t, func() bool { return len(back.Received()) == queues*each }, 30*time.Second, 10*time.Millisecond)
	for i := range deaf {
		deaf[i].Close()
	}
	require.Eventually(t, func() bool {
		return count(t, r.metrics, "chappe_session_page_memory_bytes") < 1<<20
	}, 10*time.Second, 10*time.Millisecond, "it is given back")
}

package receiver

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lxzan/gws"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// fakeServer keeps queues of texts for one user and speaks the login, notice
// and pull parts of the protocol with generated code.
type fakeServer struct {
	gws.BuiltinEventHandler
	t *testing.T

	mu       sync.Mutex
	conn     *gws.Conn
	refuse   bool
	queues   map[string][]string // unconfirmed texts by peer
	pages    map[uint64]int      // page key to number of texts it confirms
	nextKey  uint64
	pulls    int
	pageSize int
}

func startFake(t *testing.T) (*fakeServer, string) {
	t.Helper()
	f := &fakeServer{t: t, queues: make(map[string][]string), pages: make(map[uint64]int), pageSize: 2}
	up := gws.NewUpgrader(f, nil)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := up.Upgrade(w, r); err == nil {
			go c.ReadLoop()
		}
	}))
	t.Cleanup(srv.Close)
	return f, "ws" + strings.TrimPrefix(srv.URL, "http") + "/ws"
}

func jid(name string) *msyncv1.JID {
	return &msyncv1.JID{AppKey: proto.String("o#a"), Name: proto.String(name), Domain: proto.String(msyncclient.DomainUser)}
}

func (f *fakeServer) send(cmd msyncv1.MSync_Command, m proto.Message) {
	payload, err := proto.Marshal(m)
	if err == nil {
		payload, err = proto.Marshal(&msyncv1.MSync{Version: msyncv1.MSync_MSYNC_V1.Enum(), Command: cmd.Enum(), Payload: payload})
	}
	if err != nil {
		f.t.Errorf("encode: %v", err)
		return
	}
	_ = f.conn.WriteMessage(gws.OpcodeBinary, payload)
}

func textMeta(from, text string) *msyncv1.Meta {
	body, _ := proto.Marshal(&msyncv1.MessageBody{
		Type: msyncv1.MessageBody_CHAT.Enum(), From: jid(from),
		Contents: []*msyncv1.MessageBody_Content{{Type: msyncv1.MessageBody_Content_TEXT.Enum(), Text: proto.String(text)}},
	})
	return &msyncv1.Meta{Id: proto.Uint64(1), Ns: msyncv1.Meta_CHAT.Enum(), Payload: body}
}

// put adds a text and gives notice of it.
func (f *fakeServer) put(peer, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queues[peer] = append(f.queues[peer], text)
	if f.conn != nil {
		f.send(msyncv1.MSync_NOTICE, &msyncv1.CommNotice{Queue: jid(peer)})
	}
}

func (f *fakeServer) OnMessage(c *gws.Conn, m *gws.Message) {
	defer func() { _ = m.Close() }()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn = c
	var in msyncv1.MSync
	if err := proto.Unmarshal(m.Bytes(), &in); err != nil {
		f.t.Errorf("decode: %v", err)
		return
	}
	switch in.GetCommand() {
	case msyncv1.MSync_PROVISION:
		var p msyncv1.Provision
		if err := proto.Unmarshal(in.GetPayload(), &p); err != nil || in.GetGuid().GetName() != "u" || in.GetAuth() != "$t$tok" {
			f.t.Errorf("login: %v %v", err, &in)
		}
		status := &msyncv1.Status{ErrorCode: msyncv1.Status_OK.Enum()}
		if f.refuse {
			status = &msyncv1.Status{ErrorCode: msyncv1.Status_FAIL.Enum(), Reason: proto.String("no entry")}
		}
		f.send(msyncv1.MSync_PROVISION, &msyncv1.Provision{Status: status, Resource: p.Resource})
	case msyncv1.MSync_UNREAD:
		answer := &msyncv1.CommUnreadDL{Status: &msyncv1.Status{ErrorCode: msyncv1.Status_OK.Enum()}}
		for peer, texts := range f.queues {
			if len(texts) > 0 {
				answer.Unread = append(answer.Unread, &msyncv1.MetaQueue{Queue: jid(peer), N: proto.Uint32(uint32(len(texts)))})
			}
		}
		f.send(msyncv1.MSync_UNREAD, answer)
	case msyncv1.MSync_SYNC:
		f.pulls++
		var ul msyncv1.CommSyncUL
		if err := proto.Unmarshal(in.GetPayload(), &ul); err != nil || ul.GetQueue().GetName() == "" {
			f.t.Errorf("pull: %v %v", err, &ul)
			return
		}
		peer := ul.GetQueue().GetName()
		if n, ok := f.pages[ul.GetKey()]; ok {
			f.queues[peer] = f.queues[peer][n:]
			delete(f.pages, ul.GetKey())
		}
		answer := &msyncv1.CommSyncDL{Status: &msyncv1.Status{ErrorCode: msyncv1.Status_OK.Enum()}, Queue: jid(peer)}
		texts := f.queues[peer]
		texts = texts[:min(len(texts), f.pageSize)]
		if len(texts) == 0 {
			answer.IsLast = proto.Bool(true)
		} else {
			f.nextKey++
			f.pages[f.nextKey] = len(texts)
			answer.NextKey, answer.IsLast = proto.Uint64(f.nextKey), proto.Bool(false)
			for _, text := range texts {
				answer.Metas = append(answer.Metas, textMeta(peer, text))
			}
		}
		f.send(msyncv1.MSync_SYNC, answer)
	}
}

// sink collects what a receiver shows.
type sink struct {
	mu  sync.Mutex
	got []string
}

func (s *sink) add(from, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, string(from)+":"+string(text))
}

func (s *sink) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.got...)
}

func TestCatchUpThenNotices(t *testing.T) {
	t.Parallel()
	f, url := startFake(t)
	var want []string
	for i := range 5 {
		f.put("ann", fmt.Sprint(i))
		want = append(want, "ann:"+fmt.Sprint(i))
	}
	var s sink
	r, err := Login(t.Context(), Config{URL: url, AppKey: "o#a", User: "u", Token: "tok", OnText: s.add, Capture: true})
	require.NoError(t, err)
	select {
	case <-r.Synced():
	case <-time.After(20 * time.Second):
		require.Fail(t, "not synced")
	}
	require.Equal(t, want, s.all())
	require.NotEmpty(t, r.TakeFrames())

	f.put("bob", "x")
	f.put("ann", "y")
	f.put("bob", "z")
	require.Eventually(t, func() bool { return len(s.all()) == len(want)+3 }, 20*time.Second, time.Millisecond)
	require.ElementsMatch(t, append(want, "bob:x", "ann:y", "bob:z"), s.all())
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.queues["ann"]) == 0 && len(f.queues["bob"]) == 0
	}, 20*time.Second, time.Millisecond, "everything is confirmed")
	require.NotEmpty(t, r.TakeFrames())
	frames, size := r.Received()
	require.Positive(t, frames)
	require.Greater(t, size, frames)

	// Pushed past the queues: shown at once, nothing is asked for.
	f.mu.Lock()
	pulls := f.pulls
	f.send(msyncv1.MSync_SYNC, &msyncv1.CommSyncDL{
		Status: &msyncv1.Status{ErrorCode: msyncv1.Status_OK.Enum()}, Queue: jid("cid"), IsLast: proto.Bool(true),
		Metas: []*msyncv1.Meta{textMeta("cid", "direct")},
	})
	f.mu.Unlock()
	require.Eventually(t, func() bool { a := s.all(); return a[len(a)-1] == "cid:direct" }, 20*time.Second, time.Millisecond)
	require.NoError(t, r.Heartbeat())
	f.mu.Lock()
	require.Equal(t, pulls, f.pulls)

	// A page that nobody asked for is confirmed like any other.
	f.queues["eve"] = []string{"unasked"}
	f.pages[99] = 1
	f.send(msyncv1.MSync_SYNC, &msyncv1.CommSyncDL{
		Status: &msyncv1.Status{ErrorCode: msyncv1.Status_OK.Enum()}, Queue: jid("eve"), IsLast: proto.Bool(false),
		NextKey: proto.Uint64(99), Metas: []*msyncv1.Meta{textMeta("eve", "unasked")},
	})
	f.mu.Unlock()
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.queues["eve"]) == 0
	}, 20*time.Second, time.Millisecond)
	require.Contains(t, s.all(), "eve:unasked")

	r.Close()
	require.Error(t, r.Err())
}

func TestRefusedLogin(t *testing.T) {
	t.Parallel()
	f, url := startFake(t)
	f.refuse = true
	_, err := Login(t.Context(), Config{URL: url, AppKey: "o#a", User: "u", Token: "tok"})
	require.ErrorContains(t, err, "no entry")
}

func TestEndOfSession(t *testing.T) {
	t.Parallel()
	f, url := startFake(t)
	r, err := Login(t.Context(), Config{URL: url, AppKey: "o#a", User: "u", Token: "tok"})
	require.NoError(t, err)
	<-r.Synced()
	f.mu.Lock()
	f.send(msyncv1.MSync_SYNC, &msyncv1.CommSyncDL{
		Queue: jid("u"), IsLast: proto.Bool(true),
		Metas: []*msyncv1.Meta{{Ns: msyncv1.Meta_STATISTIC.Enum()}},
	})
	f.mu.Unlock()
	<-r.Done()
	require.ErrorContains(t, r.Err(), "ended the session")
	r.Close()
}

func TestMuteReceiver(t *testing.T) {
	t.Parallel()
	f, url := startFake(t)
	frames := make(chan struct{}, 8)
	r, err := Attach(t.Context(), Config{URL: url, OnFrame: func() { frames <- struct{}{} }})
	require.NoError(t, err)
	r.SetMute(true)
	require.NoError(t, r.Heartbeat()) // makes the fake know the connection
	<-frames
	f.put("ann", "x")
	<-frames
	r.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	require.Zero(t, f.pulls)
}

func TestPullFrameIsWhatGeneratedCodeWrites(t *testing.T) {
	t.Parallel()
	queue, err := proto.Marshal(jid("ann"))
	require.NoError(t, err)
	for _, key := range []uint64{0, 1, 1 << 40} {
		var m msyncv1.MSync
		require.NoError(t, proto.Unmarshal(appendPull(nil, queue, key), &m))
		require.Equal(t, msyncv1.MSync_SYNC, m.GetCommand())
		var ul msyncv1.CommSyncUL
		require.NoError(t, proto.Unmarshal(m.GetPayload(), &ul))
		require.Equal(t, key, ul.GetKey())
		require.Equal(t, key != 0, ul.Key != nil)
		require.True(t, proto.Equal(jid("ann"), ul.GetQueue()))
	}
}

func TestMalformedFrames(t *testing.T) {
	t.Parallel()
	r := &Receiver{}
	for name, frame := range map[string][]byte{
		"garbage":          {0xff, 0xff},
		"notice, no queue": {0x40, 0x02, 0x4a, 0x00},
		"page, no queue":   {0x40, 0x00, 0x4a, 0x02, 0x38, 0x01},
		"refused pull":     {0x40, 0x00, 0x4a, 0x04, 0x0a, 0x02, 0x08, 0x01},
	} {
		require.Error(t, r.handle(frame), name)
	}
}

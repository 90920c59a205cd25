package session_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/services/gateway/session"
)

func TestDependenciesAreChecked(t *testing.T) {
	t.Parallel()
	_, err := session.New(session.Config{}, session.Deps{})
	require.ErrorContains(t, err, "dependency")
}

func TestPlainRequestsAreRefused(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http"+strings.TrimPrefix(r.url, "ws"), nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.Zero(t, r.server.Connections())
}

// A server that was never started stops, and one that is stopped twice too.
func TestStopWithoutStart(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	channel := r.channel.Conn()
	s, err := session.New(session.Config{}, session.Deps{
		Auth: tokens{}, Presence: channel, Messaging: channel, Limiter: channel, NATS: r.bus.Conn, Logger: testkit.Logger(t), Metrics: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	require.NoError(t, s.Stop(t.Context()))
	require.NoError(t, s.Stop(t.Context()))
	require.Error(t, s.Start(t.Context()))
}

// Stop waits for every goroutine, even of devices that do not read and calls
// that hang.
func TestStopLeavesNothingBehind(t *testing.T) { // not parallel: it looks at all goroutines
	r := start(t, nil)
	before := goleak.IgnoreCurrent()
	channel := r.channel.Conn()
	s, err := session.New(session.Config{}, session.Deps{
		Auth: tokens{}, Presence: channel, Messaging: channel, Limiter: channel, NATS: r.bus.Conn, Logger: testkit.Logger(t), Metrics: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	front := serve(t, s)
	stuck := make(chan struct{})
	clients := make([]*msyncclient.Client, 0, 10)
	for i := range 10 {
		user := "user" + string(rune('a'+i))
		c, err := msyncclient.Dial(t.Context(), "ws"+strings.TrimPrefix(front.URL, "http")+"/ws", appKey, user, "token-"+user,
			msyncclient.Options{OnReceived: func(msyncclient.Received) { <-stuck }})
		require.NoError(t, err)
		r.text(t, "admin", user, "x")
		clients = append(clients, c)
	}
	raw := dialRaw(t, "ws"+strings.TrimPrefix(front.URL, "http"))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.NoError(t, s.Stop(ctx))
	close(stuck)
	for _, c := range clients {
		c.Close()
	}
	_ = raw.socket.NetConn().Close()
	front.Close()
	goleak.VerifyNone(t, before)
}

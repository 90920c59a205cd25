package session_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lxzan/gws"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

func lower(s string) string { return strings.ToLower(s) }

// rawClient is a WebSocket and nothing more.
type rawClient struct {
	gws.BuiltinEventHandler
	socket *gws.Conn
	frames chan []byte
	closed chan error
	deaf   atomic.Bool
	pings  atomic.Int32
}

func dialRaw(t testing.TB, url string) *rawClient {
	t.Helper()
	c := &rawClient{frames: make(chan []byte, 256), closed: make(chan error, 1)}
	socket, _, err := gws.NewClient(c, &gws.ClientOption{Addr: url}) //nolint:bodyclose // the answer to a handshake has none
	require.NoError(t, err)
	c.socket = socket
	done := make(chan struct{})
	go func() {
		defer close(done)
		socket.ReadLoop()
	}()
	t.Cleanup(func() {
		_ = socket.NetConn().Close()
		<-done
	})
	return c
}

func (c *rawClient) OnMessage(_ *gws.Conn, m *gws.Message) {
	b := append([]byte(nil), m.Bytes()...)
	_ = m.Close()
	select {
	case c.frames <- b:
	default:
	}
}

func (c *rawClient) OnPing(s *gws.Conn, p []byte) {
	c.pings.Add(1)
	if !c.deaf.Load() {
		_ = s.WritePong(p)
	}
}

func (c *rawClient) OnClose(_ *gws.Conn, err error) { c.closed <- err }

func (c *rawClient) closeCode(t testing.TB) uint16 {
	t.Helper()
	select {
	case err := <-c.closed:
		var e *gws.CloseError
		require.ErrorAs(t, err, &e)
		return e.Code
	case <-time.After(10 * time.Second):
		require.FailNow(t, "connection stayed open")
	}
	return 0
}

func (c *rawClient) write(t testing.TB, m *msyncv1.MSync) {
	t.Helper()
	b, err := proto.Marshal(m)
	require.NoError(t, err)
	require.NoError(t, c.socket.WriteMessage(gws.OpcodeBinary, b))
}

func (c *rawClient) frame(t testing.TB) *msyncv1.MSync {
	t.Helper()
	select {
	case b := <-c.frames:
		m := new(msyncv1.MSync)
		require.NoError(t, proto.Unmarshal(b, m))
		return m
	case <-time.After(10 * time.Second):
		require.FailNow(t, "no frame")
	}
	return nil
}

func (c *rawClient) login(t testing.TB, user string) *msyncv1.Provision {
	t.Helper()
	payload, err := proto.Marshal(&msyncv1.Provision{AuthToken: proto.String(`{"token":"$t$token-` + lower(user) + `"}`)})
	require.NoError(t, err)
	c.write(t, &msyncv1.MSync{
		Command: msyncv1.MSync_PROVISION.Enum(), Payload: payload,
		Guid: &msyncv1.JID{AppKey: proto.String(appKey), Name: proto.String(user)},
	})
	m := c.frame(t)
	require.Equal(t, msyncv1.MSync_PROVISION, m.GetCommand())
	p := new(msyncv1.Provision)
	require.NoError(t, proto.Unmarshal(m.GetPayload(), p))
	require.Equal(t, msyncv1.Status_OK, p.GetStatus().GetErrorCode())
	require.NotEmpty(t, p.GetResource(), "one is made up")
	return p
}

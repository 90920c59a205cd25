package ws

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lxzan/gws"
	"github.com/stretchr/testify/require"
)

type echoHandler struct{ gws.BuiltinEventHandler }

func (echoHandler) OnMessage(c *gws.Conn, m *gws.Message) {
	defer func() { _ = m.Close() }()
	switch text := m.Bytes(); string(text) {
	case "ping me":
		_ = c.WritePing([]byte("p"))
		_ = c.WriteMessage(gws.OpcodeBinary, []byte("pinged"))
	case "close me":
		_ = c.WriteClose(1000, nil)
	default:
		_ = c.WriteMessage(gws.OpcodeBinary, text)
	}
}

func (echoHandler) OnPong(c *gws.Conn, p []byte) {
	_ = c.WriteMessage(gws.OpcodeBinary, append([]byte("pong "), p...))
}

func server(t *testing.T) string {
	t.Helper()
	up := gws.NewUpgrader(echoHandler{}, nil)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ws" {
			http.NotFound(w, r)
			return
		}
		c, err := up.Upgrade(w, r)
		if err == nil {
			go c.ReadLoop()
		}
	}))
	t.Cleanup(srv.Close)
	return "ws" + strings.TrimPrefix(srv.URL, "http")
}

func TestConversationWithServer(t *testing.T) {
	t.Parallel()
	c, err := Dial(t.Context(), server(t)+"/ws")
	require.NoError(t, err)
	for _, n := range []int{0, 1, 125, 126, 1000, 1024, 1100, 65535, 65536, 200_000} {
		want := bytes.Repeat([]byte{byte(n)}, n)
		require.NoError(t, c.Write(want))
		got, err := c.Read()
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "message of %d bytes", n)
	}
	require.NoError(t, c.Write([]byte("ping me")))
	for _, want := range []string{"pinged", "pong p"} {
		got, err := c.Read()
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	require.NoError(t, c.Write([]byte("close me")))
	_, err = c.Read()
	require.ErrorIs(t, err, ErrClosed)
	_ = c.Close()
}

func TestRefusedUpgrades(t *testing.T) {
	t.Parallel()
	_, err := Dial(t.Context(), server(t)+"/other")
	require.ErrorContains(t, err, "404")
	_, err = Dial(t.Context(), "http://127.0.0.1:1/")
	require.Error(t, err)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n")
			_ = conn.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = Dial(ctx, "ws://"+l.Addr().String()+"/")
	require.ErrorContains(t, err, "accept key")
}

func TestServerFrame(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 125, 126, 65535, 65536} {
		want := bytes.Repeat([]byte("x"), n)
		c := &Conn{r: bufio.NewReaderSize(bytes.NewReader(AppendServerFrame(nil, want)), readBuffer)}
		got, err := c.Read()
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
	}
}

func TestBrokenFrames(t *testing.T) {
	t.Parallel()
	for name, frame := range map[string][]byte{
		"masked":        {0x82, 0x80, 0, 0, 0, 0},
		"reserved bit":  {0xc2, 0x00},
		"unknown kind":  {0x83, 0x00},
		"too long":      {0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0},
		"cut":           {0x82, 5, 'a'},
		"long control":  {0x89, 126, 0, 200},
		"nothing there": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &Conn{r: bufio.NewReaderSize(bytes.NewReader(frame), readBuffer)}
			_, err := c.Read()
			require.Error(t, err)
		})
	}
}

func TestFragmentsAreJoined(t *testing.T) {
	t.Parallel()
	c := &Conn{r: bufio.NewReaderSize(bytes.NewReader([]byte{0x02, 2, 'a', 'b', 0x00, 1, 'c', 0x80, 1, 'd'}), readBuffer)}
	got, err := c.Read()
	require.NoError(t, err)
	require.Equal(t, "abcd", string(got))
}

package rawhttp

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAgainstNetHTTP(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	conns := make(map[string]bool)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		conns[r.RemoteAddr] = true
		mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/echo":
			w.Header().Set("X-Auth", r.Header.Get("Authorization"))
			_, _ = w.Write(body)
		case "/chunked":
			for range 3 {
				_, _ = w.Write(body)
				w.(http.Flusher).Flush()
			}
		case "/limit":
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = w.Write([]byte("slow down"))
		case "/close":
			w.Header().Set("Connection", "close")
			_, _ = w.Write([]byte("bye"))
		}
	}))
	defer srv.Close()
	u, err := url.Parse(srv.URL)
	require.NoError(t, err)
	c := New(u.Host, 5*time.Second)
	defer c.Close()
	do := func(path string, body string) Response {
		r, err := c.Do(NewRequest("POST", u.JoinPath(path), map[string]string{"Authorization": "Bearer x"}), []byte(body))
		require.NoError(t, err)
		require.NotEqual(t, 400, r.Status, "%s", r.Body)
		return r
	}
	long := strings.Repeat("0123456789", 2000)
	require.Equal(t, "hello", string(do("/echo", "hello").Body))
	require.Equal(t, long, string(do("/echo", long).Body))
	require.Empty(t, do("/echo", "").Body)
	require.Equal(t, "ababab", string(do("/chunked", "ab").Body))
	require.Equal(t, long+long+long, string(do("/chunked", long).Body))
	limited := do("/limit", "")
	require.Equal(t, 429, limited.Status)
	require.Equal(t, 2*time.Second, limited.RetryAfter)
	require.True(t, limited.Limited())
	for want, r := range map[bool]Response{true: {Status: 403, RetryAfter: time.Second}, false: {Status: 403}} {
		require.Equal(t, want, r.Limited())
	}
	require.Equal(t, "slow down", string(limited.Body))
	require.Len(t, conns, 1, "the connection is kept")
	require.Equal(t, "bye", string(do("/close", "").Body))
	require.Equal(t, "again", string(do("/echo", "again").Body))
	require.Len(t, conns, 2, "a closed connection is replaced")
}

func TestBrokenAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"not HTTP":         "SSH-2.0-x\r\n\r\n",
		"no status":        "HTTP/1.1 abc OK\r\n\r\n",
		"no length":        "HTTP/1.1 200 OK\r\n\r\n",
		"bad length":       "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
		"negative length":  "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n",
		"too long":         "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
		"cut off":          "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
		"bad chunk":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"closed at once":   "",
		"cut in the chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = http.ReadRequest(bufio.NewReader(conn))
				_, _ = conn.Write([]byte(answer))
				_ = conn.Close()
			}()
			c := New(l.Addr().String(), 5*time.Second)
			_, err = c.Do(NewRequest("GET", &url.URL{Path: "/", Host: "x"}, nil), nil)
			require.Error(t, err)
			require.NoError(t, l.Close())
			<-done
			_, err = c.Do(NewRequest("GET", &url.URL{Path: "/", Host: "x"}, nil), nil)
			require.Error(t, err, "nobody listens any more")
		})
	}
}

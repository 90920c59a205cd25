package baseline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/bench/internal/ws"
)

const request = `{"from":"a","to":["b"],"type":"txt","body":{"msg":"hi"}}`

func post(t *testing.T, addr, path, body string) (int, string) {
	t.Helper()
	res, err := http.Post("http://"+addr+path, "application/json", bytes.NewBufferString(body))
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	out, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(out)
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(t, s.Stop(ctx))
}

func TestEcho(t *testing.T) {
	t.Parallel()
	s, err := Echo("127.0.0.1:0")
	require.NoError(t, err)
	defer stop(t, s)
	status, body := post(t, s.Addr, "/messages/users", request)
	require.Equal(t, 200, status)
	require.JSONEq(t, request, body)
	status, _ = post(t, s.Addr, "/", "{")
	require.Equal(t, 400, status)
}

func TestPublishIsStored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Publish(t.Context(), "127.0.0.1:0", dir)
	require.NoError(t, err)
	for range 20 {
		status, body := post(t, s.Addr, "/", request)
		require.Equal(t, 200, status)
		require.JSONEq(t, request, body)
	}
	stop(t, s)
	// The messages are in the stream's files.
	var stored int
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".blk" {
			return err
		}
		raw, err := os.ReadFile(path)
		stored += bytes.Count(raw, []byte(`{"from":"a"`))
		return err
	}))
	require.Equal(t, 20, stored)
}

func TestFrames(t *testing.T) {
	t.Parallel()
	s, err := Frames("127.0.0.1:0")
	require.NoError(t, err)
	defer stop(t, s)
	conns := make([]*ws.Conn, 3)
	for i := range conns {
		conns[i], err = ws.Dial(t.Context(), fmt.Sprintf("ws://%s/ws?n=%d", s.Addr, i))
		require.NoError(t, err)
		defer func() { _ = conns[i].Close() }()
	}
	_, err = ws.Dial(t.Context(), "ws://"+s.Addr+"/ws")
	require.Error(t, err, "without a number")
	require.Eventually(t, func() bool {
		res, err := http.Get("http://" + s.Addr + "/count")
		if err != nil {
			return false
		}
		defer func() { _ = res.Body.Close() }()
		n, _ := io.ReadAll(res.Body)
		return string(n) == "3"
	}, 10*time.Second, time.Millisecond)
	read := func(i int) string {
		m, err := conns[i].Read()
		require.NoError(t, err)
		return string(m)
	}
	round := func(r Round) int {
		body, err := json.Marshal(r)
		require.NoError(t, err)
		status, _ := post(t, s.Addr, "/round", string(body))
		return status
	}
	frames := [][]byte{[]byte("one"), []byte("two"), []byte("three")}
	require.Equal(t, 200, round(Round{First: 1, End: 3, Frames: frames}))
	for i := 1; i < 3; i++ {
		for _, want := range frames {
			require.Equal(t, string(want), read(i))
		}
	}

	require.Equal(t, 200, round(Round{First: 0, End: 3, Frames: frames, Exchange: true}))
	for i := range conns {
		require.Equal(t, "one", read(i))
		require.NoError(t, conns[i].Write([]byte("go on")))
		require.Equal(t, "two", read(i))
		require.NoError(t, conns[i].Write([]byte("go on")))
		require.Equal(t, "three", read(i))
		require.NoError(t, conns[i].Write([]byte("nothing comes after this")))
	}
	require.Equal(t, 400, round(Round{First: 0, End: 4, Frames: frames}))
	require.Equal(t, 400, round(Round{First: 0, End: 1}))
}

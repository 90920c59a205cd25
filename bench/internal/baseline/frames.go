package baseline

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/lxzan/gws"

	"github.com/chappe-im/chappe/bench/internal/ws"
)

// Round asks the frames server to write to some of its connections.
type Round struct {
	// First and End bound the connections, by the numbers they gave themselves.
	First int `json:"first"`
	End   int `json:"end"`
	// Frames are the payloads, each written on its own.
	Frames [][]byte `json:"frames"`
	// Exchange writes a frame only when the client has answered the one before,
	// so that the client's frames are read too; otherwise nothing is read and
	// the frames follow each other.
	Exchange bool `json:"exchange"`
}

// frameServer writes frames to connections in a bare loop.
type frameServer struct {
	gws.BuiltinEventHandler

	mu    sync.Mutex
	conns []*frameConn // by number; nil where none has come
	count int
	byWS  map[*gws.Conn]*frameConn
	// Wire form of the frames of the round under way.
	frames [][]byte
}

type frameConn struct {
	conn net.Conn
	next int // frame to write when the client answers; owned by its reader
}

// Frames serves a bare loop that writes frames to WebSocket connections:
// clients connect at /ws?n=NUMBER, POST /round makes it write, GET /count tells
// how many are connected.
func Frames(addr string) (*Server, error) {
	f := &frameServer{byWS: make(map[*gws.Conn]*frameConn)}
	up := gws.NewUpgrader(f, &gws.ServerOption{ReadBufferSize: 1024})
	mux := http.NewServeMux()
	var readers sync.WaitGroup
	mux.HandleFunc("GET /ws", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Query().Get("n"))
		if err != nil || n < 0 || n >= maxConnections {
			http.Error(w, "a connection needs a number", http.StatusBadRequest)
			return
		}
		c, err := up.Upgrade(w, r)
		if err != nil {
			return
		}
		f.add(n, c)
		readers.Go(c.ReadLoop)
	})
	mux.HandleFunc("GET /count", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		_, _ = fmt.Fprint(w, f.count)
	})
	mux.HandleFunc("POST /round", func(w http.ResponseWriter, r *http.Request) {
		var round Round
		err := json.NewDecoder(r.Body).Decode(&round)
		if err == nil {
			err = f.round(round)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = w.Write([]byte("ok"))
	})
	return serve(addr, mux, func() {
		f.mu.Lock()
		for c := range f.byWS {
			_ = c.NetConn().Close()
		}
		f.mu.Unlock()
		readers.Wait()
	})
}

// maxConnections bounds the numbers of connections.
const maxConnections = 1 << 16

func (f *frameServer) add(n int, c *gws.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.conns) <= n {
		f.conns = append(f.conns, nil)
	}
	fc := &frameConn{conn: c.NetConn()}
	if f.conns[n] == nil {
		f.count++
	}
	f.conns[n] = fc
	f.byWS[c] = fc
}

func (f *frameServer) round(r Round) error {
	wire := make([][]byte, len(r.Frames))
	for i, payload := range r.Frames {
		wire[i] = ws.AppendServerFrame(nil, payload)
	}
	f.mu.Lock()
	if r.First < 0 || r.End > len(f.conns) || r.First >= r.End || len(wire) == 0 {
		f.mu.Unlock()
		return errors.New("no such connections, or no frames")
	}
	conns := slices.Clone(f.conns[r.First:r.End])
	if slices.Contains(conns, nil) {
		f.mu.Unlock()
		return errors.New("some connections have not come")
	}
	f.frames = wire
	if r.Exchange {
		for _, c := range conns {
			c.next = 1
		}
		wire = wire[:1]
	}
	f.mu.Unlock()
	for _, frame := range wire {
		for _, c := range conns {
			if _, err := c.conn.Write(frame); err != nil {
				return err
			}
		}
	}
	return nil
}

// OnMessage writes the next frame of an exchange.
func (f *frameServer) OnMessage(c *gws.Conn, m *gws.Message) {
	_ = m.Close()
	f.mu.Lock()
	fc := f.byWS[c]
	var frame []byte
	if fc != nil && fc.next > 0 && fc.next < len(f.frames) {
		frame = f.frames[fc.next]
		fc.next++
	}
	f.mu.Unlock()
	if frame != nil {
		_, _ = fc.conn.Write(frame)
	}
}

// OnClose leaves the connection in its place; writes to it fail
// the round, because a comparison with fewer sockets would be none.
func (f *frameServer) OnClose(*gws.Conn, error) {}

// Package fake is a stand-in for a Chappe server with as much of its surfaces as
// the measurements use, and with faults on demand: it shows in tests that the
// tool finds them.
package fake

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/lxzan/gws"
	"google.golang.org/protobuf/proto"

	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// Fault changes what a user is given: it gets the text that came and the texts
// waiting for the user, and gives the texts that wait from then on.
type Fault func(user string, waiting []string, text string) []string

// Server is a running stand-in.
type Server struct {
	URL string

	srv   *httptest.Server
	fault Fault

	mu     sync.Mutex
	users  map[string]*user
	conns  map[*gws.Conn]*device
	status int
}

type user struct {
	waiting []string
	// followers are told of changes of the user's presence.
	followers []*user
	peer      string
	devices   map[*device]bool
}

type device struct {
	conn *gws.Conn
	user *user
	key  uint64
	page int
}

type handler struct {
	gws.BuiltinEventHandler
	s *Server
}

// Start starts a server; fault may be nil.
func Start(fault Fault) *Server {
	if fault == nil {
		fault = func(_ string, waiting []string, text string) []string { return append(waiting, text) }
	}
	s := &Server{fault: fault, users: make(map[string]*user), conns: make(map[*gws.Conn]*device), status: http.StatusOK}
	up := gws.NewUpgrader(handler{s: s}, nil)
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		if c, err := up.Upgrade(w, r); err == nil {
			go c.ReadLoop()
		}
	})
	mux.HandleFunc("POST /org/app/token", s.token)
	mux.HandleFunc("POST /org/app/messages/users", s.send)
	mux.HandleFunc("POST /org/app/users", s.token) // registers too, and the rest of the answer is not read
	mux.HandleFunc("PUT /org/app/metadata/user/{user}", s.known)
	mux.HandleFunc("GET /org/app/metadata/user/{user}", s.known)
	mux.HandleFunc("GET /org/app/users/{user}", s.known)
	mux.HandleFunc("GET /org/app/users/{user}/status", s.known)
	mux.HandleFunc("POST /org/app/users/{user}/presence/{expiry}", s.subscribe)
	mux.HandleFunc("POST /org/app/users/{user}/presence/web/{status}", s.change)
	s.srv = httptest.NewServer(mux)
	s.URL = s.srv.URL
	return s
}

// Close ends the server and its connections.
func (s *Server) Close() {
	s.mu.Lock()
	for c := range s.conns {
		_ = c.NetConn().Close()
	}
	s.mu.Unlock()
	s.srv.Close()
}

// Answer makes sends answer with a status from now on.
func (s *Server) Answer(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Username string `json:"username"`
	}
	_ = json.NewDecoder(r.Body).Decode(&in)
	s.mu.Lock()
	if s.users[in.Username] == nil {
		s.users[in.Username] = &user{devices: make(map[*device]bool)}
	}
	s.mu.Unlock()
	_, _ = fmt.Fprintf(w, `{"access_token":"token-%s"}`, in.Username)
}

func (s *Server) send(w http.ResponseWriter, r *http.Request) {
	var in struct {
		From string   `json:"from"`
		To   []string `json:"to"`
		Body struct {
			Msg string `json:"msg"`
		} `json:"body"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, "{}", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status != http.StatusOK {
		w.WriteHeader(s.status)
		_, _ = io.WriteString(w, "{}")
		return
	}
	for _, to := range in.To {
		u := s.users[to]
		if u == nil {
			continue
		}
		u.peer = in.From
		u.waiting = s.fault(to, u.waiting, in.Body.Msg)
		for d := range u.devices {
			d.write(msyncv1.MSync_NOTICE, &msyncv1.CommNotice{Queue: jid(u.peer)})
		}
	}
	_, _ = io.WriteString(w, "{}")
}

// known answers for users who exist.
func (s *Server) known(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[r.PathValue("user")] == nil {
		w.WriteHeader(http.StatusNotFound)
	}
	_, _ = io.WriteString(w, "{}")
}

func (s *Server) subscribe(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Usernames []string `json:"usernames"`
	}
	_ = json.NewDecoder(r.Body).Decode(&in)
	s.mu.Lock()
	defer s.mu.Unlock()
	follower := s.users[r.PathValue("user")]
	for _, name := range in.Usernames {
		if u := s.users[name]; u != nil && follower != nil {
			u.followers = append(u.followers, follower)
		}
	}
	_, _ = io.WriteString(w, "{}")
}

// change tells followers of a change of presence. The fault applies to the
// last of them.
func (s *Server) change(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[r.PathValue("user")]
	for i, f := range u.followers {
		notices := []string{string(body)}
		if i == len(u.followers)-1 {
			notices = s.fault("", nil, string(body))
		}
		for _, n := range notices {
			for d := range f.devices {
				d.write(msyncv1.MSync_SYNC, &msyncv1.CommSyncDL{
					Queue: jid(r.PathValue("user")), IsLast: proto.Bool(true),
					Metas: []*msyncv1.Meta{{Ns: msyncv1.Meta_NOTIFY.Enum(), Payload: []byte(n)}},
				})
			}
		}
	}
	_, _ = io.WriteString(w, "{}")
}

func jid(name string) *msyncv1.JID { return &msyncv1.JID{Name: proto.String(name)} }

func (d *device) write(cmd msyncv1.MSync_Command, m proto.Message) {
	payload, err := proto.Marshal(m)
	if err == nil {
		payload, err = proto.Marshal(&msyncv1.MSync{Command: cmd.Enum(), Payload: payload})
	}
	if err == nil {
		_ = d.conn.WriteMessage(gws.OpcodeBinary, payload)
	}
}

// OnClose forgets a device.
func (h handler) OnClose(c *gws.Conn, _ error) {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if d := h.s.conns[c]; d != nil {
		delete(d.user.devices, d)
		delete(h.s.conns, c)
	}
}

// OnMessage speaks login, notice and pull.
func (h handler) OnMessage(c *gws.Conn, m *gws.Message) {
	defer func() { _ = m.Close() }()
	var in msyncv1.MSync
	if proto.Unmarshal(m.Bytes(), &in) != nil {
		return
	}
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	ok := &msyncv1.Status{ErrorCode: msyncv1.Status_OK.Enum()}
	d := h.s.conns[c]
	switch in.GetCommand() {
	case msyncv1.MSync_PROVISION:
		name := in.GetGuid().GetName()
		u := h.s.users[name]
		d = &device{conn: c, user: u}
		if u == nil || in.GetAuth() != "$t$token-"+name {
			d.write(msyncv1.MSync_PROVISION, &msyncv1.Provision{Status: &msyncv1.Status{ErrorCode: msyncv1.Status_FAIL.Enum()}})
			return
		}
		h.s.conns[c] = d
		u.devices[d] = true
		d.write(msyncv1.MSync_PROVISION, &msyncv1.Provision{Status: ok})
	case msyncv1.MSync_UNREAD:
		answer := &msyncv1.CommUnreadDL{Status: ok}
		if len(d.user.waiting) > 0 {
			answer.Unread = []*msyncv1.MetaQueue{{Queue: jid(d.user.peer), N: proto.Uint32(1)}}
		}
		d.write(msyncv1.MSync_UNREAD, answer)
	case msyncv1.MSync_SYNC:
		h.s.pull(d, in.GetPayload())
	}
}

// pageSize of an answer to a pull.
const pageSize = 20

func (s *Server) pull(d *device, payload []byte) {
	var ul msyncv1.CommSyncUL
	if proto.Unmarshal(payload, &ul) != nil {
		return
	}
	if ul.GetKey() != 0 && ul.GetKey() == d.key {
		d.user.waiting = d.user.waiting[d.page:]
	}
	d.key++
	d.page = min(len(d.user.waiting), pageSize)
	answer := &msyncv1.CommSyncDL{Queue: ul.GetQueue(), IsLast: proto.Bool(d.page == 0), NextKey: proto.Uint64(d.key)}
	for _, text := range d.user.waiting[:d.page] {
		body, err := proto.Marshal(&msyncv1.MessageBody{
			From: jid(d.user.peer), Contents: []*msyncv1.MessageBody_Content{{Text: proto.String(text)}},
		})
		if err != nil {
			return
		}
		answer.Metas = append(answer.Metas, &msyncv1.Meta{Ns: msyncv1.Meta_CHAT.Enum(), Payload: body})
	}
	d.write(msyncv1.MSync_SYNC, answer)
}

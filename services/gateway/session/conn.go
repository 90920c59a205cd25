package session

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/msync"
	"github.com/chappe-im/chappe/pkg/obs"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// conn is one connection. What is below mu is guarded by it; the rest is written
// before the connection is seen by another goroutine, or atomic.
type conn struct {
	srv  *Server
	wire wire
	out  outbox

	// place is where Server.conns holds it, guarded by Server.mu.
	place int

	id, ip string
	// opened is when the connection began, expires when its token ends (0:
	// never); Unix milliseconds.
	opened, expires int64

	// Set by the login.
	org, app              string
	keyID                 uint32 // of the key that signed the login's token
	user                  ident.User
	resource              string
	sessionID, deviceUUID string
	os, version           string
	// registered: presence may know the connection.
	registered bool

	subs subscriptions
	// replaced is the gateway on which the device was before; the opener asks it
	// once.
	replaced string

	// seen is when the device last sent anything, Unix milliseconds.
	seen atomic.Int64
	// loggedIn: the login was answered. kicked: it has ended, the close follows.
	loggedIn, kicked atomic.Bool
	// checkAt is when to compare with the archive, queuesAt when to look at the
	// queues' timeouts; Unix milliseconds, 0 for not at all.
	checkAt, queuesAt atomic.Int64
	// inLine, tries and askAt belong to the opener.
	inLine bool
	tries  int
	askAt  int64
	// pace belongs to the reading goroutine.
	pace pace
	// frames counts the frame in work, of which there is at most one.
	frames sync.WaitGroup
	// pinged belongs to the sweeper.
	pinged bool

	mu sync.Mutex
	// live: the device knows what is unread, so what is new may be pushed.
	live bool
	// known: the archive has been asked for the device.
	known bool
	// closed: nothing changes any more.
	closed bool
	token  uint64
	queues map[ident.ConversationID]*queue
	// reach is how far the list goes that the queues rest on; see opening.go.
	reach reach
	holes map[ident.ConversationID]hole
	// relist: the list is to be read again. fresh: the connection was subscribed to
	// something since the last list. pending was asked and not answered.
	relist  bool
	fresh   bool
	pending *question
	// asking: a question is under way; gone are the positions of the queues that
	// were dropped meanwhile.
	asking bool
	gone   positions
	// owedUnread counts the questions for what is unread that wait for the list,
	// the oldest since unreadSince, Unix milliseconds.
	owedUnread  int
	unreadSince int64
}

// frame takes one message of the device.
func (c *conn) frame(b []byte) {
	if c.kicked.Load() {
		return
	}
	command, payload, ok := msync.SplitFrame(b)
	if !ok {
		c.shutdown(closeInvalidData, "malformed frame")
		return
	}
	if !c.loggedIn.Load() {
		if command == msyncv1.MSync_PROVISION && !c.subscribed() {
			c.login(b, payload)
			return
		}
		c.shutdown(closePolicy, "log in first")
		return
	}
	switch command {
	case msyncv1.MSync_SYNC:
		ul, ok := msync.ParseSyncUL(payload)
		if !ok {
			c.shutdown(closeInvalidData, "malformed frame")
			return
		}
		c.sync(ul)
	case msyncv1.MSync_UNREAD:
		c.unread()
	case msyncv1.MSync_LOGOUT:
		c.shutdown(closeNormal, "")
	case msyncv1.MSync_PROVISION:
		c.shutdown(closePolicy, "logged in already")
	default:
		c.send(msync.AppendFrame(nil, command, msync.AppendStatus(nil, msyncv1.Status_UNKNOWN_COMMAND, "unknown command")))
	}
}

// close ends what the connection had elsewhere. It runs when the reader is done.
func (c *conn) close() {
	c.unsubscribeAll()
	c.mu.Lock()
	c.live, c.closed = false, true
	c.forget()
	c.mu.Unlock()
	if !c.registered {
		return
	}
	c.handOn()
	c.srv.closings <- struct{}{}
	defer func() { <-c.srv.closings }()
	ctx, cancel := c.srv.callContext()
	defer cancel()
	c.depart(ctx)
}

// depart has presence forget the connection; once more does no harm.
func (c *conn) depart(ctx context.Context) {
	_, err := c.srv.presence.Disconnect(ctx, &presencev1.DisconnectRequest{
		Org: c.org, App: c.app, ConnectionId: c.id, User: string(c.user.ID), Resource: c.resource, Kicked: c.kicked.Load(),
	})
	if err != nil {
		c.srv.logger.Warn("presence was not told of a closed connection", obs.KeyApp, c.user.App, obs.KeyUser, c.user.ID, obs.KeyError, err)
	}
}

// callContext is the context of a call to another service.
func (s *Server) callContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, callTimeout)
}

func (s *Server) now() int64 { return s.deps.Now().UnixMilli() }

// nextToken makes a page token: the time in microseconds, or one more than the
// last. So it never comes twice for a device, on whatever gateway.
func (c *conn) nextToken() uint64 {
	c.token = max(c.token+1, uint64(c.srv.deps.Now().UnixMicro())) // after 1970
	return c.token
}

// soon lowers a time of atomic kind; 0 stands for never.
func soon(at *atomic.Int64, t int64) {
	for {
		old := at.Load()
		if old != 0 && old <= t {
			return
		}
		if at.CompareAndSwap(old, t) {
			return
		}
	}
}

// sendPage sends entries of a queue as one page.
func (c *conn) sendPage(q *queue, entries []entry, through int64, pulled bool, now int64) {
	token := c.nextToken()
	b := c.srv.buffers.get()
	*b = msync.AppendPage(*b, metasOf(entries), token, q.jid, now)
	c.send(*b)
	c.srv.buffers.put(b)
	q.sent(page{token: token, through: through, pulled: pulled}, now)
	soon(&c.queuesAt, now+c.srv.cfg.ConfirmTimeout.Milliseconds())
	if pulled {
		c.srv.metrics.pagePulled.Inc()
	} else {
		c.srv.metrics.pagePushed.Inc()
	}
}

func metasOf(entries []entry) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, e := range entries {
			if !yield(e.meta) {
				return
			}
		}
	}
}

func (c *conn) sendEmpty(jid []byte, now int64) {
	c.send(msync.AppendEmpty(make([]byte, 0, 64), jid, now))
	c.srv.metrics.pageEmpty.Inc()
}

// sendNotice notifies the device that a queue has something.
func (c *conn) sendNotice(q *queue, now int64) {
	c.send(msync.AppendNotice(make([]byte, 0, 64), q.jid))
	q.enter(notified, now)
	c.srv.metrics.notice.Inc()
}

// sendDirect pushes an encoded meta past the queues: shown at once, never
// confirmed.
func (c *conn) sendDirect(meta []byte) {
	now := c.srv.now()
	b := c.srv.buffers.get()
	*b = msync.AppendPage(*b, func(yield func([]byte) bool) { yield(meta) }, 0, c.srv.directJID, now)
	c.send(*b)
	c.srv.buffers.put(b)
	c.srv.metrics.direct.Inc()
}

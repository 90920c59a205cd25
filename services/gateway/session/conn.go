package session

import (
	"context"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"

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
	org, app, appKey      string
	keyID                 uint32 // of the key that signed the login's token
	user, resource        string
	sessionID, deviceUUID string
	os, version           string
	shard                 *shard
	joined, connected     bool
	// replaced is the gateway on which the device was before; the opener asks it
	// once.
	replaced string

	// seen is when the device last sent anything, Unix milliseconds.
	seen atomic.Int64
	// in: the login was answered. kicked: it has ended, the close follows.
	in, kicked atomic.Bool
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
	// live: the device was told what is unread, so what is new may be pushed.
	live bool
	// closed: nothing changes any more.
	closed bool
	token  uint64
	queues map[string]*queue
	// reach is how far the list goes that the queues rest on; see opening.go.
	reach reach
	holes map[string]hole
	// relist: the list is to be read again. fresh: an interest was declared since
	// the last list. pending was asked and not answered.
	relist  bool
	fresh   bool
	pending *question
	// asking: a question is under way; gone are the positions of the queues that
	// were dropped meanwhile.
	asking bool
	gone   map[string]int64
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
	command, payload, ok := splitFrame(b)
	if !ok {
		c.shutdown(closeInvalidData, "malformed frame")
		return
	}
	if !c.in.Load() {
		if command == msyncv1.MSync_PROVISION && !c.joined {
			c.login(b, payload)
			return
		}
		c.shutdown(closePolicy, "log in first")
		return
	}
	switch command {
	case msyncv1.MSync_SYNC:
		ul, ok := parseSyncUL(payload)
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
		c.send(appendFrame(nil, command, appendStatus(nil, msyncv1.Status_UNKNOWN_COMMAND, "unknown command")))
	}
}

// splitFrame gives the command and the payload of an encoded MSync.
func splitFrame(b []byte) (command msyncv1.MSync_Command, payload []byte, ok bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, nil, false
		}
		b = b[n:]
		n = protowire.ConsumeFieldValue(num, typ, b)
		if n < 0 {
			return 0, nil, false
		}
		switch {
		case num == 8 && typ == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(b)
			if v > 127 {
				return 0, nil, false
			}
			command = msyncv1.MSync_Command(v) //nolint:gosec // checked
		case num == 9 && typ == protowire.BytesType:
			payload, _ = protowire.ConsumeBytes(b)
		}
		b = b[n:]
	}
	return command, payload, true
}

// close ends what the connection had elsewhere. It runs when the reader is done.
func (c *conn) close() {
	if c.joined {
		c.shard.leave(c)
	}
	c.mu.Lock()
	c.live, c.closed = false, true
	c.forget()
	c.mu.Unlock()
	if !c.connected {
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
		Org: c.org, App: c.app, ConnectionId: c.id, User: c.user, Resource: c.resource, Kicked: c.kicked.Load(),
	})
	if err != nil {
		c.srv.logger.Warn("presence was not told of a closed connection", obs.KeyApp, c.appKey, obs.KeyUser, c.user, obs.KeyError, err)
	}
}

// callContext is the context of a call to another service.
func (s *Server) callContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, s.cfg.CallTimeout)
}

func (s *Server) now() int64 { return s.deps.Now().UnixMilli() }

// nextToken makes a page token: the time in microseconds, or one more than the
// last. So it never comes twice for a device, on whatever gateway.
func (c *conn) nextToken() uint64 {
	c.token = max(c.token+1, uint64(c.srv.deps.Now().UnixMicro())) //nolint:gosec // after 1970
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
func (c *conn) sendPage(q *queue, entries []entry, through int64, asked bool, now int64) {
	token := c.nextToken()
	b := c.srv.buffers.get()
	*b = appendPage(*b, entries, token, q.jid, now)
	c.send(*b)
	c.srv.buffers.put(b)
	q.sent(page{token: token, through: through, asked: asked}, now)
	soon(&c.queuesAt, now+c.srv.cfg.ConfirmTimeout.Milliseconds())
	if asked {
		c.srv.metrics.pageAsked.Inc()
	} else {
		c.srv.metrics.pagePushed.Inc()
	}
}

func (c *conn) sendEmpty(jid []byte, now int64) {
	c.send(appendEmpty(make([]byte, 0, 64), jid, now))
	c.srv.metrics.pageEmpty.Inc()
}

// sendNotice tells the device that a queue has something.
func (c *conn) sendNotice(q *queue, now int64) {
	c.send(appendNotice(make([]byte, 0, 64), q.jid))
	q.enter(told, now)
	c.srv.metrics.notice.Inc()
}

// sendDirect pushes an encoded meta past the queues: shown at once, never
// confirmed.
func (c *conn) sendDirect(meta []byte) {
	now := c.srv.now()
	b := c.srv.buffers.get()
	*b = appendPage(*b, []entry{{meta: meta}}, 0, c.srv.directJID, now)
	c.send(*b)
	c.srv.buffers.put(b)
	c.srv.metrics.direct.Inc()
}

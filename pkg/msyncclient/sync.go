package msyncclient

import (
	"errors"
	"fmt"
	"slices"

	"github.com/lxzan/gws"
	"google.golang.org/protobuf/proto"

	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// rememberedMetas is how many message IDs a device compares new ones with, as
// the official SDK does.
const rememberedMetas = 100

// workList is what an SDK keeps of its queues: those it was told about and has
// not emptied, of which it pulls one at a time. Queues go by their name alone.
type workList struct {
	queues  []*msyncv1.JID
	pulling string
	unread  bool // the first answer to UNREAD is in
	synced  bool
	lastKey map[string]uint64
	recent  []uint64
}

// events are the socket's events of a Client.
type events Client

func (e *events) OnOpen(*gws.Conn) {}

func (e *events) OnClose(_ *gws.Conn, err error) {
	if err == nil {
		err = ErrClosed
	}
	(*Client)(e).end(err)
}

func (e *events) OnPing(s *gws.Conn, payload []byte) { _ = s.WritePong(payload) }

func (e *events) OnPong(*gws.Conn, []byte) {}

func (e *events) OnMessage(s *gws.Conn, m *gws.Message) {
	defer func() { _ = m.Close() }()
	c := (*Client)(e)
	frame := new(msyncv1.MSync)
	if err := proto.Unmarshal(m.Bytes(), frame); err != nil {
		c.fail(fmt.Errorf("server's frame: %w", err))
		return
	}
	if err := c.handle(frame); err != nil {
		c.fail(err)
	}
}

// fail ends the connection because of what the server sent.
func (c *Client) fail(err error) {
	c.end(err)
	_ = c.socket.NetConn().Close()
}

func (c *Client) handle(frame *msyncv1.MSync) error {
	switch frame.GetCommand() {
	case msyncv1.MSync_PROVISION:
		p := new(msyncv1.Provision)
		if err := proto.Unmarshal(frame.GetPayload(), p); err != nil {
			return fmt.Errorf("provision: %w", err)
		}
		select {
		case c.login <- p:
		default:
			return errors.New("second answer to the login")
		}
	case msyncv1.MSync_UNREAD:
		dl := new(msyncv1.CommUnreadDL)
		if err := proto.Unmarshal(frame.GetPayload(), dl); err != nil {
			return fmt.Errorf("unread: %w", err)
		}
		c.answerUnread(dl)
		if c.opts.Manual {
			c.keep(frame)
			return nil
		}
		return c.work.listed(c, dl)
	case msyncv1.MSync_NOTICE:
		if c.opts.Manual {
			c.keep(frame)
			return nil
		}
		n := new(msyncv1.CommNotice)
		if err := proto.Unmarshal(frame.GetPayload(), n); err != nil {
			return fmt.Errorf("notice: %w", err)
		}
		return c.work.add(c, n.GetQueue())
	case msyncv1.MSync_SYNC:
		dl := new(msyncv1.CommSyncDL)
		if err := proto.Unmarshal(frame.GetPayload(), dl); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
		return c.sync(frame, dl)
	case msyncv1.MSync_LOGOUT:
	}
	return nil
}

func (c *Client) keep(frame *msyncv1.MSync) {
	select {
	case c.frames <- frame:
	case <-c.done:
	}
}

func (c *Client) answerUnread(dl *msyncv1.CommUnreadDL) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.unread) > 0 {
		if c.unread[0] != nil {
			c.unread[0] <- dl
		}
		c.unread = c.unread[1:]
	}
}

func (c *Client) sync(frame *msyncv1.MSync, dl *msyncv1.CommSyncDL) error {
	if dl.MetaId != nil {
		c.mu.Lock()
		answer := c.waiting[dl.GetMetaId()]
		c.mu.Unlock()
		if answer != nil {
			select {
			case answer <- dl:
			default:
			}
		}
		return nil
	}
	if dl.GetQueue().GetName() == "" {
		return errors.New("a page without queue is lost in an SDK")
	}
	for _, m := range dl.GetMetas() {
		c.noteKick(m)
	}
	if c.opts.Manual {
		c.keep(frame)
		return nil
	}
	return c.work.page(c, dl)
}

// noteKick keeps the reason when a meta ends the login.
func (c *Client) noteKick(m *msyncv1.Meta) {
	if m.GetNs() != msyncv1.Meta_STATISTIC {
		return
	}
	s := new(msyncv1.StatisticsBody)
	if proto.Unmarshal(m.GetPayload(), s) != nil || s.GetOperation() == msyncv1.StatisticsBody_INFORMATION {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kicked = &KickedError{Operation: s.GetOperation()}
}

func (w *workList) listed(c *Client, dl *msyncv1.CommUnreadDL) error {
	w.unread = true
	// A queue whose pull was lost is begun again when it is listed.
	w.pulling = ""
	for _, q := range dl.GetUnread() {
		w.note(q.GetQueue())
	}
	return w.next(c)
}

func (w *workList) note(q *msyncv1.JID) {
	if !slices.ContainsFunc(w.queues, func(x *msyncv1.JID) bool { return x.GetName() == q.GetName() }) {
		w.queues = append(w.queues, q)
	}
}

func (w *workList) add(c *Client, q *msyncv1.JID) error {
	w.note(q)
	return w.next(c)
}

// next pulls the first queue of the list unless one is being pulled.
func (w *workList) next(c *Client) error {
	if w.pulling != "" {
		return nil
	}
	if len(w.queues) == 0 {
		if w.unread && !w.synced {
			w.synced = true
			close(c.synced)
		}
		return nil
	}
	w.pulling = w.queues[0].GetName()
	return c.Pull(w.queues[0], nil)
}

func (w *workList) page(c *Client, dl *msyncv1.CommSyncDL) error {
	q := dl.GetQueue()
	direct := dl.GetIsLast() && len(dl.GetMetas()) > 0
	for _, m := range dl.GetMetas() {
		if err := w.show(c, Received{Meta: m, Queue: q.GetName(), Direct: direct}); err != nil {
			return err
		}
	}
	if direct {
		return nil
	}
	if dl.GetIsLast() {
		w.queues = slices.DeleteFunc(w.queues, func(x *msyncv1.JID) bool { return x.GetName() == q.GetName() })
		if w.pulling == q.GetName() {
			w.pulling = ""
		}
		return w.next(c)
	}
	if dl.NextKey == nil {
		return nil
	}
	if w.lastKey == nil {
		w.lastKey = make(map[string]uint64)
	}
	if last, ok := w.lastKey[q.GetName()]; ok && last == dl.GetNextKey() {
		return fmt.Errorf("next_key %d of queue %s came twice: an SDK stops pulling there", last, q.GetName())
	}
	w.lastKey[q.GetName()] = dl.GetNextKey()
	return c.Pull(q, dl.NextKey)
}

// show hands a meta on unless it was shown before.
func (w *workList) show(c *Client, r Received) error {
	if !c.opts.KeepDuplicates && r.Meta.GetId() != 0 {
		if slices.Contains(w.recent, r.Meta.GetId()) {
			return nil
		}
		if len(w.recent) == rememberedMetas {
			w.recent = append(w.recent[:0], w.recent[1:]...)
		}
		w.recent = append(w.recent, r.Meta.GetId())
	}
	if c.opts.OnReceived != nil {
		c.opts.OnReceived(r)
	} else {
		select {
		case c.in <- r:
		case <-c.done:
			return nil
		}
	}
	if !c.opts.DeliveryAcks || r.Meta.GetNs() != msyncv1.Meta_CHAT {
		return nil
	}
	body, err := r.Body()
	if err != nil || body.GetType() != msyncv1.MessageBody_CHAT || body.GetFrom().GetName() == c.user {
		return err
	}
	meta, err := c.chatMeta(body.GetFrom().GetName(), DomainUser, receipt(msyncv1.MessageBody_DELIVER_ACK, r.Meta.GetId()))
	if err != nil {
		return err
	}
	return c.sendUnwaited(meta)
}

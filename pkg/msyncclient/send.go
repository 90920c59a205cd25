package msyncclient

import (
	"context"
	"fmt"
	"strconv"

	"github.com/lxzan/gws"
	"google.golang.org/protobuf/proto"

	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// Ack is the server's acknowledgement of a message.
type Ack struct {
	LocalID  uint64
	ServerID uint64
	// Unix milliseconds.
	Timestamp uint64
	// Metas that came with it.
	Metas []*msyncv1.Meta
}

// ID is the server's message ID as apps see it.
func (a Ack) ID() string { return strconv.FormatUint(a.ServerID, 10) }

// RefusedError is a message the server did not take.
type RefusedError struct {
	Code   msyncv1.Status_ErrorCode
	Reason string
}

// Error gives code and reason.
func (e *RefusedError) Error() string {
	return "message refused: " + strconv.Itoa(int(e.Code)) + " " + e.Reason
}

// SendText sends a text to a user and waits for its acknowledgement.
func (c *Client) SendText(ctx context.Context, to, text string) (Ack, error) {
	return c.SendBody(ctx, to, DomainUser, &msyncv1.MessageBody{
		Type: msyncv1.MessageBody_CHAT.Enum(),
		Contents: []*msyncv1.MessageBody_Content{{
			Type: msyncv1.MessageBody_Content_TEXT.Enum(), Text: proto.String(text),
		}},
	})
}

// SendReceipt sends a delivery, read or channel receipt, or a recall, for a
// message of the peer.
func (c *Client) SendReceipt(ctx context.Context, to string, kind msyncv1.MessageBody_Type, messageID uint64) (Ack, error) {
	return c.SendBody(ctx, to, DomainUser, receipt(kind, messageID))
}

func receipt(kind msyncv1.MessageBody_Type, messageID uint64) *msyncv1.MessageBody {
	return &msyncv1.MessageBody{
		Type: kind.Enum(), AckMessageId: proto.Uint64(messageID), Contents: []*msyncv1.MessageBody_Content{{}},
	}
}

// SendBody sends any body; from and to of it are filled in.
func (c *Client) SendBody(ctx context.Context, to, domain string, body *msyncv1.MessageBody) (Ack, error) {
	meta, err := c.chatMeta(to, domain, body)
	if err != nil {
		return Ack{}, err
	}
	return c.SendMeta(ctx, meta)
}

func (c *Client) chatMeta(to, domain string, body *msyncv1.MessageBody) (*msyncv1.Meta, error) {
	body.From = &msyncv1.JID{Name: proto.String(c.user)}
	body.To = &msyncv1.JID{Name: proto.String(to)}
	payload, err := proto.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("message body: %w", err)
	}
	return &msyncv1.Meta{
		To:        &msyncv1.JID{AppKey: proto.String(c.appKey), Name: proto.String(to), Domain: proto.String(domain)},
		Ns:        msyncv1.Meta_CHAT.Enum(),
		Payload:   payload,
		Routetype: msyncv1.Meta_ROUTE_ALL.Enum(),
	}, nil
}

// SendMeta sends a meta, giving it an ID if it has none, and waits for the
// answer. A refusal is a *RefusedError.
func (c *Client) SendMeta(ctx context.Context, meta *msyncv1.Meta) (Ack, error) {
	if meta.Id == nil {
		meta.Id = proto.Uint64(c.nextID.Add(1))
	}
	answer := make(chan *msyncv1.CommSyncDL, 1)
	c.mu.Lock()
	c.waiting[meta.GetId()] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, meta.GetId())
		c.mu.Unlock()
	}()
	if err := c.writeSync(&msyncv1.CommSyncUL{Meta: meta}); err != nil {
		return Ack{}, err
	}
	select {
	case dl := <-answer:
		if code := dl.GetStatus().GetErrorCode(); code != msyncv1.Status_OK {
			return Ack{}, &RefusedError{Code: code, Reason: dl.GetStatus().GetReason()}
		}
		return Ack{LocalID: meta.GetId(), ServerID: dl.GetServerId(), Timestamp: dl.GetTimestamp(), Metas: dl.GetMetas()}, nil
	case <-c.done:
		return Ack{}, c.Err()
	case <-ctx.Done():
		return Ack{}, ctx.Err()
	}
}

// sendUnwaited sends a meta whose answer nobody waits for.
func (c *Client) sendUnwaited(meta *msyncv1.Meta) error {
	meta.Id = proto.Uint64(c.nextID.Add(1))
	return c.writeSync(&msyncv1.CommSyncUL{Meta: meta})
}

// Unread asks what is unread and waits for the answer; it is a heartbeat too.
func (c *Client) Unread(ctx context.Context) (*msyncv1.CommUnreadDL, error) {
	answer := make(chan *msyncv1.CommUnreadDL, 1)
	if err := c.askUnread(answer); err != nil {
		return nil, err
	}
	select {
	case dl := <-answer:
		return dl, nil
	case <-c.done:
		return nil, c.Err()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// askUnread asks what is unread. Answers come in the order of the questions, so
// each of these is noted, whoever waits for it; nil is nobody.
func (c *Client) askUnread(answer chan *msyncv1.CommUnreadDL) error {
	c.asking.Lock()
	defer c.asking.Unlock()
	c.mu.Lock()
	c.unread = append(c.unread, answer)
	c.mu.Unlock()
	return c.write(msyncv1.MSync_UNREAD, nil)
}

// Pull asks for a page of a queue. With key it confirms everything up to the
// page that key came with.
func (c *Client) Pull(queue *msyncv1.JID, key *uint64) error {
	return c.writeSync(&msyncv1.CommSyncUL{Queue: queue, Key: key})
}

// Logout tells the server good-bye and closes.
func (c *Client) Logout() error {
	payload, err := proto.Marshal(&msyncv1.Logout{SessionId: proto.String(c.opts.SessionID), Reason: proto.String("inner:logout")})
	if err != nil {
		return err
	}
	err = c.write(msyncv1.MSync_LOGOUT, payload)
	c.Close()
	return err
}

// WriteRaw sends any bytes as one binary message.
func (c *Client) WriteRaw(frame []byte) error {
	return c.socket.WriteMessage(gws.OpcodeBinary, frame)
}

func (c *Client) writeSync(ul *msyncv1.CommSyncUL) error {
	payload, err := proto.Marshal(ul)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return c.write(msyncv1.MSync_SYNC, payload)
}

func (c *Client) write(command msyncv1.MSync_Command, payload []byte) error {
	b, err := Frame(command, payload, nil)
	if err != nil {
		return err
	}
	if err := c.WriteRaw(b); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

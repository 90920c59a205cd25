package traffic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/msyncclient"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// writer is a user who sends texts to one other, one after the other.
type writer struct {
	load     *Load
	from, to string
	random   *rand.Rand
	n        int
}

func (w *writer) conversation() string {
	return string(ident.UserConversation(ident.UserID(w.from), ident.UserID(w.to)))
}

func (w *writer) next() Sent {
	w.n++
	return Sent{Conversation: w.conversation(), Recipient: w.to, Text: fmt.Sprintf("%s #%d", w.from, w.n), Begun: time.Now()}
}

// rest waits for about d, and as long as writers stand still.
func (w *writer) rest(ctx context.Context, d time.Duration) bool {
	if !pause(ctx, d/2+upTo(w.random, d)) {
		return false
	}
	for !w.load.writing.Load() {
		if !pause(ctx, 5*time.Millisecond) {
			return false
		}
	}
	return true
}

// runREST sends by REST until ctx ends.
func (w *writer) runREST(ctx context.Context) {
	for w.rest(ctx, w.load.cfg.Pause) {
		acked := true
		w.load.send(func() { acked = w.sendREST(ctx) })
		if !acked && !pause(ctx, retryPause) {
			return
		}
	}
}

// sendREST sends once and reports whether it was acknowledged. A send that is
// refused or not answered is given up: whether it was stored is open, and the
// next is another message.
func (w *writer) sendREST(ctx context.Context) bool {
	s := w.next()
	// A send that is under way is finished when the writers are stopped: its
	// answer counts.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendPatience)
	defer cancel()
	r, err := w.load.gateway(w.random).Try(ctx, http.MethodPost, "/messages/users", map[string]any{
		"from": w.from, "to": []string{w.to}, "type": "txt", "body": map[string]string{"msg": s.Text},
	}, w.load.app.Token)
	if err != nil {
		w.load.refuse(s.Begun, "no answer: "+kindOf(err))
		return false
	}
	if r.Status != http.StatusOK {
		w.load.refuse(s.Begun, fmt.Sprintf("%d %v", r.Status, r.Body["error_description"]))
		return false
	}
	data, _ := r.Body["data"].(map[string]any)
	if s.ID, _ = data[w.to].(string); s.ID == "" {
		w.load.refuse(s.Begun, fmt.Sprintf("200 without an ID: %s", r.Raw))
		return false
	}
	w.load.ack(s)
	return true
}

// announce sends once beside the writers, unless they have been stopped or
// stand still.
func (w *writer) announce() {
	w.load.send(func() { w.sendREST(w.load.stopped) })
}

// kindOf shortens an error of a call to what kind it is, without addresses.
func kindOf(err error) string {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err.Error()
}

// runClient sends as a connected device. As an SDK does, it sends a message
// that was not answered again on the next connection, under the same ID.
func (w *writer) runClient(ctx context.Context) {
	var c *msyncclient.Client
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for w.rest(ctx, 5*w.load.cfg.Pause) {
		s := w.next()
		meta, err := w.meta(s.Text)
		if err != nil {
			w.load.refuse(s.Begun, err.Error())
			return
		}
		for answered := false; !answered; {
			if c == nil {
				if c = w.dial(ctx); c == nil {
					if !pause(ctx, retryPause) {
						return
					}
					continue
				}
			}
			begun := time.Now()
			var ack msyncclient.Ack
			if !w.load.send(func() {
				sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendPatience)
				defer cancel()
				if ack, err = c.SendMeta(sending, meta); err == nil {
					s.ID, s.Begun = ack.ID(), begun
					w.load.ack(s)
				}
			}) {
				if !pause(ctx, 5*time.Millisecond) {
					return
				}
				continue
			}
			refused := new(msyncclient.RefusedError)
			switch {
			case err == nil:
				answered = true
			case errors.As(err, &refused):
				w.load.refuse(begun, "client: "+refused.Error())
				answered = true
				if !pause(ctx, retryPause) {
					return
				}
			default:
				w.load.refuse(begun, "client: no answer")
				c.Abort()
				c = nil
				if ctx.Err() != nil {
					return
				}
			}
		}
	}
}

func (w *writer) dial(ctx context.Context) *msyncclient.Client {
	gateway := w.load.gateway(w.random)
	dialing, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := msyncclient.Dial(dialing, gateway.Server.WS, gateway.Key(), w.from, w.load.tokens[w.from], msyncclient.Options{
		Resource: "pen", OnReceived: func(msyncclient.Received) {},
	})
	if err != nil {
		if ctx.Err() == nil {
			w.load.count("client: no login")
		}
		return nil
	}
	return c
}

// meta is a text under an ID that stays the same when it is sent again.
func (w *writer) meta(text string) (*msyncv1.Meta, error) {
	payload, err := proto.Marshal(&msyncv1.MessageBody{
		Type: msyncv1.MessageBody_CHAT.Enum(),
		From: &msyncv1.JID{Name: proto.String(w.from)},
		To:   &msyncv1.JID{Name: proto.String(w.to)},
		Contents: []*msyncv1.MessageBody_Content{{
			Type: msyncv1.MessageBody_Content_TEXT.Enum(), Text: proto.String(text),
		}},
	})
	if err != nil {
		return nil, err
	}
	return &msyncv1.Meta{
		Id:        proto.Uint64(uint64(time.Now().UnixMicro())), // after 1970
		To:        &msyncv1.JID{AppKey: proto.String(w.load.app.Key()), Name: proto.String(w.to), Domain: proto.String(msyncclient.DomainUser)},
		Ns:        msyncv1.Meta_CHAT.Enum(),
		Payload:   payload,
		Routetype: msyncv1.Meta_ROUTE_ALL.Enum(),
	}, nil
}

func upTo(r *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(d) + 1))
}

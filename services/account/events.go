package account

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/outbox"
	"github.com/chappe-im/chappe/pkg/revocation"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// userDomain is where the client protocol places users.
const userDomain = "easemob.com"

// events collects what a transaction has to say, and puts it into the outbox.
type events struct {
	s        *Service
	app      *catalog.App
	messages []outbox.Message
	err      error
}

func (s *Service) events(app *catalog.App) *events { return &events{s: s, app: app} }

// changed tells other services to forget what they know of a user.
func (e *events) changed(user string, change busv1.UserEvent_Change) *events {
	return e.add(bus.UserEventSubject(e.app.Key, user), false, &busv1.UserEvent{
		App: e.app.Key, User: user, Change: change, Timestamp: e.s.now().UnixMilli(),
	})
}

// revoked voids the user's tokens that were issued before an instant.
func (e *events) revoked(user string, before int64) *events {
	subject, data := revocation.UserEntry(e.app.Key, user, time.UnixMilli(before))
	e.messages = append(e.messages, outbox.Message{Subject: subject, Data: data})
	return e
}

// disconnected ends the user's connections.
func (e *events) disconnected(user string, why busv1.Disconnect_Reason) *events {
	return e.add(bus.UserSubject(e.app.Key, user), true, &busv1.Push{
		What: &busv1.Push_Disconnect{Disconnect: &busv1.Disconnect{Reason: why}},
	})
}

// roster shows the devices of user `to`, except one, what happened between
// them and `from`.
func (e *events) roster(to, from string, op msyncv1.RosterBody_Operation, reason, exceptResource string) *events {
	body := &msyncv1.RosterBody{
		Operation: op.Enum(), From: e.jid(from), To: []*msyncv1.JID{e.jid(to)},
		Status: &msyncv1.RosterBody_Status{ErrorCode: msyncv1.RosterBody_Status_OK.Enum()},
	}
	if reason != "" {
		body.Reason = &reason
	}
	payload, err := proto.Marshal(body)
	if err != nil {
		e.err = err
		return e
	}
	return e.add(bus.UserSubject(e.app.Key, to), true, &busv1.Push{What: &busv1.Push_Notice{Notice: &busv1.Notice{
		Ns: int32(msyncv1.Meta_ROSTER), Id: e.s.ids.Next(), From: from, Timestamp: e.s.now().UnixMilli(),
		Payload: payload, ExceptResource: exceptResource,
	}}})
}

func (e *events) jid(user string) *msyncv1.JID {
	domain := userDomain
	return &msyncv1.JID{AppKey: &e.app.Key, Name: &user, Domain: &domain}
}

func (e *events) add(subject string, live bool, m proto.Message) *events {
	data, err := proto.Marshal(m)
	if err != nil {
		e.err = err
		return e
	}
	e.messages = append(e.messages, outbox.Message{Subject: subject, Data: data, Live: live})
	return e
}

// store puts them into the outbox of a transaction.
func (e *events) store(ctx context.Context, tx *sql.Tx) error {
	if e.err != nil {
		return fmt.Errorf("event: %w", e.err)
	}
	return outbox.Add(ctx, tx, e.messages...)
}

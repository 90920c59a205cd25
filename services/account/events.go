package account

import (
	"context"
	"crypto/rand"
	"database/sql"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/outbox"
	"github.com/chappe-im/chappe/pkg/revocation"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// events collects what a transaction has to say.
type events struct {
	s        *Service
	app      *catalog.App
	messages []outbox.Message
	users    []string
	err      error
}

// changed tells other services to forget what they know of a user.
func (e *events) changed(user string, change busv1.UserEvent_Change) *events {
	e.users = append(e.users, user)
	return e.add(bus.UserEventSubject(e.app.Key, user), false, &busv1.UserEvent{
		App: e.app.Key, User: user, Change: change, Timestamp: e.s.now().UnixMilli(),
	})
}

// revoked voids the user's tokens that were issued before an instant.
func (e *events) revoked(user string, before int64) *events {
	subject, data := revocation.UserEntry(ident.User{App: e.app.AppKey(), ID: ident.UserID(user)}, time.UnixMilli(before))
	e.messages = append(e.messages, outbox.Message{Subject: subject, Data: data})
	return e
}

// disconnected ends the user's connections.
func (e *events) disconnected(user string, why busv1.Disconnect_Reason) {
	e.add(bus.UserSubject(e.app.Key, user), true, &busv1.Push{
		What: &busv1.Push_Disconnect{Disconnect: &busv1.Disconnect{Reason: why}},
	})
}

// contact tells `to` what `from` did about the two of them. It reaches every
// device of theirs, those that are not connected at their next login.
func (e *events) contact(from, to string, did busv1.ContactEvent_Action, reason string) *events {
	id := "contact-" + rand.Text()
	data, err := proto.Marshal(&busv1.RosterEvent{
		Id: id, App: e.app.Key, From: from, To: to, Timestamp: e.s.now().UnixMilli(),
		Event: &busv1.ContactEvent{Action: did, Reason: reason},
	})
	if err != nil {
		e.err = err
		return e
	}
	e.messages = append(e.messages, outbox.Message{Subject: bus.RosterEventSubject(e.app.Key, to), Data: data, ID: id})
	return e
}

// contactCopy shows the devices of `from` that are connected, except one, what
// the user did about `to` on that one: the others learn it from the user's
// contacts when they log in.
func (e *events) contactCopy(from, to string, did busv1.ContactEvent_Action, exceptResource string) {
	e.add(bus.UserSubject(e.app.Key, from), true, &busv1.Push{What: &busv1.Push_Notice{Notice: &busv1.Notice{
		Id: e.s.ids.Next(), From: from, To: to, Timestamp: e.s.now().UnixMilli(), ExceptResource: exceptResource,
		Event: &busv1.Event{What: &busv1.Event_Contact{Contact: &busv1.ContactEvent{Action: did}}},
	}}})
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

// commit runs f in a transaction, together with what f has to say of it. When
// commit returns, this process has forgotten what it knew of the users that
// changed, and the events are on their way.
func (s *Service) commit(ctx context.Context, app *catalog.App, f func(tx *sql.Tx, ev *events) error) error {
	var ev *events
	err := s.db.Write(ctx, func(tx *sql.Tx) error {
		ev = &events{s: s, app: app}
		if err := f(tx, ev); err != nil {
			return err
		}
		if ev.err != nil {
			return errs.Internal(ev.err)
		}
		return outbox.Add(ctx, tx, ev.messages...)
	})
	if ev == nil || len(ev.messages) == 0 {
		return err
	}
	// Also after an error: a commit may have taken place all the same.
	for _, user := range ev.users {
		s.cache.Forget(ident.User{App: ident.AppKey(app.Key), ID: ident.UserID(user)})
		if s.told != nil {
			s.told(app.Key, user)
		}
	}
	if err == nil {
		s.tell(ctx)
	}
	return err
}

// tellWithin bounds how long a change waits until others have been told of it.
const tellWithin = 50 * time.Millisecond

// tell has the outbox published before the caller is answered, so that the
// call that follows, at whatever service, goes by the change. If that takes
// long the change stands all the same, and others hear of it later.
func (s *Service) tell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tellWithin)
	defer cancel()
	if s.outbox.Flush(ctx) != nil {
		s.outbox.Kick()
	}
}

package messaging

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	"github.com/chappe-im/chappe/services/messaging/partition"
)

const (
	// rosterConsumer is the service's place among the contact events.
	rosterConsumer = "messaging-roster"
	// rosterTimeout bounds one attempt at one of them.
	rosterTimeout = 20 * time.Second
	// rosterSkew is how far the clocks of the instances that register a user and
	// that tell of an event may differ.
	rosterSkew = 5 * time.Second
)

// onRoster commits a contact event to the log, as an entry of the two users'
// conversation. From there it goes the way of messages, so that it reaches each
// device once, whenever that connects.
func (s *Service) onRoster(ctx context.Context, m natsx.StreamMsg) error {
	var e busv1.RosterEvent
	if err := proto.Unmarshal(m.Data(), &e); err != nil || e.GetId() == "" {
		s.deps.Logger.Error("contact event is unreadable and left out", obs.KeyError, err)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, rosterTimeout)
	defer cancel()
	err := s.commitRoster(ctx, &e)
	if err != nil && ctx.Err() == nil {
		s.deps.Logger.Warn("contact event waits", obs.KeyApp, e.GetApp(), obs.KeyUser, e.GetTo(), obs.KeyError, err)
	}
	return err
}

func (s *Service) commitRoster(ctx context.Context, e *busv1.RosterEvent) error {
	if _, ok := s.deps.Apps.AppByKey(e.GetApp()); !ok {
		return nil
	}
	ok, err := s.recipientStillExists(ctx, e)
	if err != nil || !ok {
		return err
	}
	// An event from before an upgrade holds the client protocol's own body.
	typ, body := busv1.EntryType_ENTRY_TYPE_ROSTER, e.GetBody()
	if e.GetEvent() != nil {
		typ = busv1.EntryType_ENTRY_TYPE_EVENT
		if body, err = proto.Marshal(&busv1.Event{What: &busv1.Event_Contact{Contact: e.GetEvent()}}); err != nil {
			return errs.Internal(err)
		}
	}
	d := partition.Draft{
		App: ident.AppKey(e.GetApp()),
		Record: &busv1.LogRecord{
			App: e.GetApp(), Kind: busv1.Kind_KIND_USER, Type: typ,
			From: e.GetFrom(), Timestamp: e.GetTimestamp(), Body: body, Event: e.GetId(),
		},
		Targets: []partition.Target{{To: e.GetTo()}},
	}
	// The log itself recognizes what comes again at once; half its window is left
	// to clocks that differ. What comes later is looked for: unless set otherwise,
	// the log is kept as long as the events are.
	if age := s.deps.Now().Sub(time.UnixMilli(e.GetTimestamp())); age < -partition.LogWindow/2 || age > partition.LogWindow/2 {
		if there, err := s.log.HoldsEvent(ctx, &d); err != nil || there {
			return err
		}
	}
	return s.log.Commit(ctx, &d)
}

// recipientStillExists reports whether the user whom an event is for still exists: not
// deleted since, nor another one by now who took the ID.
func (s *Service) recipientStillExists(ctx context.Context, e *busv1.RosterEvent) (bool, error) {
	org, app, _ := ident.AppKey(e.GetApp()).Split()
	resp, err := s.deps.Users.GetUser(ctx, &accountv1.GetUserRequest{Org: org, App: app, Username: e.GetTo()})
	if errs.Is(err, errs.ReasonNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return resp.GetUser().GetCreated() <= e.GetTimestamp()+rosterSkew.Milliseconds(), nil
}

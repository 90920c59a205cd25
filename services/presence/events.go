package presence

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

const (
	// deletionConsumer is the service's place in the stream of domain events,
	// kept by the server: a deletion that happens while no instance runs is
	// dealt with later.
	deletionConsumer = "presence-users"
	// deletionTimeout bounds the work for one deleted user.
	deletionTimeout = 20 * time.Second
)

// announce publishes a device's coming or going for other services. The bucket
// is what counts; an event that cannot be published is logged and given up.
func (s *Service) announce(c *conn, st busv1.PresenceEvent_Status, why busv1.PresenceEvent_Reason, eff effect, at int64) {
	d := c.device
	s.publish("presence event", bus.PresenceEventSubject(string(d.App), string(d.ID)), d.User, &busv1.PresenceEvent{
		App: string(d.App), User: string(d.ID), Status: st, Reason: why, Resource: d.Resource, Os: c.os, Version: c.version, Ip: c.ip,
		Gateway: c.gateway, ConnectionId: c.id, UserOnline: eff.online, UserChanged: eff.changed, Timestamp: at,
	})
}

// end has gateways end connections of a user.
func (s *Service) end(user ident.User, what *busv1.Disconnect) {
	s.publish("disconnect", bus.UserSubject(string(user.App), string(user.ID)), user,
		&busv1.Push{What: &busv1.Push_Disconnect{Disconnect: what}})
}

func (s *Service) publish(what, subject string, user ident.User, m proto.Message) {
	data, err := proto.Marshal(m)
	if err == nil {
		err = s.deps.NATS.Publish(subject, data)
	}
	if err != nil {
		s.deps.Logger.Warn(what+" not published", obs.KeyApp, user.App, obs.KeyUser, user.ID, obs.KeyError, err)
	}
}

// deletion reads a user event and returns the user if it tells of a deletion.
func deletion(data []byte) (user ident.User, ok bool) {
	var e busv1.UserEvent
	if proto.Unmarshal(data, &e) != nil || e.GetChange() != busv1.UserEvent_CHANGE_DELETED {
		return ident.User{}, false
	}
	return ident.User{App: ident.AppKey(e.GetApp()), ID: ident.UserID(e.GetUser())}, true
}

// followDeletions deletes what is stored of users who are deleted, until ctx
// ends.
func (s *Service) followDeletions(ctx context.Context) {
	// The stream is the account service's and may not be there yet.
	s.deps.NATS.FollowStream(ctx, bus.EventStream, deletionConsumer, bus.UserEventFilter, func(ctx context.Context, m natsx.StreamMsg) error {
		user, ok := deletion(m.Data())
		if !ok {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, deletionTimeout)
		defer cancel()
		if err := s.forget(ctx, user); err != nil {
			s.deps.Logger.Warn("presence of a deleted user is still stored", obs.KeyApp, user.App, obs.KeyUser, user.ID, obs.KeyError, err)
			return err
		}
		return nil
	})
}

// forget tells a deleted user's subscribers that the user is gone and deletes
// what is stored. The account service has the connections ended; they are
// waited for, so that what is told is true.
func (s *Service) forget(ctx context.Context, user ident.User) error {
	wait, cancel := context.WithTimeout(ctx, s.cfg.DisconnectWait)
	s.index.kick(user, "").wait(wait)
	cancel()
	app, ok := s.appByKey(user.App)
	if !ok {
		return nil // rows are entered for known apps only
	}
	if err := s.notices.tell(ctx, app, user.ID); err != nil {
		return err
	}
	return s.store.forget(ctx, app.Number, user.ID)
}

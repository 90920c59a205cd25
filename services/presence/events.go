package presence

import (
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// announce publishes a device's coming or going for other services. The bucket
// is what counts; an event that cannot be published is logged and given up.
func (s *Service) announce(app string, c *conn, st busv1.PresenceEvent_Status, why busv1.PresenceEvent_Reason, eff effect, at int64) {
	data, err := proto.Marshal(&busv1.PresenceEvent{
		App: app, User: c.user, Status: st, Reason: why, Resource: c.resource, Os: c.os, Version: c.version, Ip: c.ip,
		Gateway: c.gateway, ConnectionId: c.id, UserOnline: eff.online, UserChanged: eff.changed, Timestamp: at,
	})
	if err == nil {
		err = s.deps.NATS.Publish(bus.PresenceEventSubject(app, c.user), data)
	}
	if err != nil {
		s.deps.Logger.Warn("presence event not published", obs.KeyApp, app, obs.KeyUser, c.user, obs.KeyError, err)
	}
}

// endOther asks for the end of the connection that c has replaced.
func (s *Service) endOther(app string, c *conn) {
	s.end(app, c.user, &busv1.Disconnect{
		Reason: busv1.Disconnect_REASON_OTHER_DEVICE, Resource: c.resource, ExceptConnection: c.id,
	})
}

func (s *Service) end(app, user string, what *busv1.Disconnect) {
	data, err := proto.Marshal(&busv1.Push{What: &busv1.Push_Disconnect{Disconnect: what}})
	if err == nil {
		err = s.deps.NATS.Publish(bus.UserSubject(app, user), data)
	}
	if err != nil {
		s.deps.Logger.Warn("disconnect not published", obs.KeyApp, app, obs.KeyUser, user, obs.KeyError, err)
	}
}

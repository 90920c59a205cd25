package session

import (
	"time"

	"google.golang.org/protobuf/proto"

	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// operationOf is what a device is told of why its login ended. There is no word
// for a deactivated account; its next login tells.
func operationOf(r busv1.Disconnect_Reason) msyncv1.StatisticsBody_Operation {
	switch r {
	case busv1.Disconnect_REASON_REMOVED:
		return msyncv1.StatisticsBody_USER_REMOVED
	case busv1.Disconnect_REASON_OTHER_DEVICE:
		return msyncv1.StatisticsBody_USER_LOGIN_ANOTHER_DEVICE
	case busv1.Disconnect_REASON_PASSWORD_CHANGED:
		return msyncv1.StatisticsBody_USER_KICKED_BY_CHANGE_PASSWORD
	case busv1.Disconnect_REASON_KICKED, busv1.Disconnect_REASON_BANNED, busv1.Disconnect_REASON_UNSPECIFIED:
	}
	return msyncv1.StatisticsBody_USER_KICKED_BY_OTHER_DEVICE
}

// disconnect ends the connections of a user that a Disconnect means.
func disconnect(conns []*conn, d *busv1.Disconnect) {
	op := operationOf(d.GetReason())
	for _, c := range conns {
		if d.GetResource() != "" && d.GetResource() != c.resource || d.GetExceptConnection() == c.id {
			continue
		}
		c.kick(op)
	}
}

// kickGrace is what a device that was told why its login ends gets to close its
// side. An official SDK that finds the socket closing while it has something to
// send reconnects and logs in again, kicked or not.
const kickGrace = 500 * time.Millisecond

// kick tells the device why its login ends, has presence forget it, and closes
// a moment later. Until then the device is neither heard nor told anything.
func (c *conn) kick(op msyncv1.StatisticsBody_Operation) {
	c.srv.metrics.kicks.WithLabelValues(op.String()).Inc()
	payload, err := proto.Marshal(&msyncv1.StatisticsBody{Operation: op.Enum()})
	if err == nil {
		now := c.srv.now()
		c.sendDirect(encodeEvent(c.appKey, int32(msyncv1.Meta_STATISTIC), c.srv.eventID(), c.user, c.user, now, payload))
	}
	if c.kicked.Swap(true) {
		return
	}
	c.srv.writers.Go(func() {
		ctx, cancel := c.srv.callContext()
		defer cancel()
		grace := time.NewTimer(kickGrace)
		defer grace.Stop()
		c.handOn()
		c.depart(ctx)
		select {
		case <-grace.C:
		case <-ctx.Done():
		}
		c.shutdown(closeNormal, "login ended")
	})
}

// eventID is an ID for a meta that the gateway makes itself.
func (s *Server) eventID() uint64 { return uint64(s.deps.Now().UnixMicro()) } //nolint:gosec // after 1970

// replacedBy closes a connection whose device has logged in again. The same
// login on a new socket must not be told that it was thrown out: the device
// would stay out. Another login of the same device (a second tab that shares
// the device's name) must be told, or the two would throw each other out for
// ever.
func (c *conn) replacedBy(newer *conn) {
	if c.sessionID != "" && c.sessionID == newer.sessionID && c.deviceUUID == newer.deviceUUID {
		c.srv.metrics.kicks.WithLabelValues("replaced").Inc()
		c.shutdown(closeNormal, "replaced by a newer connection")
		return
	}
	c.kick(msyncv1.StatisticsBody_USER_LOGIN_ANOTHER_DEVICE)
}

package session

import (
	"time"

	"github.com/chappe-im/chappe/pkg/msync"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// disconnect ends the connections of a user that a Disconnect means.
func disconnect(conns []*conn, d *busv1.Disconnect) {
	for _, c := range conns {
		if d.GetResource() != "" && d.GetResource() != c.resource || d.GetExceptConnection() == c.id {
			continue
		}
		c.kick(d.GetReason())
	}
}

// kickGrace is what a device that was told why its login ends gets to close its
// side. An official SDK that finds the socket closing while it has something to
// send reconnects and logs in again, kicked or not.
const kickGrace = 500 * time.Millisecond

// kick tells the device why its login ends, has presence forget it, and closes
// a moment later. Until then the device is neither heard nor told anything.
func (c *conn) kick(why busv1.Disconnect_Reason) {
	c.srv.metrics.kicks.WithLabelValues(msync.LoginEnded(why).String()).Inc()
	if meta, err := msync.LoginEndedMeta(c.user.App, c.user.ID, c.srv.eventID(), c.srv.now(), why); err == nil {
		c.sendDirect(meta)
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
func (s *Server) eventID() int64 { return s.deps.Now().UnixMicro() }

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
	c.kick(busv1.Disconnect_REASON_OTHER_DEVICE)
}

package session

import (
	"context"

	"github.com/chappe-im/chappe/pkg/obs"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// announce enters the connection with presence and returns the gateway that
// held the device's connection which this one replaced, if it did.
func (c *conn) announce(ctx context.Context) (replaced string, err error) {
	resp, err := c.srv.presence.Connect(ctx, &presencev1.ConnectRequest{Org: c.org, App: c.app, Connection: &presencev1.Connection{
		Id: c.id, Gateway: c.srv.cfg.GatewayID, User: string(c.user.ID), Resource: c.resource, Os: c.os,
		Version: c.version, Ip: c.ip, Since: c.opened,
	}})
	return resp.GetReplacedGateway(), err
}

// Announce enters all connections with presence again, which may have taken
// them for gone while this gateway was not registered. It returns when all are
// told or the server stops.
func (s *Server) Announce() {
	s.mu.Lock()
	all := append([]*conn(nil), s.conns...)
	s.mu.Unlock()
	told, failed := 0, 0
	for _, c := range all {
		if s.ctx.Err() != nil {
			return
		}
		if !c.loggedIn.Load() || c.kicked.Load() {
			continue
		}
		ctx, cancel := s.callContext()
		_, err := c.announce(ctx)
		cancel()
		if err != nil {
			failed++
			s.logger.Debug("presence was not told of a connection", obs.KeyApp, c.user.App, obs.KeyUser, c.user.ID, obs.KeyError, err)
			continue
		}
		told++
	}
	s.logger.Warn("presence was told of all connections again", "connections", told, "failed", failed)
}

package run

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/chappe-im/chappe/pkg/members"
	"github.com/chappe-im/chappe/pkg/revocation"
	"github.com/chappe-im/chappe/services/gateway"
	"github.com/chappe-im/chappe/services/gateway/auth"
	"github.com/chappe-im/chappe/services/gateway/rest"
	"github.com/chappe-im/chappe/services/gateway/session"
)

// gatewayParts are what makes up a gateway: its name in the cluster, the client
// connections, and the front.
type gatewayParts struct {
	registration *members.Registration
	sessions     *session.Server
	front        *gateway.Gateway

	stopping   chan struct{}
	announcing sync.WaitGroup
}

// announce tells presence of all connections again whenever the gateway had to
// register anew, until the gateway stops.
func (p *gatewayParts) announce() {
	for {
		select {
		case <-p.registration.Renewed():
			p.sessions.Announce()
		case <-p.stopping:
			return
		}
	}
}

func (s *Server) startGateway(ctx context.Context) (stopper, error) {
	conn, err := s.connectNATS(ctx, "gateway")
	if err != nil {
		return nil, err
	}
	revoked, err := revocation.Watch(ctx, conn, s.cfg.LogReplicas, s.logger)
	if err != nil {
		return nil, err
	}
	s.onStop("revocations", revoked.Stop)
	var conns gateway.Conns
	if conns.Account, err = s.Conn(TargetAccount); err != nil {
		return nil, err
	}
	if conns.Messaging, err = s.Conn(TargetMessaging); err != nil {
		return nil, err
	}
	if conns.Presence, err = s.Conn(TargetPresence); err != nil {
		return nil, err
	}
	if conns.Limiter, err = s.Conn(TargetLimiter); err != nil {
		return nil, err
	}

	id := uuid.NewString()
	addresses := rest.NewAddresses(s.trustedProxies())
	sessions, err := session.New(session.Config{GatewayID: id, ClientIP: addresses.ClientIP, PageMemory: s.cfg.PageMemory}, session.Deps{
		Auth: auth.NewVerifier(s.catalog, revoked, time.Now), Presence: conns.Presence, Messaging: conns.Messaging,
		Limiter: conns.Limiter, NATS: conn, Logger: s.logger, Metrics: s.registry, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	every := 0
	if s.cfg.AccessLog {
		every = 1
	}
	front, err := gateway.New(ctx, gateway.Config{
		Listen: s.cfg.HTTP, MaxBodyBytes: s.cfg.BodyLimit, TrustedProxies: s.trustedProxies(), AccessLogEvery: every, OpenAPI: s.cfg.OpenAPI,
	}, gateway.Deps{
		Conns: conns, Apps: s.catalog, Revocations: revoked, WebSocket: sessions,
		Logger: s.logger, Registerer: s.registry, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	registration, err := members.Register(ctx, s.etcd, s.logger, members.Gateways, members.Member{ID: id})
	if err != nil {
		return nil, err
	}
	parts := &gatewayParts{registration: registration, sessions: sessions, front: front, stopping: make(chan struct{})}
	parts.announcing.Go(parts.announce)
	if err := sessions.Start(ctx); err != nil {
		return nil, errors.Join(err, parts.Stop(ctx))
	}
	if err := front.Start(ctx); err != nil {
		return nil, errors.Join(err, parts.Stop(ctx))
	}
	s.front = front
	return parts, nil
}

// Stop takes no new calls or connections, ends those there are, and only then
// gives up the name under which the connections are known.
func (p *gatewayParts) Stop(ctx context.Context) error {
	err := errors.Join(p.front.Stop(ctx), p.sessions.Stop(ctx))
	close(p.stopping)
	p.announcing.Wait()
	return errors.Join(err, p.registration.Stop())
}

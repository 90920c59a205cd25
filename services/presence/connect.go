package presence

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/gatewayreg"
	"github.com/chappe-im/chappe/pkg/names"
	"github.com/chappe-im/chappe/pkg/tier"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// maxResourceBytes bounds device names, maxFieldBytes the other texts of a
// connection, all of which are held in memory.
const (
	maxResourceBytes = 256
	maxFieldBytes    = 128
)

// connect enters a connection.
func (s *Service) connect(ctx context.Context, org, app string, in *presencev1.Connection) error {
	if in == nil {
		return errs.Invalid(errs.MessageInvalidRequest)
	}
	in = proto.CloneOf(in)
	in.User = names.FoldUser(in.GetUser())
	if err := checkConnection(in); err != nil {
		return err
	}
	a, ok := s.deps.Apps.App(org, app)
	if !ok {
		return errs.AppNotFound(org, app)
	}
	if err := s.checkGateway(ctx, in.GetGateway()); err != nil {
		return err
	}
	if now := s.deps.Now().UnixMilli(); in.GetSince() <= 0 || in.GetSince() > now {
		in.Since = now
	}
	key := names.AppKey(org, app)
	c, replaced, eff, err := s.admitted(ctx, key, in, onlineUsersQuota(a))
	if err != nil {
		return err
	}
	if replaced != nil && replaced.id == c.id {
		return nil
	}
	at := s.deps.Now().UnixMilli()
	if replaced != nil {
		s.endOther(key, c)
		s.announce(key, replaced, busv1.PresenceEvent_STATUS_OFFLINE, busv1.PresenceEvent_REASON_REPLACED, effect{online: true}, at)
	}
	s.announce(key, c, busv1.PresenceEvent_STATUS_ONLINE, busv1.PresenceEvent_REASON_LOGIN, eff, at)
	s.records.login(key, c, at)
	return nil
}

func checkConnection(c *presencev1.Connection) error {
	if !names.ValidUser(c.GetUser()) || c.GetId() == "" || c.GetGateway() == "" || c.GetResource() == "" || len(c.GetResource()) > maxResourceBytes {
		return errs.Invalid(errs.MessageInvalidRequest)
	}
	for _, v := range []string{c.GetId(), c.GetGateway(), c.GetOs(), c.GetVersion(), c.GetIp()} {
		if len(v) > maxFieldBytes {
			return errs.Invalid(errs.MessageInvalidRequest)
		}
	}
	return nil
}

// checkGateway refuses connections of a gateway that is not registered, since
// nobody would notice its end.
func (s *Service) checkGateway(ctx context.Context, id string) error {
	if s.live.Load().Has(id) || s.reaper.spares(id) {
		return nil
	}
	// The watch may be a moment behind a gateway that has just started.
	ok, err := gatewayreg.Registered(ctx, s.deps.Etcd, id)
	if err != nil {
		return err
	}
	if !ok {
		return errs.Unavailable("registration of gateway "+id, errors.New("not registered"))
	}
	return nil
}

// admitted enters a connection if the app's quota of users online allows it.
// On one instance the quota is exact, because logins of an app with a quota
// come one after the other. With several instances it
// is never passed either: each of them waits until it has seen all that came
// before its own entry, and takes the entry back if it was one too many. Two
// that do so at the same moment for the last place may both be refused.
func (s *Service) admitted(ctx context.Context, app string, in *presencev1.Connection, quota int64) (*conn, *conn, effect, error) {
	if quota == unlimited {
		return s.enter(ctx, app, in)
	}
	lock := s.admission(app)
	lock.Lock()
	defer lock.Unlock()
	if !s.index.online(app, in.GetUser()) && s.index.usersOnline(app) >= quota {
		s.metrics.refused.Inc()
		return nil, nil, effect{}, errs.QuotaExceeded(tier.QuotaOnlineUsers)
	}
	c, replaced, eff, err := s.enter(ctx, app, in)
	if err != nil {
		return nil, nil, effect{}, err
	}
	if !eff.changed {
		return c, replaced, eff, nil
	}
	if err := s.index.reached(ctx, c.revision); err != nil {
		return nil, nil, effect{}, errors.Join(errs.From(err), s.takeBack(ctx, app, c))
	}
	if s.index.withinQuota(app, c.user, quota) {
		return c, replaced, eff, nil
	}
	if err := s.takeBack(ctx, app, c); err != nil {
		return nil, nil, effect{}, err
	}
	s.metrics.refused.Inc()
	return nil, nil, effect{}, errs.QuotaExceeded(tier.QuotaOnlineUsers)
}

// takeBack removes an entry of a login that is refused after all.
func (s *Service) takeBack(ctx context.Context, app string, c *conn) error {
	_, _, err := s.leave(context.WithoutCancel(ctx), app, c.user, c.resource, c.id)
	return err
}

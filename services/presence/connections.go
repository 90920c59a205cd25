package presence

import (
	"context"
	"errors"
	"sync"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/members"
	"github.com/chappe-im/chappe/pkg/tier"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
	quotav1 "github.com/chappe-im/chappe/proto/gen/chappe/quota/v1"
)

// maxFieldBytes bounds the texts of a connection besides the device's name, all
// of which are held in memory.
const maxFieldBytes = 128

// Connect enters a connection. Of two connections of one device the later one
// stays.
func (s *Service) Connect(ctx context.Context, req *presencev1.ConnectRequest) (*presencev1.ConnectResponse, error) {
	if req.GetConnection() == nil {
		return nil, invalid()
	}
	in := proto.CloneOf(req.GetConnection())
	user := ident.User{App: ident.NewAppKey(req.GetOrg(), req.GetApp()), ID: ident.FoldUser(in.GetUser())}
	in.User = string(user.ID)
	if err := checkConnection(in); err != nil {
		return nil, err
	}
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	if err := s.checkGateway(ctx, in.GetGateway()); err != nil {
		return nil, err
	}
	if now := s.deps.Now().UnixMilli(); in.GetSince() <= 0 || in.GetSince() > now {
		in.Since = now
	}
	c, replaced, eff, err := s.admitted(ctx, user.Device(in.GetResource()), in, app.Tier.Quota(tier.QuotaOnlineUsers))
	if err != nil {
		return nil, err
	}
	if replaced != nil && replaced.id == c.id {
		return &presencev1.ConnectResponse{}, nil
	}
	at := s.deps.Now().UnixMilli()
	if replaced != nil {
		s.end(user, &busv1.Disconnect{
			Reason: busv1.Disconnect_REASON_OTHER_DEVICE, Resource: c.device.Resource, ExceptConnection: c.id,
		})
		s.announce(replaced, busv1.PresenceEvent_STATUS_OFFLINE, busv1.PresenceEvent_REASON_REPLACED, effect{online: true}, at)
	}
	s.announce(c, busv1.PresenceEvent_STATUS_ONLINE, busv1.PresenceEvent_REASON_LOGIN, eff, at)
	s.records.login(c, at)
	resp := &presencev1.ConnectResponse{}
	if replaced != nil {
		resp.ReplacedGateway = replaced.gateway
	}
	return resp, nil
}

func checkConnection(c *presencev1.Connection) error {
	if !ident.ValidUser(c.GetUser()) || c.GetId() == "" || c.GetGateway() == "" || !ident.ValidResource(c.GetResource()) {
		return invalid()
	}
	for _, v := range []string{c.GetId(), c.GetGateway(), c.GetOs(), c.GetVersion(), c.GetIp()} {
		if len(v) > maxFieldBytes {
			return invalid()
		}
	}
	return nil
}

// checkGateway refuses connections of a gateway that is not registered: its end
// would go unnoticed.
func (s *Service) checkGateway(ctx context.Context, id string) error {
	if s.live.Load().Has(id) || s.reaper.inGrace(id) {
		return nil
	}
	// The watch may be a moment behind a gateway that has just started.
	ok, err := members.Registered(ctx, s.deps.Etcd, members.Gateways, id)
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
// come one after the other. With several instances it is never passed either:
// each of them waits until it has seen all that came before its own entry, and
// takes the entry back if it was one too many. Two that do so at the same
// moment for the last place may both be refused.
func (s *Service) admitted(ctx context.Context, device ident.Device, in *presencev1.Connection, quota int64) (c, replaced *conn, eff effect, err error) {
	if quota == tier.Unlimited {
		return s.enter(ctx, device, in)
	}
	lock := s.admission(device.App)
	lock.Lock()
	defer lock.Unlock()
	if !s.index.online(device.User) && s.index.usersOnline(device.App) >= quota {
		s.metrics.refused.Inc()
		return nil, nil, effect{}, errs.QuotaExceeded(tier.QuotaOnlineUsers)
	}
	if c, replaced, eff, err = s.enter(ctx, device, in); err != nil {
		return nil, nil, effect{}, err
	}
	if !eff.changed {
		return c, replaced, eff, nil
	}
	if err := s.index.reached(ctx, c.revision); err != nil {
		return nil, nil, effect{}, errors.Join(errs.From(err), s.takeBack(ctx, c))
	}
	if s.index.withinQuota(device.User, quota) {
		return c, replaced, eff, nil
	}
	if err := s.takeBack(ctx, c); err != nil {
		return nil, nil, effect{}, err
	}
	s.metrics.refused.Inc()
	return nil, nil, effect{}, errs.QuotaExceeded(tier.QuotaOnlineUsers)
}

// admission returns the lock under which logins of an app with a quota are
// admitted.
func (s *Service) admission(app ident.AppKey) *sync.Mutex {
	return &s.admit[xxhash.Sum64String(string(app))%uint64(len(s.admit))]
}

// takeBack removes an entry of a login that is refused after all.
func (s *Service) takeBack(ctx context.Context, c *conn) error {
	_, _, err := s.leave(context.WithoutCancel(ctx), c.device, c.id)
	return err
}

// Disconnect removes a connection; one that is gone or was replaced is left as
// it is.
func (s *Service) Disconnect(ctx context.Context, req *presencev1.DisconnectRequest) (*presencev1.DisconnectResponse, error) {
	user := ident.User{App: ident.NewAppKey(req.GetOrg(), req.GetApp()), ID: ident.FoldUser(req.GetUser())}
	if !user.ID.Valid() || req.GetResource() == "" || req.GetConnectionId() == "" {
		return nil, invalid()
	}
	c, eff, err := s.leave(ctx, user.Device(req.GetResource()), req.GetConnectionId())
	if err != nil {
		return nil, err
	}
	if c == nil {
		return &presencev1.DisconnectResponse{}, nil
	}
	reason := busv1.PresenceEvent_REASON_LOGOUT
	if req.GetKicked() || s.index.isKicked(c) {
		reason = busv1.PresenceEvent_REASON_REPLACED
	}
	at := s.deps.Now().UnixMilli()
	s.announce(c, busv1.PresenceEvent_STATUS_OFFLINE, reason, eff, at)
	s.records.logout(c, at)
	return &presencev1.DisconnectResponse{}, nil
}

// ListConnections returns a user's connections.
func (s *Service) ListConnections(ctx context.Context, req *presencev1.ListConnectionsRequest) (*presencev1.ListConnectionsResponse, error) {
	user, err := s.knownUser(ctx, req.GetOrg(), req.GetApp(), req.GetUsername())
	if err != nil {
		return nil, err
	}
	resp := &presencev1.ListConnectionsResponse{}
	for _, c := range s.index.conns(user) {
		resp.Connections = append(resp.Connections, c.proto())
	}
	return resp, nil
}

// GetQuotaUsage returns how much of its quotas an app uses.
func (s *Service) GetQuotaUsage(_ context.Context, req *quotav1.GetQuotaUsageRequest) (*quotav1.GetQuotaUsageResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	return &quotav1.GetQuotaUsageResponse{Used: map[string]int64{tier.QuotaOnlineUsers: s.index.usersOnline(app.AppKey())}}, nil
}

package presence

import (
	"context"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// maxUsersPerCall bounds the users one call may name (wire contract).
const maxUsersPerCall = 100

// GetOnlineStatus reports whether a user has a connection.
func (s *Service) GetOnlineStatus(ctx context.Context, req *presencev1.GetOnlineStatusRequest) (*presencev1.GetOnlineStatusResponse, error) {
	user, err := s.knownUser(ctx, req.GetOrg(), req.GetApp(), req.GetUsername())
	if err != nil {
		return nil, err
	}
	return &presencev1.GetOnlineStatusResponse{Online: s.index.online(user)}, nil
}

// BatchGetOnlineStatus reports which users have a connection. They need not
// exist.
func (s *Service) BatchGetOnlineStatus(_ context.Context, req *presencev1.BatchGetOnlineStatusRequest) (*presencev1.BatchGetOnlineStatusResponse, error) {
	switch n := len(req.GetUsernames()); {
	case n == 0:
		return nil, invalid()
	case n > maxUsersPerCall:
		return nil, errs.Invalidf("request body exceeds maximum limit, maximum limit is %d", maxUsersPerCall)
	}
	app := ident.NewAppKey(req.GetOrg(), req.GetApp())
	resp := &presencev1.BatchGetOnlineStatusResponse{Online: make([]bool, len(req.GetUsernames()))}
	for i, id := range ident.FoldUsers(req.GetUsernames()) {
		resp.Online[i] = s.index.online(ident.User{App: app, ID: id})
	}
	return resp, nil
}

// DisconnectUser puts a user, or one of the user's devices, offline. It waits
// until the connections that were there are gone, but not long: a gateway that
// does not act is either slow, and will, or dead, and its connections are
// dropped in time.
func (s *Service) DisconnectUser(ctx context.Context, req *presencev1.DisconnectUserRequest) (*presencev1.DisconnectUserResponse, error) {
	user, err := s.knownUser(ctx, req.GetOrg(), req.GetApp(), req.GetUsername())
	if err != nil {
		return nil, err
	}
	leaving := s.index.kick(user, req.GetResource())
	// Also when this instance knows of no connection: it may be a moment behind
	// the one that took it.
	s.end(user, &busv1.Disconnect{Reason: busv1.Disconnect_REASON_KICKED, Resource: req.GetResource()})
	wait, cancel := context.WithTimeout(ctx, s.cfg.DisconnectWait)
	defer cancel()
	if !leaving.wait(wait) {
		s.deps.Logger.Warn("a gateway did not end a connection in time; it is shown as online until it does",
			obs.KeyApp, user.App, obs.KeyUser, user.ID, "waited_ms", s.cfg.DisconnectWait.Milliseconds())
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &presencev1.DisconnectUserResponse{}, nil
}

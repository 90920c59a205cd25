package presence

import (
	"context"

	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// Connect implements presencev1.ConnectionServiceServer.
func (s *Service) Connect(ctx context.Context, r *presencev1.ConnectRequest) (*presencev1.ConnectResponse, error) {
	if err := s.connect(ctx, r.GetOrg(), r.GetApp(), r.GetConnection()); err != nil {
		return nil, err
	}
	return &presencev1.ConnectResponse{}, nil
}

// Disconnect implements presencev1.ConnectionServiceServer.
func (s *Service) Disconnect(ctx context.Context, r *presencev1.DisconnectRequest) (*presencev1.DisconnectResponse, error) {
	if err := s.disconnect(ctx, r.GetOrg(), r.GetApp(), r.GetUser(), r.GetResource(), r.GetConnectionId(), r.GetKicked()); err != nil {
		return nil, err
	}
	return &presencev1.DisconnectResponse{}, nil
}

// ListConnections implements presencev1.ConnectionServiceServer.
func (s *Service) ListConnections(ctx context.Context, r *presencev1.ListConnectionsRequest) (*presencev1.ListConnectionsResponse, error) {
	list, err := s.connections(ctx, r.GetOrg(), r.GetApp(), r.GetUsername())
	if err != nil {
		return nil, err
	}
	return &presencev1.ListConnectionsResponse{Connections: list}, nil
}

// GetOnlineStatus implements presencev1.PresenceServiceServer.
func (s *Service) GetOnlineStatus(ctx context.Context, r *presencev1.GetOnlineStatusRequest) (*presencev1.GetOnlineStatusResponse, error) {
	online, err := s.onlineStatus(ctx, r.GetOrg(), r.GetApp(), r.GetUsername())
	if err != nil {
		return nil, err
	}
	return &presencev1.GetOnlineStatusResponse{Online: online}, nil
}

// BatchGetOnlineStatus implements presencev1.PresenceServiceServer.
func (s *Service) BatchGetOnlineStatus(_ context.Context, r *presencev1.BatchGetOnlineStatusRequest) (*presencev1.BatchGetOnlineStatusResponse, error) {
	online, err := s.onlineStatuses(r.GetOrg(), r.GetApp(), r.GetUsernames())
	if err != nil {
		return nil, err
	}
	return &presencev1.BatchGetOnlineStatusResponse{Online: online}, nil
}

// SetPresence implements presencev1.PresenceServiceServer.
func (s *Service) SetPresence(ctx context.Context, r *presencev1.SetPresenceRequest) (*presencev1.SetPresenceResponse, error) {
	if err := s.setPresence(ctx, r.GetOrg(), r.GetApp(), r.GetUsername(), r.GetResource(), r.GetStatus(), r.GetExt()); err != nil {
		return nil, err
	}
	return &presencev1.SetPresenceResponse{}, nil
}

// SubscribePresence implements presencev1.PresenceServiceServer.
func (s *Service) SubscribePresence(ctx context.Context, r *presencev1.SubscribePresenceRequest) (*presencev1.SubscribePresenceResponse, error) {
	result, err := s.subscribe(ctx, r.GetOrg(), r.GetApp(), r.GetUsername(), r.GetExpiry(), r.GetUsernames())
	if err != nil {
		return nil, err
	}
	return &presencev1.SubscribePresenceResponse{Result: result}, nil
}

// GetPresence implements presencev1.PresenceServiceServer.
func (s *Service) GetPresence(ctx context.Context, r *presencev1.GetPresenceRequest) (*presencev1.GetPresenceResponse, error) {
	result, err := s.getPresence(ctx, r.GetOrg(), r.GetApp(), r.GetUsername(), r.GetUsernames())
	if err != nil {
		return nil, err
	}
	return &presencev1.GetPresenceResponse{Result: result}, nil
}

// UnsubscribePresence implements presencev1.PresenceServiceServer.
func (s *Service) UnsubscribePresence(ctx context.Context, r *presencev1.UnsubscribePresenceRequest) (*presencev1.UnsubscribePresenceResponse, error) {
	if err := s.unsubscribe(ctx, r.GetOrg(), r.GetApp(), r.GetUsername(), r.GetUsernames()); err != nil {
		return nil, err
	}
	return &presencev1.UnsubscribePresenceResponse{}, nil
}

// ListPresenceSubscriptions implements presencev1.PresenceServiceServer.
func (s *Service) ListPresenceSubscriptions(ctx context.Context, r *presencev1.ListPresenceSubscriptionsRequest) (*presencev1.ListPresenceSubscriptionsResponse, error) {
	return s.listSubscriptions(ctx, r.GetOrg(), r.GetApp(), r.GetUsername(), r.PageNum, r.PageSize)
}

// DisconnectUser implements presencev1.PresenceServiceServer.
func (s *Service) DisconnectUser(ctx context.Context, r *presencev1.DisconnectUserRequest) (*presencev1.DisconnectUserResponse, error) {
	if err := s.disconnectUser(ctx, r.GetOrg(), r.GetApp(), r.GetUsername(), r.GetResource()); err != nil {
		return nil, err
	}
	return &presencev1.DisconnectUserResponse{}, nil
}

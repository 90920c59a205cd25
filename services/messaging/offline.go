package messaging

import (
	"context"
	"strconv"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// GetOfflineMessageCount implements messagingv1.MessagingServiceServer. It
// counts what a user has not been given yet; 0 while the user is online.
func (s *Service) GetOfflineMessageCount(ctx context.Context, req *messagingv1.GetOfflineMessageCountRequest) (*messagingv1.GetOfflineMessageCountResponse, error) {
	app, online, err := s.appAndOnline(ctx, req.GetOrg(), req.GetApp(), req.GetUsername())
	if err != nil {
		return nil, err
	}
	if online {
		return &messagingv1.GetOfflineMessageCountResponse{}, nil
	}
	if err := s.barrier.Wait(ctx); err != nil {
		return nil, err
	}
	n, err := s.devices.OfflineCount(ctx, app.Number, ident.FoldUser(req.GetUsername()))
	if err != nil {
		return nil, err
	}
	return &messagingv1.GetOfflineMessageCountResponse{Count: n}, nil
}

// GetOfflineMessageStatus implements messagingv1.MessagingServiceServer. A
// message is delivered when it is not among what GetOfflineMessageCount counts.
func (s *Service) GetOfflineMessageStatus(ctx context.Context, req *messagingv1.GetOfflineMessageStatusRequest) (*messagingv1.GetOfflineMessageStatusResponse, error) {
	id, err := strconv.ParseInt(req.GetMessageId(), 10, 64)
	if err != nil || id < 0 {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	app, online, err := s.appAndOnline(ctx, req.GetOrg(), req.GetApp(), req.GetUsername())
	if err != nil {
		return nil, err
	}
	if online {
		return &messagingv1.GetOfflineMessageStatusResponse{Delivered: true}, nil
	}
	if err := s.barrier.Wait(ctx); err != nil {
		return nil, err
	}
	undelivered, err := s.devices.IsUndelivered(ctx, app.Number, ident.FoldUser(req.GetUsername()), id)
	if err != nil {
		return nil, err
	}
	return &messagingv1.GetOfflineMessageStatusResponse{Delivered: !undelivered}, nil
}

// appAndOnline returns an app and reports whether one of its users is online.
// Unknown users are an error, which is presence's to give.
func (s *Service) appAndOnline(ctx context.Context, org, name, user string) (*catalog.App, bool, error) {
	app, ok := s.deps.Apps.App(org, name)
	if !ok {
		return nil, false, errs.AppNotFound(org, name)
	}
	status, err := s.deps.Presence.GetOnlineStatus(ctx, &presencev1.GetOnlineStatusRequest{Org: org, App: name, Username: user})
	if err != nil {
		return nil, false, err
	}
	return app, status.GetOnline(), nil
}

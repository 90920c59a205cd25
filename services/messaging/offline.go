package messaging

import (
	"context"
	"strconv"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

// GetOfflineMessageCount implements messagingv1.MessagingServiceServer. It
// counts the messages that no device of a user has confirmed.
func (s *Service) GetOfflineMessageCount(ctx context.Context, req *messagingv1.GetOfflineMessageCountRequest) (*messagingv1.GetOfflineMessageCountResponse, error) {
	app, user, err := s.appAndUser(ctx, req.GetOrg(), req.GetApp(), req.GetUsername())
	if err != nil {
		return nil, err
	}
	if err := s.barrier.Wait(ctx); err != nil {
		return nil, err
	}
	n, err := s.devices.OfflineCount(ctx, app.Number, user)
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
	app, user, err := s.appAndUser(ctx, req.GetOrg(), req.GetApp(), req.GetUsername())
	if err != nil {
		return nil, err
	}
	if err := s.barrier.Wait(ctx); err != nil {
		return nil, err
	}
	undelivered, err := s.devices.IsUndelivered(ctx, app.Number, user, id)
	if err != nil {
		return nil, err
	}
	return &messagingv1.GetOfflineMessageStatusResponse{Delivered: !undelivered}, nil
}

// appAndUser returns an app and the ID of one of its users, who may be named by
// UUID. The error of an unknown user is account's.
func (s *Service) appAndUser(ctx context.Context, org, name, user string) (*catalog.App, ident.UserID, error) {
	app, ok := s.deps.Apps.App(org, name)
	if !ok {
		return nil, "", errs.AppNotFound(org, name)
	}
	resp, err := s.deps.Users.GetUser(ctx, &accountv1.GetUserRequest{Org: org, App: name, Username: user})
	if err != nil {
		return nil, "", err
	}
	return app, ident.UserID(resp.GetUser().GetUsername()), nil
}

package messaging

import (
	"context"
	"strconv"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

// offlineCount counts the messages that no device of a user has confirmed.
func (s *Service) offlineCount(ctx context.Context, org, name, user string) (int64, error) {
	app, id, err := s.resolve(ctx, org, name, user)
	if err != nil {
		return 0, err
	}
	if err := s.settling.settle(ctx); err != nil {
		return 0, err
	}
	return s.devices.offlineCount(ctx, app.Number, id)
}

// offlineHolds reports whether a message is among what offlineCount counts.
func (s *Service) offlineHolds(ctx context.Context, org, name, user, message string) (bool, error) {
	number, err := strconv.ParseInt(message, 10, 64)
	if err != nil || number < 0 {
		return false, errs.Invalid(errs.MessageInvalidRequest)
	}
	app, id, err := s.resolve(ctx, org, name, user)
	if err != nil {
		return false, err
	}
	if err := s.settling.settle(ctx); err != nil {
		return false, err
	}
	return s.devices.offlineHolds(ctx, app.Number, id, number)
}

// resolve finds an app and the ID of one of its users, who may be named by
// UUID. The error of an unknown user is account's.
func (s *Service) resolve(ctx context.Context, org, name, user string) (*catalog.App, string, error) {
	app, ok := s.deps.Apps.App(org, name)
	if !ok {
		return nil, "", errs.AppNotFound(org, name)
	}
	resp, err := s.deps.Users.GetUser(ctx, &accountv1.GetUserRequest{Org: org, App: name, Username: user})
	if err != nil {
		return nil, "", err
	}
	return app, resp.GetUser().GetUsername(), nil
}

package messaging

import (
	"context"
	"strconv"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/names"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// offlineCount counts what a user has not been given yet; 0 while the user is
// online.
func (s *Service) offlineCount(ctx context.Context, org, name, user string) (int64, error) {
	app, online, err := s.whereabouts(ctx, org, name, user)
	if err != nil || online {
		return 0, err
	}
	if err := s.settling.settle(ctx); err != nil {
		return 0, err
	}
	return s.devices.offlineCount(ctx, app.Number, names.FoldUser(user))
}

// offlineHolds reports whether a message is among what offlineCount counts.
func (s *Service) offlineHolds(ctx context.Context, org, name, user, message string) (bool, error) {
	id, err := strconv.ParseInt(message, 10, 64)
	if err != nil || id < 0 {
		return false, errs.Invalid(errs.MessageInvalidRequest)
	}
	app, online, err := s.whereabouts(ctx, org, name, user)
	if err != nil || online {
		return false, err
	}
	if err := s.settling.settle(ctx); err != nil {
		return false, err
	}
	return s.devices.offlineHolds(ctx, app.Number, names.FoldUser(user), id)
}

// whereabouts finds an app and tells whether one of its users is online.
// Unknown users are an error, which is presence's to give.
func (s *Service) whereabouts(ctx context.Context, org, name, user string) (*catalog.App, bool, error) {
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

package presence

import (
	"context"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/names"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// disconnect removes a connection; one that is gone or was replaced is left
// as it is.
func (s *Service) disconnect(ctx context.Context, org, app, user, resource, id string, kicked bool) error {
	user = names.FoldUser(user)
	if !names.ValidUser(user) || resource == "" || id == "" {
		return errs.Invalid(errs.MessageInvalidRequest)
	}
	key := names.AppKey(org, app)
	c, eff, err := s.leave(ctx, key, user, resource, id)
	if err != nil || c == nil {
		return err
	}
	reason := busv1.PresenceEvent_REASON_LOGOUT
	if kicked || s.index.isKicked(c) {
		reason = busv1.PresenceEvent_REASON_REPLACED
	}
	at := s.deps.Now().UnixMilli()
	s.announce(key, c, busv1.PresenceEvent_STATUS_OFFLINE, reason, eff, at)
	s.records.logout(key, c, at)
	return nil
}

package messaging

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

const (
	// deletionConsumer is the service's place in the stream of domain events:
	// a deletion that happens while no instance runs is dealt with later.
	deletionConsumer = "messaging-users"
	// deletionTimeout bounds the work for one deleted user.
	deletionTimeout = 20 * time.Second
)

// onDeletion forgets the devices of a user who is deleted.
func (s *Service) onDeletion(ctx context.Context, m natsx.StreamMsg) error {
	var e busv1.UserEvent
	if proto.Unmarshal(m.Data(), &e) != nil || e.GetChange() != busv1.UserEvent_CHANGE_DELETED {
		return nil
	}
	app, ok := s.deps.Apps.AppByKey(e.GetApp())
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, deletionTimeout)
	defer cancel()
	if err := s.devices.Forget(ctx, app.Number, ident.UserID(e.GetUser()), e.GetTimestamp()); err != nil {
		s.deps.Logger.Warn("devices of a deleted user are still stored", obs.KeyApp, e.GetApp(), obs.KeyUser, e.GetUser(), obs.KeyError, err)
		return err
	}
	return nil
}

package presence

import (
	"context"
	"time"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

const (
	// deletionConsumer is the service's place in the stream of domain events,
	// kept by the server: a deletion that happens while no instance runs is
	// dealt with later.
	deletionConsumer = "presence-users"
	// deletionRetry is the pause before the stream is tried again.
	deletionRetry = time.Second
	// deletionTimeout bounds the work for one deleted user.
	deletionTimeout = 20 * time.Second
)

// followDeletions deletes what is stored of users who are deleted, until ctx
// ends.
func (s *Service) followDeletions(ctx context.Context) {
	for ctx.Err() == nil {
		// The stream is the account service's and may not be there yet.
		c, err := s.deps.NATS.FollowConsumer(ctx, bus.EventStream, deletionConsumer, bus.UserEventFilter)
		if err == nil {
			err = natsx.Follow(ctx, c, func(ctx context.Context, m natsx.StreamMsg) error {
				e := deletion(m.Data())
				if e == nil {
					return nil
				}
				ctx, cancel := context.WithTimeout(ctx, deletionTimeout)
				defer cancel()
				if err := s.forget(ctx, e); err != nil {
					s.deps.Logger.Warn("presence of a deleted user is still stored", obs.KeyApp, e.GetApp(), obs.KeyUser, e.GetUser(), obs.KeyError, err)
					return err
				}
				return nil
			})
		}
		if ctx.Err() != nil {
			return
		}
		s.deps.Logger.Debug("user events cannot be followed yet", obs.KeyError, err)
		select {
		case <-ctx.Done():
		case <-time.After(deletionRetry):
		}
	}
}

// forget tells a deleted user's subscribers that the user is gone and deletes
// what is stored. The account service has the connections ended; they are
// waited for, so that what is told is true.
func (s *Service) forget(ctx context.Context, e *busv1.UserEvent) error {
	wait, cancel := context.WithTimeout(ctx, s.cfg.DisconnectWait)
	s.index.kick(e.GetApp(), e.GetUser(), "").wait(wait)
	cancel()
	if err := s.notices.tell(ctx, e.GetApp(), e.GetUser()); err != nil {
		return err
	}
	return s.store.forget(ctx, e.GetApp(), e.GetUser())
}

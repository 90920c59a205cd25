package presence

import (
	"context"

	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// disconnectUser puts a user, or one of the user's devices, offline. It waits
// until the connections that were there are gone, but not long: a gateway that
// does not act is either slow, and will, or dead, and its connections are
// dropped in time.
func (s *Service) disconnectUser(ctx context.Context, org, app, username, resource string) error {
	key, user, err := s.knownUser(ctx, org, app, username)
	if err != nil {
		return err
	}
	leaving := s.index.kick(key, user, resource)
	// Also when this instance knows of no connection: it may be a moment behind
	// the one that took it.
	s.end(key, user, &busv1.Disconnect{Reason: busv1.Disconnect_REASON_KICKED, Resource: resource})
	wait, cancel := context.WithTimeout(ctx, s.cfg.DisconnectWait)
	defer cancel()
	if !leaving.wait(wait) {
		s.deps.Logger.Warn("a gateway is slow to end a connection", "app", key, "user", user)
	}
	return ctx.Err()
}

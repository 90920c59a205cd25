package presence

import (
	"context"

	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

const msgManyGets = "too many get presences"

// getPresence gives the presence of users, who need not exist.
func (s *Service) getPresence(ctx context.Context, org, app, username string, usernames []string) ([]*presencev1.Presence, error) {
	targets, err := foldTargets(usernames, msgManyGets)
	if err != nil {
		return nil, err
	}
	key, _, err := s.knownUser(ctx, org, app, username)
	if err != nil {
		return nil, err
	}
	return s.presences(ctx, key, targets, 0)
}

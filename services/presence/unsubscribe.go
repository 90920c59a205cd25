package presence

import "context"

const msgManyUnsubs = "too many unsub presences"

// unsubscribe ends subscriptions; those that are none are fine.
func (s *Service) unsubscribe(ctx context.Context, org, app, username string, usernames []string) error {
	targets, err := foldTargets(usernames, msgManyUnsubs)
	if err != nil {
		return err
	}
	key, user, err := s.knownUser(ctx, org, app, username)
	if err != nil {
		return err
	}
	if targets = possible(targets); len(targets) == 0 {
		return nil
	}
	return s.store.unsubscribe(ctx, key, user, targets)
}

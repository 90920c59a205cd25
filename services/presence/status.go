package presence

import (
	"context"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/names"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// maxUsersPerCall bounds the users one call may name (wire contract).
const maxUsersPerCall = 100

// knownUser gives the app key and the stored form of a user's ID, or NotFound.
// Whoever is online exists, and nobody needs to be asked.
func (s *Service) knownUser(ctx context.Context, org, app, username string) (key, user string, err error) {
	key, user = names.AppKey(org, app), names.FoldUser(username)
	if s.index.online(key, user) {
		return key, user, nil
	}
	user, err = s.users.resolve(ctx, org, app, username)
	return key, user, err
}

func (s *Service) onlineStatus(ctx context.Context, org, app, username string) (bool, error) {
	key, user, err := s.knownUser(ctx, org, app, username)
	if err != nil {
		return false, err
	}
	return s.index.online(key, user), nil
}

// onlineStatuses answers for users that need not exist.
func (s *Service) onlineStatuses(org, app string, usernames []string) ([]bool, error) {
	if len(usernames) == 0 || len(usernames) > maxUsersPerCall {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	key := names.AppKey(org, app)
	out := make([]bool, len(usernames))
	for i, u := range usernames {
		out[i] = s.index.online(key, names.FoldUser(u))
	}
	return out, nil
}

func (s *Service) connections(ctx context.Context, org, app, username string) ([]*presencev1.Connection, error) {
	key, user, err := s.knownUser(ctx, org, app, username)
	if err != nil {
		return nil, err
	}
	conns := s.index.conns(key, user)
	out := make([]*presencev1.Connection, len(conns))
	for i, c := range conns {
		out[i] = c.proto()
	}
	return out, nil
}

package presence

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/names"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// Bounds and texts of the wire contract.
const (
	maxExpirySeconds = 2592000
	maxSubscriptions = 3000

	msgSelf     = "you can't sub yourself"
	msgManySubs = "too many sub presence"
)

// subscribe makes changes of users' presence known to a subscriber for a time
// and gives their presence as it is.
func (s *Service) subscribe(ctx context.Context, org, app, username, expiry string, usernames []string) ([]*presencev1.Presence, error) {
	seconds, ok := parseExpiry(expiry)
	if !ok {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	targets, err := foldTargets(usernames, msgManySubs)
	if err != nil {
		return nil, err
	}
	for _, target := range targets {
		if !names.ValidUser(target) {
			return nil, errs.Invalid(errs.MessageInvalidRequest)
		}
	}
	if slices.Contains(targets, names.FoldUser(username)) {
		return nil, errs.Invalid(msgSelf)
	}
	key, user, err := s.knownUser(ctx, org, app, username)
	if err != nil {
		return nil, err
	}
	if slices.Contains(targets, user) { // the path named the user by UUID
		return nil, errs.Invalid(msgSelf)
	}
	now := s.deps.Now().UnixMilli()
	expires := now + seconds*1000
	if err := s.store.subscribe(ctx, key, user, distinct(targets), now, expires); err != nil {
		return nil, err
	}
	return s.presences(ctx, key, targets, expires/1000)
}

func parseExpiry(s string) (int64, bool) {
	if len(s) > len(strconv.Itoa(maxExpirySeconds)) || strings.HasPrefix(s, "+") {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 1 && n <= maxExpirySeconds
}

// foldTargets gives the stored form of the users a call names, or the error for
// too many or none.
func foldTargets(usernames []string, tooMany string) ([]string, error) {
	if len(usernames) == 0 {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	if len(usernames) > maxUsersPerCall {
		return nil, errs.Invalid(tooMany)
	}
	out := make([]string, len(usernames))
	for i, u := range usernames {
		out[i] = names.FoldUser(u)
	}
	return out, nil
}

// possible gives the users of a list who may exist, each once: databases need
// not look for the others, and some texts they do not even take.
func possible(users []string) []string {
	return slices.DeleteFunc(distinct(users), func(u string) bool { return !names.ValidUser(u) })
}

// presences gives the presence of users in the order of the list. Those who
// cannot exist have an empty one.
func (s *Service) presences(ctx context.Context, app string, users []string, expiry int64) ([]*presencev1.Presence, error) {
	views, err := s.views(ctx, app, possible(users))
	if err != nil {
		return nil, err
	}
	out := make([]*presencev1.Presence, len(users))
	for i, u := range users {
		v := views[u]
		out[i] = &presencev1.Presence{Uid: u, LastTime: v.lastTime / 1000, Expiry: expiry, Ext: v.ext, Status: v.status}
	}
	return out, nil
}

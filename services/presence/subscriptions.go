package presence

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/obs"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// Bounds and texts of the wire contract.
const (
	maxExpirySeconds = 2592000
	maxSubscriptions = 3000
	// maxSubscriptionPage bounds a page of a list.
	maxSubscriptionPage = 500

	msgSelf        = "you can't sub yourself"
	msgManySubs    = "too many sub presence"
	msgManyUnsubs  = "too many unsub presences"
	msgNullUsers   = "usernames cannot be null"
	msgManyQueries = "too many queries"
)

// SubscribePresence makes changes of users' presence known to a subscriber for
// a time and returns their presence as it is.
func (s *Service) SubscribePresence(ctx context.Context, req *presencev1.SubscribePresenceRequest) (*presencev1.SubscribePresenceResponse, error) {
	seconds, ok := parseExpiry(req.GetExpiry())
	if !ok {
		return nil, invalid()
	}
	targets, err := foldTargets(req.GetUsernames(), msgNoUsers, msgManySubs)
	if err != nil {
		return nil, err
	}
	for _, target := range targets {
		if !target.Valid() {
			return nil, invalid()
		}
	}
	if slices.Contains(targets, ident.FoldUser(req.GetUsername())) {
		return nil, errs.Invalid(msgSelf)
	}
	user, err := s.knownUser(ctx, req.GetOrg(), req.GetApp(), req.GetUsername())
	if err != nil {
		return nil, err
	}
	if slices.Contains(targets, user.ID) { // the path named the user by UUID
		return nil, errs.Invalid(msgSelf)
	}
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	now := s.deps.Now().UnixMilli()
	expires := now + seconds*1000
	if err := s.store.subscribe(ctx, app.Number, user.ID, distinct(targets), now, expires); err != nil {
		return nil, err
	}
	result, err := s.presences(ctx, app, targets, expires/1000)
	if err != nil {
		return nil, err
	}
	return &presencev1.SubscribePresenceResponse{Result: result}, nil
}

func parseExpiry(s string) (int64, bool) {
	if len(s) > len(strconv.Itoa(maxExpirySeconds)) || strings.HasPrefix(s, "+") {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 1 && n <= maxExpirySeconds
}

// UnsubscribePresence ends subscriptions. It is no error if there are none.
func (s *Service) UnsubscribePresence(ctx context.Context, req *presencev1.UnsubscribePresenceRequest) (*presencev1.UnsubscribePresenceResponse, error) {
	targets, err := foldTargets(req.GetUsernames(), msgNullUsers, msgManyUnsubs)
	if err != nil {
		return nil, err
	}
	user, err := s.knownUser(ctx, req.GetOrg(), req.GetApp(), req.GetUsername())
	if err != nil {
		return nil, err
	}
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	if targets = possible(targets); len(targets) > 0 {
		if err := s.store.unsubscribe(ctx, app.Number, user.ID, targets); err != nil {
			return nil, err
		}
	}
	return &presencev1.UnsubscribePresenceResponse{}, nil
}

// ListPresenceSubscriptions returns a page of what a user is subscribed to, by
// name, and the number of all. Users who do not exist have none.
func (s *Service) ListPresenceSubscriptions(ctx context.Context, req *presencev1.ListPresenceSubscriptionsRequest) (*presencev1.ListPresenceSubscriptionsResponse, error) {
	page, size := int64(1), int64(1)
	if req.PageNum != nil {
		page = int64(req.GetPageNum())
	}
	if req.PageSize != nil {
		size = int64(req.GetPageSize())
	}
	if page < 1 || size < 1 {
		return nil, invalid()
	}
	if size > maxSubscriptionPage {
		return nil, errs.Invalid(msgManyQueries)
	}
	resp := &presencev1.ListPresenceSubscriptionsResponse{}
	user, err := s.knownUser(ctx, req.GetOrg(), req.GetApp(), req.GetUsername())
	if errs.Is(err, errs.ReasonNotFound) {
		// Rows may be left of one who was deleted a moment ago.
		return resp, nil
	}
	if err != nil {
		return nil, err
	}
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	total, subs, err := s.store.subscriptions(ctx, app.Number, user.ID, s.deps.Now().UnixMilli(), size, (page-1)*size)
	if err != nil {
		return nil, err
	}
	resp.Total = total
	for _, sub := range subs {
		resp.Subscriptions = append(resp.Subscriptions, &presencev1.PresenceSubscription{Uid: string(sub.user), Expiry: sub.expires / 1000})
	}
	return resp, nil
}

// cleanBatch is how many rows one transaction of the cleaner deletes, so that
// it never keeps other writers waiting for long.
const cleanBatch = 500

// clean frees the space of subscriptions that have ended, until ctx ends.
func (s *Service) clean(ctx context.Context) {
	tick := time.NewTicker(s.cfg.CleanEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for ctx.Err() == nil {
			n, err := s.store.clean(ctx, s.deps.Now().UnixMilli(), cleanBatch)
			if err != nil && ctx.Err() == nil {
				s.deps.Logger.Warn("subscriptions that have ended are not deleted yet", obs.KeyError, err)
			}
			if err != nil || n < cleanBatch {
				break
			}
		}
	}
}

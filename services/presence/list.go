package presence

import (
	"context"

	"github.com/chappe-im/chappe/pkg/errs"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

const (
	// maxSubscriptionPage bounds a page (wire contract).
	maxSubscriptionPage = 500

	msgManyQueries = "too many queries"
)

// listSubscriptions gives a page of what a user is subscribed to, by name, and
// the number of all. Users who do not exist have none.
func (s *Service) listSubscriptions(ctx context.Context, org, app, username string, pageNum, pageSize *int32) (*presencev1.ListPresenceSubscriptionsResponse, error) {
	page, size := int32(1), int32(1)
	if pageNum != nil {
		page = *pageNum
	}
	if pageSize != nil {
		size = *pageSize
	}
	if page < 1 || size < 1 {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	if size > maxSubscriptionPage {
		return nil, errs.Invalid(msgManyQueries)
	}
	key, user, err := s.knownUser(ctx, org, app, username)
	if errs.Is(err, errs.ReasonNotFound) {
		// Rows may be left of one who was deleted a moment ago.
		return &presencev1.ListPresenceSubscriptionsResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	offset := int64(page-1) * int64(size)
	total, subs, err := s.store.subscriptions(ctx, key, user, s.deps.Now().UnixMilli(), int64(size), offset)
	if err != nil {
		return nil, err
	}
	resp := &presencev1.ListPresenceSubscriptionsResponse{Total: total}
	for _, sub := range subs {
		resp.Subscriptions = append(resp.Subscriptions, &presencev1.PresenceSubscription{Uid: sub.user, Expiry: sub.expires / 1000})
	}
	return resp, nil
}

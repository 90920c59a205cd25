package messaging

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/names"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/usercache"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

const (
	recipientCacheSize = 200_000
	recipientMaxAge    = 30 * time.Second
)

// recipient is what sending needs to know of a user.
type recipient struct {
	exists  bool
	blocked []string // sorted
	// Until when the user may not send, Unix milliseconds; -1 for ever.
	mutedChat int64
}

func (r recipient) blocks(sender string) bool {
	_, found := slices.BinarySearch(r.blocked, sender)
	return found
}

func (r recipient) mutedAt(now time.Time) bool {
	return r.mutedChat == -1 || r.mutedChat > now.UnixMilli()
}

// recipientCache keeps recipients for a while; user events make it forget the
// users that they are about.
type recipientCache struct {
	users accountv1.UserServiceClient
	cache *usercache.Cache[recipient]
	// settings are the push settings, which the same events change.
	settings *usercache.Cache[*accountv1.User]
}

func newRecipientCache(users accountv1.UserServiceClient, settings *usercache.Cache[*accountv1.User], now func() time.Time) (*recipientCache, error) {
	c, err := usercache.New[recipient](recipientCacheSize, recipientMaxAge, now)
	if err != nil {
		return nil, err
	}
	return &recipientCache{users: users, cache: c, settings: settings}, nil
}

func (c *recipientCache) onEvent(m *natsx.Msg) {
	var e busv1.UserEvent
	if err := proto.Unmarshal(m.Data, &e); err != nil {
		c.forgetAll()
		return
	}
	c.forget(usercache.Key{App: e.GetApp(), User: e.GetUser()})
}

func (c *recipientCache) forget(key usercache.Key) {
	c.cache.Forget(key)
	c.settings.Forget(key)
}

// UserChanged has what is known of a user asked for anew, without waiting for
// the event that says so.
func (s *Service) UserChanged(appKey, user string) {
	s.recipients.forget(usercache.Key{App: appKey, User: user})
}

func (c *recipientCache) forgetAll() {
	c.cache.ForgetAll()
	c.settings.ForgetAll()
}

// get returns the recipients of folded user IDs, in their order.
func (c *recipientCache) get(ctx context.Context, app string, users []string) ([]recipient, error) {
	out := make([]recipient, len(users))
	var missing []string
	var places []int
	var marks []usercache.Mark
	for i, u := range users {
		r, mark, ok := c.cache.Get(usercache.Key{App: app, User: u})
		if ok {
			out[i] = r
			continue
		}
		missing, places, marks = append(missing, u), append(places, i), append(marks, mark)
	}
	if len(missing) == 0 {
		return out, nil
	}
	org, name, _ := names.SplitAppKey(app)
	resp, err := c.users.LookupRecipients(ctx, &accountv1.LookupRecipientsRequest{Org: org, App: name, Usernames: missing})
	if err != nil {
		return nil, err
	}
	for i, r := range resp.GetRecipients() {
		blocked := slices.Clone(r.GetBlocked())
		slices.Sort(blocked)
		got := recipient{exists: r.GetExists(), blocked: blocked, mutedChat: r.GetMutedChat()}
		out[places[i]] = got
		// Who does not exist is asked for each time: a send to a new user may
		// follow on the user's registration closer than its event.
		if got.exists {
			c.cache.Put(usercache.Key{App: app, User: missing[i]}, marks[i], got)
		}
	}
	return out, nil
}

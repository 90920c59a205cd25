package messaging

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/names"
	"github.com/chappe-im/chappe/pkg/natsx"
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
	fetched   time.Time
}

func (r recipient) blocks(sender string) bool {
	_, found := slices.BinarySearch(r.blocked, sender)
	return found
}

func (r recipient) mutedAt(now time.Time) bool {
	return r.mutedChat == -1 || r.mutedChat > now.UnixMilli()
}

type recipientKey struct{ app, user string }

// recipientCache keeps recipients for a while; user events empty it where they
// apply. It is bounded in entries and age.
type recipientCache struct {
	users accountv1.UserServiceClient
	cache *lru.Cache[recipientKey, recipient]
	// changed is told of users that something was changed of.
	changed func(recipientKey)
	// generation grows with every event: what was asked for before one is not
	// stored after it, as it could be out of date already.
	generation atomic.Uint64
}

func newRecipientCache(users accountv1.UserServiceClient, changed func(recipientKey)) (*recipientCache, error) {
	c, err := lru.New[recipientKey, recipient](recipientCacheSize)
	if err != nil {
		return nil, err
	}
	return &recipientCache{users: users, cache: c, changed: changed}, nil
}

func (c *recipientCache) onEvent(m *natsx.Msg) {
	var e busv1.UserEvent
	if err := proto.Unmarshal(m.Data, &e); err != nil {
		c.forgetAll()
		return
	}
	c.forget(recipientKey{e.GetApp(), e.GetUser()})
}

func (c *recipientCache) forget(key recipientKey) {
	c.generation.Add(1)
	c.cache.Remove(key)
	c.changed(key)
}

// UserChanged has what is known of a user asked for anew, without waiting for
// the event that says so.
func (s *Service) UserChanged(appKey, user string) {
	s.recipients.forget(recipientKey{appKey, user})
}

func (c *recipientCache) forgetAll() {
	c.generation.Add(1)
	c.cache.Purge()
}

// get gives the recipients of folded user IDs, in their order.
func (c *recipientCache) get(ctx context.Context, app string, users []string, now time.Time) ([]recipient, error) {
	out := make([]recipient, len(users))
	var missing []string
	var places []int
	for i, u := range users {
		r, ok := c.cache.Get(recipientKey{app, u})
		if ok && now.Sub(r.fetched) < recipientMaxAge {
			out[i] = r
			continue
		}
		missing = append(missing, u)
		places = append(places, i)
	}
	if len(missing) == 0 {
		return out, nil
	}
	for begin := 0; begin < len(missing); begin += maxLookup {
		end := min(begin+maxLookup, len(missing))
		if err := c.fetch(ctx, app, missing[begin:end], places[begin:end], out, now); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// maxLookup bounds the users that account is asked for at once.
const maxLookup = 600

// fetch asks account for users and puts what it says into their places.
func (c *recipientCache) fetch(ctx context.Context, app string, missing []string, places []int, out []recipient, now time.Time) error {
	org, name, _ := names.SplitAppKey(app)
	generation := c.generation.Load()
	resp, err := c.users.LookupRecipients(ctx, &accountv1.LookupRecipientsRequest{Org: org, App: name, Usernames: missing})
	if err != nil {
		return err
	}
	keep := c.generation.Load() == generation
	for i, r := range resp.GetRecipients() {
		blocked := slices.Clone(r.GetBlocked())
		slices.Sort(blocked)
		got := recipient{exists: r.GetExists(), blocked: blocked, mutedChat: r.GetMutedChat(), fetched: now}
		out[places[i]] = got
		// Who does not exist is asked for each time: a send to a new user may
		// follow on the user's registration closer than its event.
		if keep && got.exists {
			c.cache.Add(recipientKey{app, missing[i]}, got)
		}
	}
	return nil
}

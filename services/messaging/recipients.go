package messaging

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/names"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/usercache"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

const (
	recipientCacheSize = 200_000
	recipientMaxAge    = 30 * time.Second
	// recipientStale is the age up to which a recipient is believed while
	// accounts cannot be asked. Events are applied meanwhile as ever.
	recipientStale = 10 * time.Minute
	// recipientPatience is how long accounts may take to answer when what is
	// remembered would do; when they did not, they are left alone for
	// recipientRest, so that not every send waits.
	recipientPatience = 300 * time.Millisecond
	recipientRest     = 500 * time.Millisecond
)

// recipient is what sending needs to know of a user.
type recipient struct {
	exists  bool
	blocked []string // sorted
	// Until when the user may not send, Unix milliseconds; -1 for ever.
	mutedChat int64
	// fetched is when the question was put that this is the answer to.
	fetched time.Time
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
	settings *usercache.Cache[pushSettings]
	// restUntil is until when accounts are left alone, Unix nanoseconds.
	restUntil atomic.Int64
}

func newRecipientCache(users accountv1.UserServiceClient, settings *usercache.Cache[pushSettings], now func() time.Time) (*recipientCache, error) {
	c, err := usercache.New[recipient](recipientCacheSize, recipientStale, now)
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
	c.forget(ident.User{App: ident.AppKey(e.GetApp()), ID: ident.UserID(e.GetUser())})
}

func (c *recipientCache) forget(key ident.User) {
	c.cache.Forget(key)
	c.settings.Forget(key)
}

// UserChanged has what is known of a user asked for anew, without waiting for
// the event that says so.
func (s *Service) UserChanged(appKey, user string) {
	s.recipients.forget(ident.User{App: ident.AppKey(appKey), ID: ident.UserID(user)})
}

func (c *recipientCache) forgetAll() {
	c.cache.ForgetAll()
	c.settings.ForgetAll()
}

// get returns the recipients of folded user IDs, in their order. When accounts
// cannot be asked, those known of late are taken as they were.
func (c *recipientCache) get(ctx context.Context, app string, users []string, now time.Time) ([]recipient, error) {
	out := make([]recipient, len(users))
	var q lookup
	remembered := true
	for i, u := range users {
		r, mark, ok := c.cache.Get(ident.User{App: ident.AppKey(app), ID: ident.UserID(u)})
		out[i] = r
		if ok && now.Sub(r.fetched) < recipientMaxAge {
			continue
		}
		remembered = remembered && ok
		q.users, q.places, q.marks = append(q.users, u), append(q.places, i), append(q.marks, mark)
	}
	if len(q.users) == 0 {
		return out, nil
	}
	if !remembered {
		return out, c.fetch(ctx, app, q, out, now)
	}
	if time.Now().UnixNano() < c.restUntil.Load() {
		return out, nil
	}
	asked, cancel := context.WithTimeout(ctx, recipientPatience)
	defer cancel()
	err := c.fetch(asked, app, q, out, now)
	if err == nil || ctx.Err() != nil || !isAway(err) {
		return out, err
	}
	c.restUntil.Store(time.Now().Add(recipientRest).UnixNano())
	return out, nil
}

// lookup is what accounts are asked for: users, their places in the answer, and
// the cache's marks from before the question.
type lookup struct {
	users  []string
	places []int
	marks  []usercache.Mark
}

// fetch asks accounts for users and puts what they are into their places.
func (c *recipientCache) fetch(ctx context.Context, app string, q lookup, out []recipient, now time.Time) error {
	for begin := 0; begin < len(q.users); begin += maxLookup {
		end := min(begin+maxLookup, len(q.users))
		part := lookup{users: q.users[begin:end], places: q.places[begin:end], marks: q.marks[begin:end]}
		if err := c.fetchSome(ctx, app, part, out, now); err != nil {
			return err
		}
	}
	return nil
}

// maxLookup bounds the users that accounts is asked for at once.
const maxLookup = 600

func (c *recipientCache) fetchSome(ctx context.Context, app string, q lookup, out []recipient, now time.Time) error {
	org, name, _ := names.SplitAppKey(app)
	resp, err := c.users.LookupRecipients(ctx, &accountv1.LookupRecipientsRequest{Org: org, App: name, Usernames: q.users})
	if err != nil {
		return errs.From(err)
	}
	for i, r := range resp.GetRecipients() {
		blocked := slices.Clone(r.GetBlocked())
		slices.Sort(blocked)
		got := recipient{exists: r.GetExists(), blocked: blocked, mutedChat: r.GetMutedChat(), fetched: now}
		out[q.places[i]] = got
		// Who does not exist is asked for each time: a send to a new user may
		// follow on the user's registration closer than its event.
		if got.exists {
			c.cache.Put(ident.User{App: ident.AppKey(app), ID: ident.UserID(q.users[i])}, q.marks[i], got)
		}
	}
	return nil
}

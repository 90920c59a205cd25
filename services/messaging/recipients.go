package messaging

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
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
	// Push settings are for users who are not connected.
	settingsCacheSize = 50_000
	settingsMaxAge    = 30 * time.Second
)

// recipient is what sending needs to know of a user.
type recipient struct {
	exists  bool
	blocked []ident.UserID // sorted
	// Until when the user may not send, Unix milliseconds; -1 for ever.
	mutedChat int64
	// fetched is when the question was put that this is the answer to.
	fetched time.Time
}

func (r recipient) blocks(sender ident.UserID) bool {
	_, found := slices.BinarySearch(r.blocked, sender)
	return found
}

func (r recipient) mutedAt(now time.Time) bool {
	return r.mutedChat == -1 || r.mutedChat > now.UnixMilli()
}

// recipientCache keeps recipients for a while; user events make it forget the
// users that they are about.
type recipientCache struct {
	users  accountv1.UserServiceClient
	pushes accountv1.PushServiceClient
	cache  *usercache.Cache[recipient]
	// settings are the push settings, which the same events change.
	settings *usercache.Cache[pushSettings]
	// restUntil is until when accounts are left alone, Unix nanoseconds.
	restUntil atomic.Int64
}

func newRecipientCache(users accountv1.UserServiceClient, pushes accountv1.PushServiceClient, now func() time.Time) (*recipientCache, error) {
	c, err := usercache.New[recipient](recipientCacheSize, recipientStale, now)
	if err != nil {
		return nil, err
	}
	settings, err := usercache.New[pushSettings](settingsCacheSize, settingsMaxAge, now)
	if err != nil {
		return nil, err
	}
	return &recipientCache{users: users, pushes: pushes, cache: c, settings: settings}, nil
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
func (s *Service) UserChanged(user ident.User) {
	s.recipients.forget(user)
}

func (c *recipientCache) forgetAll() {
	c.cache.ForgetAll()
	c.settings.ForgetAll()
}

// get returns the recipients of folded user IDs, in their order. When accounts
// cannot be asked, those known of late are taken as they were.
func (c *recipientCache) get(ctx context.Context, app ident.AppKey, users []ident.UserID, now time.Time) ([]recipient, error) {
	out := make([]recipient, len(users))
	var q lookup
	remembered := true
	for i, u := range users {
		r, mark, ok := c.cache.Get(ident.User{App: app, ID: u})
		out[i] = r
		if ok && now.Sub(r.fetched) < recipientMaxAge {
			continue
		}
		remembered = remembered && ok
		q.users, q.at, q.marks = append(q.users, u), append(q.at, i), append(q.marks, mark)
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
	if err == nil || ctx.Err() != nil || !errs.IsAway(err) {
		return out, err
	}
	c.restUntil.Store(time.Now().Add(recipientRest).UnixNano())
	return out, nil
}

// lookup is what accounts are asked for: users, their indexes in the answer, and
// the cache's marks from before the question.
type lookup struct {
	users []ident.UserID
	at    []int
	marks []usercache.Mark
}

// maxLookup bounds the users that accounts is asked for at once.
const maxLookup = 600

// fetch asks accounts for users and puts what they are where they belong.
func (c *recipientCache) fetch(ctx context.Context, app ident.AppKey, q lookup, out []recipient, now time.Time) error {
	for begin := 0; begin < len(q.users); begin += maxLookup {
		end := min(begin+maxLookup, len(q.users))
		part := lookup{users: q.users[begin:end], at: q.at[begin:end], marks: q.marks[begin:end]}
		if err := c.fetchSome(ctx, app, part, out, now); err != nil {
			return err
		}
	}
	return nil
}

func (c *recipientCache) fetchSome(ctx context.Context, app ident.AppKey, q lookup, out []recipient, now time.Time) error {
	org, name, _ := app.Split()
	resp, err := c.users.LookupRecipients(ctx, &accountv1.LookupRecipientsRequest{Org: org, App: name, Usernames: plain(q.users)})
	if err != nil {
		return errs.From(err)
	}
	for i, r := range resp.GetRecipients() {
		blocked := make([]ident.UserID, len(r.GetBlocked()))
		for j, u := range r.GetBlocked() {
			blocked[j] = ident.UserID(u)
		}
		slices.Sort(blocked)
		got := recipient{exists: r.GetExists(), blocked: blocked, mutedChat: r.GetMutedChat(), fetched: now}
		out[q.at[i]] = got
		// Who does not exist is asked for each time: a send to a new user may
		// follow on the user's registration closer than its event.
		if got.exists {
			c.cache.Put(ident.User{App: app, ID: q.users[i]}, q.marks[i], got)
		}
	}
	return nil
}

// plain returns IDs as the protocol has them.
func plain(users []ident.UserID) []string {
	out := make([]string, len(users))
	for i, u := range users {
		out[i] = string(u)
	}
	return out
}

// maxKeptSettings bounds the conversations of a user whose settings are kept.
const maxKeptSettings = 50

// pushSettings are what is known of a user; user is nil if there is none.
type pushSettings struct {
	user  *accountv1.User
	wants *accountv1.LookupPushResponse
}

// pushSettings returns what is known of a user.
func (c *recipientCache) pushSettings(ctx context.Context, user ident.User) (pushSettings, error) {
	known, mark, ok := c.settings.Get(user)
	if ok {
		return known, nil
	}
	org, app, _ := user.App.Split()
	resp, err := c.users.GetUser(ctx, &accountv1.GetUserRequest{Org: org, App: app, Username: string(user.ID)})
	if err != nil && !errs.Is(err, errs.ReasonNotFound) {
		return pushSettings{}, err
	}
	s := pushSettings{user: resp.GetUser()}
	if s.user != nil {
		s.wants, err = c.pushes.LookupPush(ctx, &accountv1.LookupPushRequest{Org: org, App: app, Username: string(user.ID)})
		if err != nil {
			return pushSettings{}, err
		}
	}
	if len(s.wants.GetUsers())+len(s.wants.GetGroups()) <= maxKeptSettings {
		c.settings.Put(user, mark, s)
	}
	return s, nil
}

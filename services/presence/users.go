package presence

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/names"
	"github.com/chappe-im/chappe/pkg/natsx"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// What is remembered of users: how many, and for how long although a deletion
// makes it be forgotten at once.
const (
	maxKnownUsers = 16384
	knownUserAge  = time.Minute
)

// users tells which users exist. Only those that do are remembered.
type users struct {
	accounts accountv1.UserServiceClient
	known    *lru.Cache[string, time.Time]
	now      func() time.Time
	// deletions counts deleted users, so that an answer that was under way
	// while one was deleted is not remembered.
	deletions atomic.Uint64
}

func newUsers(accounts accountv1.UserServiceClient, now func() time.Time) (*users, error) {
	known, err := lru.New[string, time.Time](maxKnownUsers)
	if err != nil {
		return nil, fmt.Errorf("presence: %w", err)
	}
	return &users{accounts: accounts, known: known, now: now}, nil
}

func knownKey(app, user string) string { return app + "/" + user }

// resolve gives the stored form of a user's ID, or of the ID of the user with
// that UUID, or NotFound.
func (u *users) resolve(ctx context.Context, org, app, username string) (string, error) {
	user := names.FoldUser(username)
	if !names.ValidUser(user) {
		return "", errs.NotFound()
	}
	key := knownKey(names.AppKey(org, app), user)
	if at, ok := u.known.Get(key); ok && u.now().Sub(at) < knownUserAge {
		return user, nil
	}
	deletions := u.deletions.Load()
	r, err := u.accounts.LookupRecipients(ctx, &accountv1.LookupRecipientsRequest{Org: org, App: app, Usernames: []string{user}})
	if err != nil {
		return "", err
	}
	if len(r.GetRecipients()) == 1 && r.GetRecipients()[0].GetExists() {
		if u.deletions.Load() == deletions {
			u.known.Add(key, u.now())
		}
		return user, nil
	}
	if uuid.Validate(user) != nil || len(user) != len(uuid.Nil.String()) {
		return "", errs.NotFound()
	}
	g, err := u.accounts.GetUser(ctx, &accountv1.GetUserRequest{Org: org, App: app, Username: user})
	if err != nil {
		return "", err
	}
	return g.GetUser().GetUsername(), nil
}

func (u *users) forget(app, user string) {
	u.deletions.Add(1)
	u.known.Remove(knownKey(app, user))
}

// followUsers forgets what is remembered of users who are deleted.
func (s *Service) followUsers() (*natsx.Subscription, error) {
	return s.deps.NATS.Subscribe(bus.UserEventFilter, func(m *natsx.Msg) {
		if e := deletion(m.Data); e != nil {
			s.users.forget(e.GetApp(), e.GetUser())
		}
	})
}

// deletion reads a user event and gives it if it tells of a deletion.
func deletion(data []byte) *busv1.UserEvent {
	var e busv1.UserEvent
	if proto.Unmarshal(data, &e) != nil || e.GetChange() != busv1.UserEvent_CHANGE_DELETED {
		return nil
	}
	return &e
}

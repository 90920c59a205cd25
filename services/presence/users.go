package presence

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/natsx"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
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
	known    *lru.Cache[ident.User, time.Time]
	now      func() time.Time
	// deletions counts deleted users, so that an answer that was under way
	// while one was deleted is not remembered.
	deletions atomic.Uint64
}

func newUsers(accounts accountv1.UserServiceClient, now func() time.Time) (*users, error) {
	known, err := lru.New[ident.User, time.Time](maxKnownUsers)
	if err != nil {
		return nil, fmt.Errorf("presence: %w", err)
	}
	return &users{accounts: accounts, known: known, now: now}, nil
}

// knownUser returns the user that a call names by ID or UUID, or NotFound.
// A user who is online exists, without a question.
func (s *Service) knownUser(ctx context.Context, org, app, username string) (ident.User, error) {
	user := ident.User{App: ident.NewAppKey(org, app), ID: ident.FoldUser(username)}
	if s.index.online(user) {
		return user, nil
	}
	return s.users.resolve(ctx, org, app, username)
}

// resolve returns the user with an ID or, where there is none, with that UUID;
// or NotFound.
func (u *users) resolve(ctx context.Context, org, app, username string) (ident.User, error) {
	user := ident.User{App: ident.NewAppKey(org, app), ID: ident.FoldUser(username)}
	if !user.ID.Valid() {
		return ident.User{}, errs.NotFound()
	}
	if at, ok := u.known.Get(user); ok && u.now().Sub(at) < knownUserAge {
		return user, nil
	}
	id := string(user.ID)
	deletions := u.deletions.Load()
	r, err := u.accounts.LookupRecipients(ctx, &accountv1.LookupRecipientsRequest{Org: org, App: app, Usernames: []string{id}})
	if err != nil {
		return ident.User{}, err
	}
	if len(r.GetRecipients()) == 1 && r.GetRecipients()[0].GetExists() {
		if u.deletions.Load() == deletions {
			u.known.Add(user, u.now())
		}
		return user, nil
	}
	if uuid.Validate(id) != nil || len(id) != len(uuid.Nil.String()) {
		return ident.User{}, errs.NotFound()
	}
	g, err := u.accounts.GetUser(ctx, &accountv1.GetUserRequest{Org: org, App: app, Username: id})
	if err != nil {
		return ident.User{}, err
	}
	return ident.User{App: user.App, ID: ident.UserID(g.GetUser().GetUsername())}, nil
}

func (u *users) forget(user ident.User) {
	u.deletions.Add(1)
	u.known.Remove(user)
}

// followUsers forgets what is remembered of users who are deleted.
func (s *Service) followUsers() (*natsx.Subscription, error) {
	return s.deps.NATS.Subscribe(bus.UserEventFilter, func(m *natsx.Msg) {
		if user, ok := deletion(m.Data); ok {
			s.users.forget(user)
		}
	})
}

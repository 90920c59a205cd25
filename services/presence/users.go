package presence

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/usercache"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

// What is remembered of users: how many, and for how long although a deletion
// makes it be forgotten at once.
const (
	maxKnownUsers = 16384
	knownUserAge  = time.Minute
)

// users tells which users exist. Only those that do are remembered, and not
// while one is being deleted.
type users struct {
	accounts accountv1.UserServiceClient
	known    *usercache.Cache[struct{}]
}

func newUsers(accounts accountv1.UserServiceClient, now func() time.Time) (*users, error) {
	known, err := usercache.New[struct{}](maxKnownUsers, knownUserAge, now)
	if err != nil {
		return nil, fmt.Errorf("presence: %w", err)
	}
	return &users{accounts: accounts, known: known}, nil
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
	_, mark, ok := u.known.Get(user)
	if ok {
		return user, nil
	}
	id := string(user.ID)
	r, err := u.accounts.LookupRecipients(ctx, &accountv1.LookupRecipientsRequest{Org: org, App: app, Usernames: []string{id}})
	if err != nil {
		return ident.User{}, err
	}
	if len(r.GetRecipients()) == 1 && r.GetRecipients()[0].GetExists() {
		u.known.Put(user, mark, struct{}{})
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
	u.known.Forget(user)
}

// followUsers forgets what is remembered of users who are deleted.
func (s *Service) followUsers() (*natsx.Subscription, error) {
	return s.deps.NATS.Subscribe(bus.UserEventFilter, func(m *natsx.Msg) {
		if user, ok := deletion(m.Data); ok {
			s.users.forget(user)
		}
	})
}

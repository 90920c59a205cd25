package presence

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/names"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/usercache"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
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

// resolve gives the stored form of a user's ID, or of the ID of the user with
// that UUID, or NotFound.
func (u *users) resolve(ctx context.Context, org, app, username string) (string, error) {
	user := names.FoldUser(username)
	if !names.ValidUser(user) {
		return "", errs.NotFound()
	}
	key := usercache.Key{App: names.AppKey(org, app), User: user}
	_, mark, ok := u.known.Get(key)
	if ok {
		return user, nil
	}
	r, err := u.accounts.LookupRecipients(ctx, &accountv1.LookupRecipientsRequest{Org: org, App: app, Usernames: []string{user}})
	if err != nil {
		return "", err
	}
	if len(r.GetRecipients()) == 1 && r.GetRecipients()[0].GetExists() {
		u.known.Put(key, mark, struct{}{})
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
	u.known.Forget(usercache.Key{App: app, User: user})
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

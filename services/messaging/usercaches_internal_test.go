package messaging

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/natsx"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// slowUsers answers from what is stored when the question comes in, but not
// before its test lets it.
type slowUsers struct {
	accountv1.UserServiceClient
	style int32
	block bool
	// asked is told of each question, answer lets one go.
	asked, answer chan struct{}
}

func (u *slowUsers) wait() {
	if u.block {
		u.asked <- struct{}{}
		<-u.answer
	}
}

func (u *slowUsers) GetUser(context.Context, *accountv1.GetUserRequest, ...grpc.CallOption) (*accountv1.GetUserResponse, error) {
	resp := &accountv1.GetUserResponse{User: &accountv1.User{Username: "amelia", NotificationDisplayStyle: proto.Int32(u.style)}}
	u.wait()
	return resp, nil
}

func (u *slowUsers) LookupRecipients(context.Context, *accountv1.LookupRecipientsRequest, ...grpc.CallOption) (*accountv1.LookupRecipientsResponse, error) {
	resp := &accountv1.LookupRecipientsResponse{Recipients: []*accountv1.Recipient{{Exists: true, MutedChat: int64(u.style)}}}
	u.wait()
	return resp, nil
}

// TestNothingReadBeforeAChangeIsKept lets a read of a user begin, changes the
// user, says so, and only then lets the read end. What the read brings is of
// before the change; the next read must not find it.
func TestNothingReadBeforeAChangeIsKept(t *testing.T) {
	t.Parallel()
	const app, name = "acme#shop", "amelia"
	event, err := proto.Marshal(&busv1.UserEvent{App: app, User: name})
	require.NoError(t, err)
	changes := map[string]func(s *Service){
		"an event":               func(s *Service) { s.recipients.onEvent(&natsx.Msg{Data: event}) },
		"an unreadable event":    func(s *Service) { s.recipients.onEvent(&natsx.Msg{Data: []byte("\xff")}) },
		"a loss of events":       func(s *Service) { s.recipients.forgetAll() },
		"the accounts beside us": func(s *Service) { s.UserChanged(ident.User{App: app, ID: name}) },
	}
	reads := map[string]func(ctx context.Context, s *Service) (int32, error){
		"push settings": func(ctx context.Context, s *Service) (int32, error) {
			u, err := s.recipients.pushSettings(ctx, ident.User{App: app, ID: name})
			return u.user.GetNotificationDisplayStyle(), err
		},
		"recipients and mutes": func(ctx context.Context, s *Service) (int32, error) {
			r, err := s.recipients.get(ctx, app, []ident.UserID{name}, time.Now())
			if err != nil {
				return 0, err
			}
			return int32(r[0].mutedChat), nil // small
		},
	}
	for what, read := range reads {
		for how, change := range changes {
			t.Run(what+", "+how, func(t *testing.T) {
				t.Parallel()
				users := &slowUsers{style: 1, block: true, asked: make(chan struct{}), answer: make(chan struct{})}
				recipients, err := newRecipientCache(users, noWants{}, time.Now)
				require.NoError(t, err)
				s := &Service{deps: Deps{Users: users}, recipients: recipients}

				first := make(chan int32, 1)
				go func() {
					got, _ := read(context.Background(), s)
					first <- got
				}()
				<-users.asked
				users.style, users.block = 2, false
				change(s)
				users.answer <- struct{}{}
				require.Equal(t, int32(1), <-first, "the read began before the change")

				for range 2 {
					got, err := read(t.Context(), s)
					require.NoError(t, err)
					require.Equal(t, int32(2), got)
				}
				// What was read after the change is kept.
				users.style = 3
				got, err := read(t.Context(), s)
				require.NoError(t, err)
				require.Equal(t, int32(2), got)
			})
		}
	}
}

// noWants answers for users who have no wishes.
type noWants struct{ accountv1.PushServiceClient }

func (noWants) LookupPush(context.Context, *accountv1.LookupPushRequest, ...grpc.CallOption) (*accountv1.LookupPushResponse, error) {
	return &accountv1.LookupPushResponse{}, nil
}

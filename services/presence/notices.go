package presence

import (
	"context"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/obs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

const (
	// notifyQueues work side by side; a user's changes all go through one.
	notifyQueues = 4
	// maxChanged bounds the users in a queue whose change is still to be told.
	maxChanged = 65536
	// changedChunk is how many users are looked up at a time.
	changedChunk = 200
	// subscriberPage is how many subscribers are read at a time.
	subscriberPage = 1000
)

// notifier tells subscribers who are online of changes. What it tells is the
// state at that moment, so several changes of a user that come faster than they
// are told become one.
type notifier struct {
	service *Service
	queues  [notifyQueues]struct {
		wake    chan struct{}
		mu      sync.Mutex
		changed map[ident.User]struct{}
	}
}

func newNotifier(s *Service) *notifier {
	n := &notifier{service: s}
	for i := range n.queues {
		n.queues[i].wake = make(chan struct{}, 1)
		n.queues[i].changed = make(map[ident.User]struct{})
	}
	return n
}

// changed notes that a user's presence is another now.
func (n *notifier) changed(user ident.User) {
	q := &n.queues[xxhash.Sum64String(user.String())%notifyQueues]
	q.mu.Lock()
	if len(q.changed) < maxChanged {
		q.changed[user] = struct{}{}
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (n *notifier) run(ctx context.Context, i int) {
	q := &n.queues[i]
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		q.mu.Lock()
		batch := q.changed
		q.changed = make(map[ident.User]struct{})
		q.mu.Unlock()
		byApp := make(map[ident.AppKey][]ident.UserID)
		for u := range batch {
			byApp[u.App] = append(byApp[u.App], u.ID)
		}
		for key, users := range byApp {
			app, ok := n.service.appByKey(key)
			if !ok {
				continue // nobody subscribes in an app that is not known
			}
			for chunk := range slices.Chunk(users, changedChunk) {
				n.tellOf(ctx, app, chunk)
			}
		}
	}
}

// tellOf tells of several users' changes. Most users have no subscribers, which
// is found out for all of them at once.
func (n *notifier) tellOf(ctx context.Context, app *catalog.App, users []ident.UserID) {
	if len(users) > 1 {
		subscribed, err := n.service.store.subscribed(ctx, app.Number, users, n.service.deps.Now().UnixMilli())
		if err == nil {
			users = subscribed
		}
	}
	for _, user := range users {
		if ctx.Err() != nil {
			return
		}
		if err := n.tell(ctx, app, user); err != nil && ctx.Err() == nil {
			n.service.deps.Logger.Warn("subscribers not told of a presence change", obs.KeyApp, app.Key, obs.KeyUser, user, obs.KeyError, err)
		}
	}
}

// tell sends a user's presence to all subscribers who are online.
func (n *notifier) tell(ctx context.Context, app *catalog.App, user ident.UserID) error {
	s := n.service
	var told *notice
	after := ident.UserID("")
	for {
		now := s.deps.Now()
		page, err := s.store.subscribers(ctx, app.Number, user, after, now.UnixMilli(), subscriberPage)
		if err != nil {
			return err
		}
		for _, sub := range page {
			if !s.index.online(ident.User{App: app.AppKey(), ID: sub.user}) {
				continue
			}
			if told == nil {
				if told, err = s.newNotice(ctx, app, user); err != nil {
					return err
				}
			}
			data, err := told.forSubscriber(sub.expires)
			if err != nil {
				return err
			}
			if err := s.deps.NATS.Publish(bus.UserSubject(app.Key, string(sub.user)), data); err != nil {
				return err
			}
			s.metrics.notices.Inc()
		}
		if len(page) < subscriberPage {
			return nil
		}
		after = page[len(page)-1].user
	}
}

// notice is a push that differs between subscribers only in the time at which
// their subscription ends.
type notice struct {
	push   *busv1.Push
	change *busv1.PresenceChange
}

func (s *Service) newNotice(ctx context.Context, app *catalog.App, user ident.UserID) (*notice, error) {
	views, err := s.views(ctx, app, []ident.UserID{user})
	if err != nil {
		return nil, err
	}
	v := views[user]
	change := &busv1.PresenceChange{Changed: v.lastTime, Ext: v.ext}
	for resource, status := range v.status {
		change.Devices = append(change.Devices, &busv1.DeviceStatus{Resource: resource, Status: status})
	}
	return &notice{change: change, push: &busv1.Push{What: &busv1.Push_Notice{Notice: &busv1.Notice{
		Id: s.deps.IDs.Next(), From: string(user), Timestamp: s.deps.Now().UnixMilli(),
		Event: &busv1.Event{What: &busv1.Event_Presence{Presence: change}},
	}}}}, nil
}

func (n *notice) forSubscriber(expires int64) ([]byte, error) {
	n.change.Expires = expires
	return proto.Marshal(n.push)
}

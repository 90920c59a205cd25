package presence_test

import (
	"context"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/embed"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/members"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/pkg/tier"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
	"github.com/chappe-im/chappe/services/presence"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// The app of most tests.
const (
	org     = "acme"
	app     = "chat"
	gateway = "gw-1"

	patience = 20 * time.Second
	step     = 10 * time.Millisecond
)

const appKey = org + "#" + app

// apps is a catalogue that has every app but "none".
type apps struct {
	mu    sync.Mutex
	quota map[string]int64
	made  map[string]*catalog.App
}

// set gives an app a quota of users online; without it there is none.
func (a *apps) set(app string, quota int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.quota[app] = quota
	delete(a.made, app)
}

func (a *apps) App(org, app string) (*catalog.App, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if app == "none" {
		return nil, false
	}
	if made := a.made[app]; made != nil {
		return made, true
	}
	seeds, err := tier.Seeds()
	if err != nil {
		return nil, false
	}
	d := seeds[0]
	d.Quotas = map[string]*int64{tier.QuotaOnlineUsers: nil}
	if quota, limited := a.quota[app]; limited {
		d.Quotas[tier.QuotaOnlineUsers] = &quota
	}
	c, err := tier.Compile(d)
	if err != nil {
		return nil, false
	}
	a.made[app] = &catalog.App{Org: org, Name: app, Key: string(ident.NewAppKey(org, app)), Number: numberOf(app), Tier: c}
	return a.made[app], true
}

func (a *apps) AppByKey(key string) (*catalog.App, bool) {
	org, app, _ := ident.AppKey(key).Split()
	return a.App(org, app)
}

// numberOf is the number that the apps of these tests have by their name.
func numberOf(app string) int64 { return int64(crc32.ChecksumIEEE([]byte(app))) }

// accounts knows users by name and UUID, in every app.
type accounts struct {
	accountv1.UnimplementedUserServiceServer
	mu    sync.Mutex
	users map[string]string // by name, the UUID
	asked int
}

func newAccounts(users ...string) *accounts {
	a := &accounts{users: make(map[string]string)}
	for i, u := range users {
		a.users[u] = fmt.Sprintf("6c1f2e40-7a55-11ee-9c3b-%012x", i)
	}
	return a
}

func (a *accounts) delete(user string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.users, user)
}

func (a *accounts) LookupRecipients(_ context.Context, r *accountv1.LookupRecipientsRequest) (*accountv1.LookupRecipientsResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	resp := &accountv1.LookupRecipientsResponse{}
	for _, u := range r.GetUsernames() {
		_, ok := a.users[u]
		resp.Recipients = append(resp.Recipients, &accountv1.Recipient{Exists: ok})
	}
	return resp, nil
}

func (a *accounts) GetUser(_ context.Context, r *accountv1.GetUserRequest) (*accountv1.GetUserResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, id := range a.users {
		if r.GetUsername() == name || r.GetUsername() == id {
			return &accountv1.GetUserResponse{User: &accountv1.User{Username: name, Uuid: id}}, nil
		}
	}
	return nil, errs.NotFound()
}

// clock is a clock that tests can move.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// bed is what instances of the service stand on.
type bed struct {
	server   *embed.NATS
	nats     *natsx.Conn
	etcd     *etcdx.Client
	db       *store.DB
	apps     *apps
	accounts *accounts
	clock    *clock
	takeOver bool
}

func newBed(t testing.TB, db *store.DB) *bed {
	t.Helper()
	server := testkit.NATSServer(t)
	b := &bed{
		server: server, nats: testkit.Connect(t, server), etcd: testkit.Etcd(t), db: db,
		apps: &apps{quota: make(map[string]int64), made: make(map[string]*catalog.App)}, accounts: newAccounts("amelia", "bruno", "carla", "dario"), clock: &clock{},
	}
	b.register(t, gateway)
	return b
}

func (b *bed) register(t testing.TB, id string) *members.Registration {
	t.Helper()
	r, err := members.Register(t.Context(), b.etcd, testkit.Logger(t), members.Gateways, members.Member{ID: id})
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Stop() })
	return r
}

// node is a running instance.
type node struct {
	*bed
	service  *presence.Service
	channel  grpc.ClientConnInterface
	conns    presencev1.ConnectionServiceClient
	presence presencev1.PresenceServiceClient
}

func (b *bed) start(t testing.TB) *node {
	t.Helper()
	in := grpcx.NewInterceptors(testkit.Logger(t), prometheus.NewRegistry())
	ch := grpcx.NewChannel(in)
	accountv1.RegisterUserServiceServer(ch, b.accounts)
	cfg := presence.DefaultConfig()
	cfg.CleanEvery = 50 * time.Millisecond
	cfg.TakeOver = b.takeOver
	s, err := presence.New(cfg, presence.Deps{
		DB: b.db, NATS: testkit.Connect(t, b.server), Etcd: b.etcd, Apps: b.apps, Accounts: accountv1.NewUserServiceClient(ch.Conn()),
		Logger: testkit.Logger(t), Registerer: prometheus.NewRegistry(), Now: b.clock.now,
	})
	require.NoError(t, err)
	s.Register(ch)
	require.NoError(t, s.Start(t.Context()))
	n := &node{
		bed: b, service: s, channel: ch.Conn(),
		conns: presencev1.NewConnectionServiceClient(ch.Conn()), presence: presencev1.NewPresenceServiceClient(ch.Conn()),
	}
	t.Cleanup(func() { n.stop(t) })
	return n
}

func (n *node) stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(t, n.service.Stop(ctx))
}

// newNode is an instance on SQLite.
func newNode(t testing.TB) *node {
	t.Helper()
	return newBed(t, testkit.SQLite(t, "presence", nil)).start(t)
}

func connection(id, user, resource string) *presencev1.Connection {
	return &presencev1.Connection{Id: id, Gateway: gateway, User: user, Resource: resource, Os: "web", Version: "4.21.1", Ip: "203.0.113.9:48098"}
}

func (n *node) login(t *testing.T, id, user, resource string) {
	t.Helper()
	_, err := n.conns.Connect(t.Context(), &presencev1.ConnectRequest{Org: org, App: app, Connection: connection(id, user, resource)})
	require.NoError(t, err)
}

func (n *node) logout(t *testing.T, id, user, resource string) {
	t.Helper()
	_, err := n.conns.Disconnect(t.Context(), &presencev1.DisconnectRequest{Org: org, App: app, ConnectionId: id, User: user, Resource: resource})
	require.NoError(t, err)
}

func (n *node) online(t *testing.T, user string) bool {
	t.Helper()
	r, err := n.presence.BatchGetOnlineStatus(t.Context(), &presencev1.BatchGetOnlineStatusRequest{Org: org, App: app, Usernames: []string{user}})
	require.NoError(t, err)
	return r.GetOnline()[0]
}

func (n *node) eventually(t *testing.T, user string, online bool) {
	t.Helper()
	require.Eventually(t, func() bool { return n.online(t, user) == online }, patience, step)
}

// ids lists the connections of a user, in order.
func (n *node) ids(t *testing.T, user string) []string {
	t.Helper()
	r, err := n.conns.ListConnections(t.Context(), &presencev1.ListConnectionsRequest{Org: org, App: app, Username: user})
	require.NoError(t, err)
	var ids []string
	for _, c := range r.GetConnections() {
		ids = append(ids, c.GetId())
	}
	slices.Sort(ids)
	return ids
}

// pushes collects what gateways are told to do for a user.
func (b *bed) pushes(t *testing.T, user string) <-chan *busv1.Push {
	t.Helper()
	out := make(chan *busv1.Push, 1024)
	_, err := b.nats.Subscribe(bus.UserSubject(appKey, user), func(m *natsx.Msg) {
		var p busv1.Push
		if proto.Unmarshal(m.Data, &p) == nil {
			out <- &p
		}
	})
	require.NoError(t, err)
	require.NoError(t, b.nats.Flush(t.Context()))
	return out
}

// events collects presence events of a user.
func (b *bed) events(t *testing.T, user string) <-chan *busv1.PresenceEvent {
	t.Helper()
	out := make(chan *busv1.PresenceEvent, 1024)
	_, err := b.nats.Subscribe(bus.PresenceEventSubject(appKey, user), func(m *natsx.Msg) {
		var e busv1.PresenceEvent
		if proto.Unmarshal(m.Data, &e) == nil {
			out <- &e
		}
	})
	require.NoError(t, err)
	require.NoError(t, b.nats.Flush(t.Context()))
	return out
}

// obeys plays a gateway that ends a user's connections when it is told to.
func (n *node) obeys(t *testing.T, user string) {
	t.Helper()
	pushes := n.pushes(t, user)
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		for {
			select {
			case <-t.Context().Done():
				return
			case p := <-pushes:
				d := p.GetDisconnect()
				if d == nil {
					continue
				}
				r, err := n.conns.ListConnections(context.Background(), &presencev1.ListConnectionsRequest{Org: org, App: app, Username: user})
				if err != nil {
					return
				}
				for _, c := range r.GetConnections() {
					if c.GetId() == d.GetExceptConnection() || (d.GetResource() != "" && d.GetResource() != c.GetResource()) {
						continue
					}
					_, _ = n.conns.Disconnect(context.Background(), &presencev1.DisconnectRequest{
						Org: org, App: app, ConnectionId: c.GetId(), User: user, Resource: c.GetResource(),
					})
				}
			}
		}
	}()
}

func requireReason(t *testing.T, err error, reason, message string) {
	t.Helper()
	require.Error(t, err)
	e := errs.From(err)
	require.Equal(t, reason, e.Reason, e.Error())
	if message != "" {
		require.Equal(t, message, e.Message)
	}
}

func requireInvalid(t *testing.T, err error, message string) {
	t.Helper()
	requireReason(t, err, errs.ReasonIllegalArgument, message)
}

package messaging_test

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/embed"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/rate"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/pkg/tier"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
	"github.com/chappe-im/chappe/services/messaging"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// apps knows three apps of one tier.
type apps map[string]*catalog.App

func (a apps) App(org, app string) (*catalog.App, bool) { return a.AppByKey(org + "#" + app) }
func (a apps) AppByKey(key string) (*catalog.App, bool) {
	x, ok := a[key]
	return x, ok
}

func (a apps) Apps() []*catalog.App { return slices.Collect(maps.Values(a)) }

// users answers from a table: everybody exists but those named "nobody…".
type users struct {
	accountv1.UnimplementedUserServiceServer
	mu      sync.Mutex
	blocked map[string][]string
	muted   map[string]int64
	known   map[string]*accountv1.User
	away    error
	hung    chan struct{}
	wants   map[string]*accountv1.LookupPushResponse
}

// pushes answers what users want to be told of.
type pushes struct {
	accountv1.UnimplementedPushServiceServer
	*users
}

func (p pushes) LookupPush(_ context.Context, req *accountv1.LookupPushRequest) (*accountv1.LookupPushResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w, ok := p.wants[req.GetUsername()]; ok {
		return w, nil
	}
	return &accountv1.LookupPushResponse{Own: &accountv1.Notification{Type: "ALL"}}, nil
}

// setAway has look-ups fail; nil has them work.
func (u *users) setAway(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.away = err
}

// hang has look-ups wait until release or their end.
func (u *users) hang() (release func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	hung := make(chan struct{})
	u.hung = hung
	return func() { close(hung) }
}

func (u *users) LookupRecipients(ctx context.Context, req *accountv1.LookupRecipientsRequest) (*accountv1.LookupRecipientsResponse, error) {
	u.mu.Lock()
	away, hung := u.away, u.hung
	u.mu.Unlock()
	if hung != nil {
		select {
		case <-hung:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if away != nil {
		return nil, away
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	resp := &accountv1.LookupRecipientsResponse{}
	for _, name := range req.GetUsernames() {
		exists := name != "admin" && (len(name) < 6 || name[:6] != "nobody")
		resp.Recipients = append(resp.Recipients, &accountv1.Recipient{Exists: exists, Blocked: u.blocked[name], MutedChat: u.muted[name]})
	}
	return resp, nil
}

func (u *users) GetUser(_ context.Context, req *accountv1.GetUserRequest) (*accountv1.GetUserResponse, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if x, ok := u.known[req.GetUsername()]; ok {
		return &accountv1.GetUserResponse{User: x}, nil
	}
	if u.known != nil || strings.HasPrefix(req.GetUsername(), "nobody") {
		return nil, errs.NotFound()
	}
	return &accountv1.GetUserResponse{User: &accountv1.User{Username: strings.ToLower(req.GetUsername())}}, nil
}

type presence struct {
	presencev1.UnimplementedPresenceServiceServer
}

func (presence) BatchGetOnlineStatus(_ context.Context, req *presencev1.BatchGetOnlineStatusRequest) (*presencev1.BatchGetOnlineStatusResponse, error) {
	resp := &presencev1.BatchGetOnlineStatusResponse{}
	for _, u := range req.GetUsernames() {
		resp.Online = append(resp.Online, u == "online")
	}
	return resp, nil
}

// pacer is a limiter with one budget for each app.
type pacer struct {
	limiterv1.UnimplementedLimiterServiceServer
	rate  int64
	began time.Time
	mu    sync.Mutex
	by    map[string]*rate.Pacer
	last  map[string]int64
}

func (p *pacer) Reserve(_ context.Context, req *limiterv1.ReserveRequest) (*limiterv1.ReserveResponse, error) {
	if p.rate == 0 || req.GetApp() == "free" {
		return &limiterv1.ReserveResponse{Unlimited: true}, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.by[req.GetApp()]
	if g == nil {
		g = &rate.Pacer{}
		p.by[req.GetApp()] = g
	}
	granted, delay := g.Reserve(time.Since(p.began).Nanoseconds(), rate.Budget{PerSecond: p.rate, Burst: p.rate}, req.GetCost(), req.GetMaxDelayMs()*1e6)
	return &limiterv1.ReserveResponse{Granted: granted, DelayUs: delay / 1e3}, nil
}

func (p *pacer) ReportBacklog(_ context.Context, req *limiterv1.ReportBacklogRequest) (*limiterv1.ReportBacklogResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[req.GetApp()] = req.GetDeliveries()
	return &limiterv1.ReportBacklogResponse{}, nil
}

// rig is a messaging service with everything around it.
type rig struct {
	t       testing.TB
	nats    *embed.NATS
	etcd    *etcdx.Client
	db      *store.DB
	apps    apps
	users   *users
	pacer   *pacer
	service *messaging.Service
	// ahead is how far the service's clock runs ahead.
	ahead atomic.Int64
	push  bool
	conn  *natsx.Conn
	// natsURL is where, with natsToken, the service finds NATS; empty connects it to nats.
	natsURL string
	// logBytes bounds the log.
	logBytes int64
	// second says that another service is alive beside this one.
	second  bool
	metrics *prometheus.Registry
	send    messagingv1.MessagingServiceClient
	sync    messagingv1.SyncServiceClient
}

func newRig(t testing.TB, pace int64) *rig {
	t.Helper()
	return newRigOn(t, pace, testkit.SQLite(t, "messaging", nil))
}

func newRigOn(t testing.TB, pace int64, db *store.DB) *rig {
	t.Helper()
	r := newIdleRig(t, pace, db)
	r.nats = testkit.NATSServer(t)
	r.conn = testkit.Connect(t, r.nats)
	r.start()
	t.Cleanup(r.stop)
	return r
}

// newIdleRig is a rig without NATS and whose service has not started.
func newIdleRig(t testing.TB, pace int64, db *store.DB) *rig {
	t.Helper()
	seeds, err := tier.Seeds()
	require.NoError(t, err)
	compiled, err := tier.Compile(seeds[len(seeds)-1])
	require.NoError(t, err)
	r := &rig{
		t: t, etcd: testkit.Etcd(t), db: db,
		users: &users{blocked: map[string][]string{}, muted: map[string]int64{}},
		pacer: &pacer{rate: pace, began: time.Now(), by: map[string]*rate.Pacer{}, last: map[string]int64{}},
		apps:  apps{},
	}
	for i, name := range []string{"shop", "other", "free", "strict"} {
		r.apps["acme#"+name] = &catalog.App{
			Org: "acme", Name: name, Key: "acme#" + name, Number: int64(i + 1), Tier: compiled,
			Settings: catalog.Settings{RESTSendChecks: name == "strict"},
		}
	}
	return r
}

// beside is a further service on the same NATS, etcd and database.
func (r *rig) beside() *rig {
	return &rig{
		t: r.t, nats: r.nats, etcd: r.etcd, db: r.db, apps: r.apps, users: r.users, pacer: r.pacer,
		natsURL: r.natsURL, second: true,
	}
}

// another returns a further service that runs.
func (r *rig) another() *rig {
	r.t.Helper()
	other := r.beside()
	other.conn = r.conn
	other.start()
	r.t.Cleanup(other.stop)
	return other
}

func (r *rig) start() {
	logger := testkit.Logger(r.t)
	ch := grpcx.NewChannel(grpcx.NewInterceptors(logger, prometheus.NewRegistry()))
	accountv1.RegisterUserServiceServer(ch, r.users)
	accountv1.RegisterPushServiceServer(ch, pushes{users: r.users})
	presencev1.RegisterPresenceServiceServer(ch, presence{})
	limiterv1.RegisterLimiterServiceServer(ch, r.pacer)
	cfg := messaging.DefaultConfig()
	cfg.TakeOver, cfg.PushEvents = !r.second, r.push
	cfg.LogBytes = r.logBytes
	cfg.RetentionEvery = 20 * time.Millisecond
	var conn *natsx.Conn
	if r.natsURL == "" {
		conn = testkit.Connect(r.t, r.nats)
	} else {
		var err error
		conn, err = natsx.Connect(r.t.Context(), natsx.Config{URL: r.natsURL, Token: natsToken, Logger: logger})
		require.NoError(r.t, err)
		r.t.Cleanup(func() { _ = conn.Drain(context.Background()) })
	}
	r.metrics = prometheus.NewRegistry()
	s, err := messaging.New(cfg, messaging.Deps{
		DB: r.db, NATS: conn, Etcd: r.etcd, Apps: r.apps,
		Users: accountv1.NewUserServiceClient(ch.Conn()), Push: accountv1.NewPushServiceClient(ch.Conn()), Presence: presencev1.NewPresenceServiceClient(ch.Conn()),
		Limiter: limiterv1.NewLimiterServiceClient(ch.Conn()), Logger: logger, Registerer: r.metrics,
		Now: func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) },
	})
	require.NoError(r.t, err)
	s.Register(ch)
	require.NoError(r.t, s.Start(r.t.Context()))
	r.service = s
	r.send = messagingv1.NewMessagingServiceClient(ch.Conn())
	r.sync = messagingv1.NewSyncServiceClient(ch.Conn())
}

func (r *rig) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(r.t, r.service.Stop(ctx))
}

func txt(from, text string, to ...string) *messagingv1.SendToUsersRequest {
	return &messagingv1.SendToUsersRequest{Org: "acme", App: "shop", From: &from, To: to, Type: "txt", Body: []byte(`{"msg":` + strconv.Quote(text) + `}`)}
}

// rest marks a call as one that came in by REST.
func rest(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, messaging.SourceMetadata, "rest")
}

func (r *rig) listen(app, user string) chan *natsx.Msg {
	ch := make(chan *natsx.Msg, 1<<16)
	_, err := r.conn.SubscribeChan(bus.UserSubject(app, user), ch)
	require.NoError(r.t, err)
	require.NoError(r.t, r.conn.Flush(r.t.Context()))
	return ch
}

func next(t testing.TB, ch chan *natsx.Msg) *busv1.Delivery {
	t.Helper()
	select {
	case m := <-ch:
		var p busv1.Push
		require.NoError(t, proto.Unmarshal(m.Data, &p))
		return p.GetDelivery()
	case <-time.After(10 * time.Second):
		require.FailNow(t, "nothing was pushed")
		return nil
	}
}

func (r *rig) archived(conversation string, n int) []*messagingv1.Message {
	r.t.Helper()
	var got []*messagingv1.Message
	require.Eventually(r.t, func() bool {
		resp, err := r.send.ListMessages(r.t.Context(), &messagingv1.ListMessagesRequest{Org: "acme", App: "shop", Conversation: conversation, Limit: 1000})
		if err != nil {
			return false
		}
		got = resp.GetMessages()
		return len(got) >= n
	}, 20*time.Second, 10*time.Millisecond, "archive of %s", conversation)
	require.Len(r.t, got, n)
	return got
}

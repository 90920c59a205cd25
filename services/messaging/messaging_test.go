package messaging_test

import (
	"context"
	"encoding/json"
	"fmt"
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
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
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
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
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

func TestSendIsPushedAndArchivedInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	pushed := r.listen("acme#shop", "omar")
	var ids []string
	for i := range 20 {
		resp, err := r.send.SendToUsers(t.Context(), txt("Lena", fmt.Sprintf("m%d", i), "Omar"))
		require.NoError(t, err)
		require.Equal(t, "omar", resp.GetResults()[0].GetTarget())
		ids = append(ids, resp.GetResults()[0].GetMessageId())
	}
	for i, m := range r.archived("lena~omar", 20) {
		require.Equal(t, int64(i+1), m.GetSeq())
		require.Equal(t, ids[i], m.GetId())
		require.Equal(t, "lena", m.GetFrom())
		require.JSONEq(t, fmt.Sprintf(`{"bodies":[{"type":"txt","msg":"m%d"}],"ext":{}}`, i), m.GetPayload())
	}
	for i := range 20 {
		d := next(t, pushed)
		require.Equal(t, int64(i+1), d.GetSeq())
		require.Equal(t, ids[i], strconv.FormatInt(d.GetId(), 10))
		require.Equal(t, "omar", d.GetTo())
	}
}

func TestSendToManyGivesEachTargetItsOwnMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	r.users.blocked["dario"] = []string{"lena"}
	var to []string
	for i := range 598 {
		to = append(to, fmt.Sprintf("u%d", i))
	}
	to = append(to, "nobody1", "Dario")
	last := r.listen("acme#shop", "u597")
	blocking := r.listen("acme#shop", "dario")
	resp, err := r.send.SendToUsers(t.Context(), txt("lena", "all", append(to, "U0")...))
	require.Error(t, err, "601 targets")
	require.Equal(t, "params to's size can't exceed limit 600", errs.From(err).Message)
	require.Nil(t, resp)
	resp, err = r.send.SendToUsers(t.Context(), txt("lena", "all", to...))
	require.NoError(t, err)
	require.Len(t, resp.GetResults(), 600)
	seen := map[string]bool{}
	for _, x := range resp.GetResults() {
		require.False(t, seen[x.GetMessageId()])
		seen[x.GetMessageId()] = true
	}
	require.Equal(t, int64(1), next(t, last).GetSeq())
	require.Len(t, r.archived("lena~u597", 1), 1)
	require.Len(t, r.archived("lena~u0", 1), 1)
	require.Equal(t, int64(1), next(t, blocking).GetSeq(), "block lists do not count here")
	_, err = r.send.ListMessages(t.Context(), &messagingv1.ListMessagesRequest{Org: "acme", App: "shop", Conversation: "lena~nobody1"})
	require.True(t, errs.Is(err, errs.ReasonNotFound))
}

func TestBadSendsAreRefusedAndStoreNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	r.users.muted["moritz"] = -1
	body := func(n int) []byte {
		b := []byte(`{"msg":"`)
		for range n {
			b = append(b, 'x')
		}
		return append(b, `"}`...)
	}
	type edit = func(*messagingv1.SendToUsersRequest)
	send := func(text string) *errs.Error { return errs.MessageRefused(text) }
	for name, c := range map[string]struct {
		edit edit
		want *errs.Error
	}{
		"empty from":        {func(q *messagingv1.SendToUsersRequest) { q.From = proto.String("") }, send("param from can't be empty").WithCode(14001)},
		"impossible from":   {func(q *messagingv1.SendToUsersRequest) { q.From = proto.String("a b") }, send("param from is illegal")},
		"no targets":        {func(q *messagingv1.SendToUsersRequest) { q.To = nil }, send("param to can't be empty").WithCode(14002)},
		"a target of no ID": {func(q *messagingv1.SendToUsersRequest) { q.To = []string{"omar", ""} }, send("param to can't be empty").WithCode(14002)},
		"unknown type":      {func(q *messagingv1.SendToUsersRequest) { q.Type = "smell" }, send("param type is illegal")},
		"no type":           {func(q *messagingv1.SendToUsersRequest) { q.Type = "" }, send("param type can't be empty")},
		"no body":           {func(q *messagingv1.SendToUsersRequest) { q.Body = nil }, send("param body can't be empty").WithCode(14005)},
		"null for a body":   {func(q *messagingv1.SendToUsersRequest) { q.Body = []byte(`null`) }, send("param body can't be empty").WithCode(14005)},
		"empty body":        {func(q *messagingv1.SendToUsersRequest) { q.Body = []byte(`{ }`) }, send("param body can't be empty").WithCode(14005)},
		"body is no object": {func(q *messagingv1.SendToUsersRequest) { q.Body = []byte(`[1]`) }, send("param body is illegal")},
		"text is a number":  {func(q *messagingv1.SendToUsersRequest) { q.Body = []byte(`{"msg":7}`) }, errs.InvalidBody()},
		"no text":           {func(q *messagingv1.SendToUsersRequest) { q.Body = []byte(`{"x":7}`) }, send("param body.msg is illegal")},
		"ext is null":       {func(q *messagingv1.SendToUsersRequest) { q.Ext = []byte(`null`) }, send("param ext must be JSONObject")},
		"ext is a list":     {func(q *messagingv1.SendToUsersRequest) { q.Ext = []byte(`[]`) }, send("param ext must be JSONObject")},
		"601 targets":       {func(q *messagingv1.SendToUsersRequest) { q.To = make601() }, send("params to's size can't exceed limit 600")},
		"5121 bytes":        {func(q *messagingv1.SendToUsersRequest) { q.Body = body(5121) }, send("message is too large").WithCode(14007)},
		"40961 bytes":       {func(q *messagingv1.SendToUsersRequest) { q.Body = body(40961) }, send("message is too large").WithCode(14007)},
		"unknown app":       {func(q *messagingv1.SendToUsersRequest) { q.App = "none" }, errs.AppNotFound("acme", "none")},
		"routetype":         {func(q *messagingv1.SendToUsersRequest) { q.Routetype = "ROUTE_66" }, send("param routetype is illegal")},
		"before all time":   {func(q *messagingv1.SendToUsersRequest) { q.MsgTimestamp = -1 }, send("param msg_timestamp is illegal")},
		"custom event":      {func(q *messagingv1.SendToUsersRequest) { q.Type, q.Body = "custom", []byte(`{"customEvent":"a b"}`) }, send("param body.customEvent is illegal")},
		"muted, strict app": {func(q *messagingv1.SendToUsersRequest) { q.App, q.From = "strict", proto.String("moritz") }, errs.Forbidden("user moritz is muted")},
		"size before mute": {func(q *messagingv1.SendToUsersRequest) {
			q.App, q.From, q.Body = "strict", proto.String("moritz"), body(5121)
		}, send("message is too large").WithCode(14007)},
		"from before to":     {func(q *messagingv1.SendToUsersRequest) { q.From, q.To = proto.String(""), nil }, send("param from can't be empty").WithCode(14001)},
		"to before type":     {func(q *messagingv1.SendToUsersRequest) { q.To, q.Type = nil, "" }, send("param to can't be empty").WithCode(14002)},
		"type before body":   {func(q *messagingv1.SendToUsersRequest) { q.Type, q.Body = "", nil }, send("param type can't be empty")},
		"body before ext":    {func(q *messagingv1.SendToUsersRequest) { q.Body, q.Ext = nil, []byte(`7`) }, send("param body can't be empty").WithCode(14005)},
		"ext before targets": {func(q *messagingv1.SendToUsersRequest) { q.Ext, q.To = []byte(`7`), make601() }, send("param ext must be JSONObject")},
		"targets before all": {func(q *messagingv1.SendToUsersRequest) { q.Type, q.To = "smell", make601() }, send("params to's size can't exceed limit 600")},
		"location, no height": {func(q *messagingv1.SendToUsersRequest) {
			q.Type, q.Body = "loc", []byte(`{"lat":"x","lng":1,"addr":""}`)
		}, send("param body.lat is illegal")},
	} {
		t.Run(name, func(t *testing.T) {
			req := txt("lena", "hi", "omar")
			c.edit(req)
			_, err := r.send.SendToUsers(t.Context(), req)
			got := errs.From(err)
			require.Error(t, err)
			require.Equal(t, *c.want, errs.Error{Code: got.Code, Reason: got.Reason, Message: got.Message, Metadata: got.Metadata})
		})
	}
	_, err := r.send.ListMessages(t.Context(), &messagingv1.ListMessagesRequest{Org: "acme", App: "shop", Conversation: "lena~omar"})
	require.True(t, errs.Is(err, errs.ReasonNotFound), "nothing was stored")
	req := txt("lena", "", "omar")
	req.Body = body(5120)
	_, err = r.send.SendToUsers(t.Context(), req)
	require.NoError(t, err, "5,120 bytes pass")
	_, err = r.send.SendToUsers(t.Context(), txt("moritz", "hi", "omar"))
	require.NoError(t, err, "a mute does not count where the app does not say so")
	req = txt("", "hi", "omar")
	req.App, req.From = "strict", nil
	_, err = r.send.SendToUsers(t.Context(), req)
	require.NoError(t, err, "the app itself is not muted")
}

func make601() []string {
	to := make([]string, 601)
	for i := range to {
		to[i] = fmt.Sprintf("u%d", i)
	}
	return to
}

func clientMeta(t testing.TB, to string, mb *msyncv1.MessageBody) []byte {
	t.Helper()
	payload, err := proto.Marshal(mb)
	require.NoError(t, err)
	b, err := proto.Marshal(&msyncv1.Meta{
		Id: proto.Uint64(7), To: &msyncv1.JID{Name: &to, Domain: proto.String("easemob.com")},
		Ns: msyncv1.Meta_CHAT.Enum(), Payload: payload,
	})
	require.NoError(t, err)
	return b
}

func TestDevicesCatchUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	ctx := t.Context()
	open := func(user, resource string) []*messagingv1.DeviceQueue {
		resp, err := r.sync.OpenDevice(ctx, &messagingv1.OpenDeviceRequest{Org: "acme", App: "shop", User: user, Resource: resource})
		require.NoError(t, err)
		return resp.GetQueues()
	}
	require.Empty(t, open("omar", "web_1"))
	for i := range 5 {
		_, err := r.send.SendToUsers(ctx, txt("lena", strconv.Itoa(i), "omar"))
		require.NoError(t, err)
	}
	// A message of omar's first device, of which lena and his others get copies.
	resp, err := r.send.SendFromClient(ctx, &messagingv1.SendFromClientRequest{
		Org: "acme", App: "shop", User: "omar", Resource: "web_1",
		Meta: clientMeta(t, "lena", &msyncv1.MessageBody{
			Type: msyncv1.MessageBody_CHAT.Enum(), From: &msyncv1.JID{Name: proto.String("forged")},
			Contents: []*msyncv1.MessageBody_Content{{Type: msyncv1.MessageBody_Content_TEXT.Enum(), Text: proto.String("back")}},
		}),
	})
	require.NoError(t, err)
	r.archived("lena~omar", 6)

	queues := open("omar", "web_1")
	require.Len(t, queues, 1)
	require.Equal(t, "lena", queues[0].GetPeer())
	require.Equal(t, int64(6), queues[0].GetLastSeq())
	pull := func(user, resource string, after int64) *messagingv1.PullConversationResponse {
		p, err := r.sync.PullConversation(ctx, &messagingv1.PullConversationRequest{
			Org: "acme", App: "shop", User: user, Resource: resource, Conversation: "lena~omar", AfterSeq: after, Limit: 4,
		})
		require.NoError(t, err)
		return p
	}
	page := pull("omar", "web_1", 0)
	require.Len(t, page.GetEntries(), 4)
	require.Equal(t, int64(6), page.GetLastSeq())
	page = pull("omar", "web_1", page.GetThroughSeq())
	require.Len(t, page.GetEntries(), 1, "its own message is not shown to the device that sent it")
	require.Equal(t, int64(6), page.GetThroughSeq())

	count := func(user string) int64 {
		c, err := r.send.GetOfflineMessageCount(ctx, &messagingv1.GetOfflineMessageCountRequest{Org: "acme", App: "shop", Username: user})
		require.NoError(t, err)
		return c.GetCount()
	}
	require.Equal(t, int64(5), count("omar"))
	require.Equal(t, int64(1), count("lena"))
	oldest := strconv.FormatInt(pull("omar", "web_1", 0).GetEntries()[0].GetId(), 10)
	delivered := func(user, id string) bool {
		d, err := r.send.GetOfflineMessageStatus(ctx, &messagingv1.GetOfflineMessageStatusRequest{Org: "acme", App: "shop", Username: user, MessageId: id})
		require.NoError(t, err)
		return d.GetDelivered()
	}
	require.False(t, delivered("omar", oldest))
	require.True(t, delivered("lena", oldest), "nobody waits for what they sent")
	require.True(t, delivered("omar", "17"), "an unknown one waits for nobody")
	confirm := func(resource string, seq int64) {
		_, err := r.sync.ConfirmDevices(ctx, &messagingv1.ConfirmDevicesRequest{Positions: []*messagingv1.DevicePosition{
			{Org: "acme", App: "shop", User: "omar", Resource: resource, Conversation: "lena~omar", Seq: seq},
		}})
		require.NoError(t, err)
	}
	confirm("web_1", 3)
	require.True(t, delivered("omar", oldest))
	second := open("omar", "web_2")
	require.Equal(t, int64(3), second[0].GetConfirmedSeq(), "a new device begins where the others are")
	confirm("web_1", 6)
	confirm("web_1", 2)
	require.Empty(t, open("omar", "web_1"), "positions never move back")
	require.Equal(t, int64(3), open("omar", "web_2")[0].GetConfirmedSeq(), "and another device does not move this one")
	require.Len(t, pull("omar", "web_2", 5).GetEntries(), 1, "other devices get a copy")
	require.Zero(t, count("omar"))

	page = pull("lena", "web_9", 5)
	require.Len(t, page.GetEntries(), 1)
	require.Equal(t, resp.GetMessageId(), page.GetEntries()[0].GetId())
	var mb msyncv1.MessageBody
	require.NoError(t, proto.Unmarshal(page.GetEntries()[0].GetBody(), &mb))
	require.Nil(t, mb.GetFrom(), "a forged sender is gone; gateways write who it was")
	require.Equal(t, "omar", page.GetEntries()[0].GetFrom())
	_, err = r.sync.PullConversation(ctx, &messagingv1.PullConversationRequest{Org: "acme", App: "shop", User: "eve", Conversation: "lena~omar"})
	require.NoError(t, err)
}

func TestStrangersPullNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	_, err := r.send.SendToUsers(t.Context(), txt("lena", "secret", "omar"))
	require.NoError(t, err)
	r.archived("lena~omar", 1)
	page, err := r.sync.PullConversation(t.Context(), &messagingv1.PullConversationRequest{Org: "acme", App: "shop", User: "eve", Resource: "web_1", Conversation: "lena~omar"})
	require.NoError(t, err)
	require.Empty(t, page.GetEntries())
	page, err = r.sync.PullConversation(t.Context(), &messagingv1.PullConversationRequest{Org: "acme", App: "other", User: "omar", Resource: "web_1", Conversation: "lena~omar"})
	require.NoError(t, err)
	require.Empty(t, page.GetEntries(), "apps are apart")
}

func TestClientRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	r.users.blocked["dario"] = []string{"lena"}
	r.users.muted["moritz"] = time.Now().Add(time.Hour).UnixMilli()
	text := func(n int) *msyncv1.MessageBody {
		return &msyncv1.MessageBody{Type: msyncv1.MessageBody_CHAT.Enum(), Contents: []*msyncv1.MessageBody_Content{
			{Type: msyncv1.MessageBody_Content_TEXT.Enum(), Text: proto.String(string(make([]byte, n)))},
		}}
	}
	for name, c := range map[string]struct {
		user, to string
		body     *msyncv1.MessageBody
		code     string
		text     string
	}{
		"blocked":                   {"lena", "dario", text(1), "1", "blocked"},
		"muted":                     {"moritz", "lena", text(1), "15", "user is mute"},
		"too large":                 {"lena", "omar", text(5121), "7", "Sorry, data is too large"},
		"recall":                    {"lena", "omar", &msyncv1.MessageBody{Type: msyncv1.MessageBody_RECALL.Enum(), AckMessageId: proto.Uint64(1)}, "1", "message recall disabled"},
		"edit":                      {"lena", "omar", &msyncv1.MessageBody{Type: msyncv1.MessageBody_EDIT.Enum()}, "1", "Sorry, edit is not available"},
		"ack of nothing, in a list": {"lena", "omar", &msyncv1.MessageBody{Type: msyncv1.MessageBody_READ_ACK.Enum(), AckMessageIds: []uint64{5, 0}}, "", errs.MessageInvalidRequest},
		"ack of nothing":            {"lena", "omar", &msyncv1.MessageBody{Type: msyncv1.MessageBody_READ_ACK.Enum()}, "", errs.MessageInvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.send.SendFromClient(t.Context(), &messagingv1.SendFromClientRequest{
				Org: "acme", App: "shop", User: c.user, Resource: "web_1", Meta: clientMeta(t, c.to, c.body),
			})
			e := errs.From(err)
			require.Equal(t, c.text, e.Message)
			require.Equal(t, c.code, e.Metadata[messaging.MetadataSyncCode])
		})
	}
}

// TestReadReceiptsOfMany sends one receipt of several messages, as clients of the
// fifth generation do, in both encodings of the list. It arrives as it was sent.
func TestReadReceiptsOfMany(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	ids := []uint64{1029457500870543736, 1029457500870543737, 1<<64 - 1}
	packed := &msyncv1.MessageBody{Type: msyncv1.MessageBody_READ_ACK.Enum(), Contents: []*msyncv1.MessageBody_Content{{}}}
	var list []byte
	for _, id := range ids {
		list = protowire.AppendVarint(list, id)
	}
	packed.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 17, protowire.BytesType), list))
	for n, body := range []*msyncv1.MessageBody{
		{Type: msyncv1.MessageBody_READ_ACK.Enum(), AckMessageIds: ids, Contents: []*msyncv1.MessageBody_Content{{}}}, packed,
	} {
		_, err := r.send.SendFromClient(t.Context(), &messagingv1.SendFromClientRequest{
			Org: "acme", App: "shop", User: "omar", Resource: "web_" + strconv.Itoa(n), Meta: clientMeta(t, "lena", body),
		})
		require.NoError(t, err)
		r.archived("lena~omar", n+1)
		page, err := r.sync.PullConversation(t.Context(), &messagingv1.PullConversationRequest{
			Org: "acme", App: "shop", User: "lena", Resource: "web_9", Conversation: "lena~omar", AfterSeq: int64(n), Limit: 5,
		})
		require.NoError(t, err)
		require.Len(t, page.GetEntries(), 1)
		var got msyncv1.MessageBody
		require.NoError(t, proto.Unmarshal(page.GetEntries()[0].GetBody(), &got))
		require.Equal(t, ids, got.GetAckMessageIds())
		require.Nil(t, got.AckMessageId)
	}
}

func TestSubscribeResumes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	subscribe := func(ctx context.Context, cursor, user string) grpc.ServerStreamingClient[messagingv1.SubscribeResponse] {
		s, err := r.send.Subscribe(ctx, &messagingv1.SubscribeRequest{Org: "acme", App: "shop", Cursor: cursor, User: user})
		require.NoError(t, err)
		first, err := s.Recv()
		require.NoError(t, err)
		require.Nil(t, first.GetMessage())
		require.NotEmpty(t, first.GetCursor())
		return s
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := subscribe(ctx, "", "")
	_, err := r.send.SendToUsers(t.Context(), txt("lena", "many", "a", "b", "c", "d", "e", "f", "g", "h"))
	require.NoError(t, err)
	got := map[string]int{}
	var cursor string
	for range 3 {
		m, err := s.Recv()
		require.NoError(t, err)
		got[m.GetMessage().GetTo()]++
		cursor = m.GetCursor()
	}
	cancel()
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	s = subscribe(ctx, cursor, "")
	for range 5 {
		m, err := s.Recv()
		require.NoError(t, err)
		got[m.GetMessage().GetTo()]++
	}
	require.Equal(t, map[string]int{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1, "g": 1, "h": 1}, got)
	one := subscribe(ctx, "", "omar")
	_, err = r.send.SendToUsers(t.Context(), txt("lena", "x", "nils", "omar"))
	require.NoError(t, err)
	m, err := one.Recv()
	require.NoError(t, err)
	require.Equal(t, "omar", m.GetMessage().GetTo())
	bad, err := r.send.Subscribe(ctx, &messagingv1.SubscribeRequest{Org: "acme", App: "shop", Cursor: "nonsense"})
	require.NoError(t, err)
	_, err = bad.Recv()
	require.Equal(t, errs.ReasonIllegalArgument, errs.From(err).Reason)
}

func TestPacedDeliveriesWaitAndOthersDoNot(t *testing.T) {
	t.Parallel()
	r := newRig(t, 200)
	var to []string
	var chans []chan *natsx.Msg
	for i := range 100 {
		to = append(to, fmt.Sprintf("p%d", i))
		chans = append(chans, r.listen("acme#shop", to[i]))
	}
	other := r.listen("acme#other", "omar")
	began := time.Now()
	for i := range 6 {
		_, err := r.send.SendToUsers(rest(t.Context()), txt("lena", strconv.Itoa(i), to...))
		require.NoError(t, err)
	}
	quick := txt("lena", "quick", "omar")
	quick.App = "other"
	_, err := r.send.SendToUsers(rest(t.Context()), quick)
	require.NoError(t, err)
	require.Equal(t, "omar", next(t, other).GetTo())
	// Any one of them may have all of its own by now: partitions share the
	// first burst as they come.
	arrived := 0
	for _, ch := range chans {
		arrived += len(ch)
	}
	require.Less(t, arrived, 600, "the other app's message came while this one's were waiting")
	for _, ch := range chans {
		for seq := range 6 {
			require.Equal(t, int64(seq+1), next(t, ch).GetSeq())
		}
	}
	// 600 deliveries, 200 at once and 200 a second.
	require.GreaterOrEqual(t, time.Since(began), 1900*time.Millisecond)
	require.Eventually(t, func() bool {
		r.pacer.mu.Lock()
		defer r.pacer.mu.Unlock()
		n, reported := r.pacer.last["shop"]
		return reported && n == 0
	}, 10*time.Second, 20*time.Millisecond, "the backlog was reported and is gone")
}

func TestRestartGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	for i := range 3 {
		for j := range 10 {
			_, err := r.send.SendToUsers(t.Context(), txt("lena", fmt.Sprintf("%d-%d", i, j), "omar"))
			require.NoError(t, err)
		}
		r.stop()
		r.start()
	}
	for i, m := range r.archived("lena~omar", 30) {
		require.Equal(t, int64(i+1), m.GetSeq())
	}
}

func TestRetentionDeletesAndKeepsPlaces(t *testing.T) {
	t.Parallel()
	testkit.EachDatabase(t, "messaging", nil, func(t *testing.T, db *store.DB) {
		r := newRigOn(t, 0, db)
		for i := range 3 {
			_, err := r.send.SendToUsers(t.Context(), txt("lena", strconv.Itoa(i), "omar"))
			require.NoError(t, err)
		}
		r.archived("lena~omar", 3)
		days := r.apps["acme#shop"].Tier.Retention()
		require.Positive(t, days)
		r.ahead.Store(int64(days - time.Hour))
		_, err := r.send.SendToUsers(t.Context(), txt("lena", "young", "omar"))
		require.NoError(t, err)
		require.Len(t, r.archived("lena~omar", 4), 4, "nothing is deleted before its time")
		r.ahead.Store(int64(days + time.Minute))
		left := func() []*messagingv1.Message {
			resp, err := r.send.ListMessages(t.Context(), &messagingv1.ListMessagesRequest{Org: "acme", App: "shop", Conversation: "lena~omar"})
			require.NoError(t, err)
			return resp.GetMessages()
		}
		require.Eventually(t, func() bool { return len(left()) == 1 }, 10*time.Second, 10*time.Millisecond)
		require.Equal(t, int64(4), left()[0].GetSeq())
		page, err := r.sync.PullConversation(t.Context(), &messagingv1.PullConversationRequest{Org: "acme", App: "shop", User: "omar", Resource: "w", Conversation: "lena~omar"})
		require.NoError(t, err)
		require.Len(t, page.GetEntries(), 1, "offline and history agree")
		r.ahead.Store(int64(3 * days))
		require.Eventually(t, func() bool { return len(left()) == 0 }, 10*time.Second, 10*time.Millisecond)
		r.stop()
		r.start()
		_, err = r.send.SendToUsers(t.Context(), txt("lena", "next", "omar"))
		require.NoError(t, err)
		require.Equal(t, int64(5), r.archived("lena~omar", 1)[0].GetSeq(), "places are not given out twice")
	})
}

func TestPushEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	r.stop()
	r.push = true
	hour := int32(time.Now().UTC().Hour())
	other := (hour + 5) % 24
	r.users.known = map[string]*accountv1.User{
		"lena":   {Username: "lena", Nickname: proto.String("Lena L.")},
		"plain":  {Username: "plain"},
		"full":   {Username: "full", NotificationDisplayStyle: proto.Int32(1), DeviceToken: proto.String("tok"), NotifierName: proto.String("fcm")},
		"quiet":  {Username: "quiet", NotificationNoDisturbing: proto.Bool(true), NotificationNoDisturbingStart: &hour, NotificationNoDisturbingEnd: &hour},
		"awake":  {Username: "awake", NotificationNoDisturbing: proto.Bool(true), NotificationNoDisturbingStart: &other, NotificationNoDisturbingEnd: proto.Int32((other + 1) % 24)},
		"online": {Username: "online"},
		"hushed": {Username: "hushed"},
		"devices": {Username: "devices", PushInfo: []*accountv1.PushBinding{
			{DeviceId: "d1", NotifierName: "fcm", DeviceToken: "t1"}, {DeviceId: "d2", NotifierName: "apns", DeviceToken: "t2"},
		}},
	}
	r.users.wants = map[string]*accountv1.LookupPushResponse{
		"hushed":  {Own: &accountv1.Notification{Type: "ALL"}, Users: []*accountv1.TargetNotification{{Target: "lena", Notification: &accountv1.Notification{Type: "NONE"}}}},
		"devices": {Own: &accountv1.Notification{Type: "ALL"}, Language: "FR", Template: &accountv1.Template{Name: "t", TitlePattern: "x", ContentPattern: "y"}},
	}
	r.start()
	events := make(chan *natsx.Msg, 64)
	_, err := r.conn.SubscribeChan(bus.PushFilter, events)
	require.NoError(t, err)
	require.NoError(t, r.conn.Flush(t.Context()))
	send := func(req *messagingv1.SendToUsersRequest, ext string) {
		if ext != "" {
			req.Ext = []byte(ext)
		}
		_, err := r.send.SendToUsers(t.Context(), req)
		require.NoError(t, err)
	}
	got := map[string]messaging.PushEvent{}
	collect := func(n int) {
		for range n {
			select {
			case m := <-events:
				var e messaging.PushEvent
				require.NoError(t, json.Unmarshal(m.Data, &e))
				require.NotContains(t, got, e.User+" "+string(e.Ext))
				got[e.User+" "+string(e.Ext)] = e
			case <-time.After(10 * time.Second):
				require.FailNow(t, "an event is missing", "%v", got)
			}
		}
	}
	all := []string{"plain", "full", "quiet", "awake", "online", "hushed", "devices"}
	send(txt("lena", "see you", all...), "")
	collect(4)
	require.Equal(t, []messaging.PushBinding{{DeviceID: "d1", NotifierName: "fcm", DeviceToken: "t1"}, {DeviceID: "d2", NotifierName: "apns", DeviceToken: "t2"}}, got["devices {}"].Bindings)
	require.Equal(t, "FR", got["devices {}"].Language)
	require.Equal(t, &messaging.PushTemplate{Name: "t", TitlePattern: "x", ContentPattern: "y"}, got["devices {}"].Template)
	require.Equal(t, "You have a new message", got["plain {}"].Text)
	require.Empty(t, got["plain {}"].Title, "the plain style says nothing of the message")
	full := got["full {}"]
	require.Equal(t, "Lena L.", full.Title)
	require.Equal(t, "see you", full.Text)
	require.Equal(t, "tok", full.DeviceToken)
	require.Equal(t, "acme#shop", full.App)
	require.Contains(t, got, "awake {}")
	send(txt("lena", "urgent", "quiet", "plain"), `{"em_force_notification":true}`)
	collect(2)
	require.Contains(t, got, `quiet {"em_force_notification":true}`)
	send(txt("lena", "hush", all...), `{"em_ignore_notification":true}`)
	cmd := txt("lena", "", "plain")
	cmd.Type, cmd.Body = "cmd", []byte(`{"action":"x"}`)
	send(cmd, "")
	now := txt("lena", "now", "plain")
	now.Routetype = "ROUTE_ONLINE"
	send(now, "")
	send(txt("lena", "last", "plain"), `{"last":1}`)
	collect(1)
	require.Contains(t, got, `plain {"last":1}`, "nothing came in between")
	require.Empty(t, events)
}

// A device confirms what it was pushed, which may be before the archive has
// it: such positions come back, and none is ever stored of what is not archived.
func TestConfirmationsMayBeEarly(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	_, err := r.sync.OpenDevice(t.Context(), &messagingv1.OpenDeviceRequest{Org: "acme", App: "shop", User: "omar", Resource: "web_1"})
	require.NoError(t, err)
	pushed := r.listen("acme#shop", "omar")
	for i := range 20 {
		from := fmt.Sprintf("s%d", i)
		_, err := r.send.SendToUsers(t.Context(), txt(from, "first", "omar"))
		require.NoError(t, err)
		d := next(t, pushed)
		positions := []*messagingv1.DevicePosition{
			{Org: "acme", App: "shop", User: "omar", Resource: "web_1", Conversation: d.GetConversation(), Seq: d.GetSeq()},
			{Org: "acme", App: "shop", User: "omar", Resource: "web_1", Conversation: d.GetConversation(), Seq: d.GetSeq() + 1},
			{Org: "acme", App: "shop", User: "omar", Resource: "nowhere", Conversation: d.GetConversation(), Seq: d.GetSeq()},
		}
		require.Eventually(t, func() bool {
			resp, err := r.sync.ConfirmDevices(t.Context(), &messagingv1.ConfirmDevicesRequest{Positions: positions})
			require.NoError(t, err)
			early := resp.GetEarly()
			return len(early) == 1 && early[0].GetSeq() == d.GetSeq()+1
		}, 10*time.Second, time.Millisecond, "what was never sent stays early; what no device is for is no matter")
	}
	resp, err := r.sync.OpenDevice(t.Context(), &messagingv1.OpenDeviceRequest{Org: "acme", App: "shop", User: "omar", Resource: "web_1"})
	require.NoError(t, err)
	require.Empty(t, resp.GetQueues(), "all is confirmed")
}

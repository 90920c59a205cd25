package session_test

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/testkit"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
	"github.com/chappe-im/chappe/services/gateway/auth"
	"github.com/chappe-im/chappe/services/gateway/session"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const appKey = "acme#shop"

// backend stands for the services behind the gateway: an archive with device
// positions that pushes what is added to it, and a register of connections.
type backend struct {
	messagingv1.UnimplementedMessagingServiceServer
	messagingv1.UnimplementedSyncServiceServer
	presencev1.UnimplementedConnectionServiceServer

	nats *natsx.Conn

	mu        sync.Mutex
	nextID    int64
	entries   map[string][]*busv1.Delivery // by conversation
	positions map[string]map[string]int64  // by user/resource, then conversation
	members   map[string][]string          // of groups
	online    map[string]*presencev1.Connection
	opens     int
	pulls     int
	confirms  []time.Time // calls of ConfirmDevices
	// Faults that tests put in.
	refuse     error                        // answer of SendFromClient
	limit      error                        // answer of Connect
	confirming error                        // answer of ConfirmDevices
	early      int                          // calls of ConfirmDevices that come before the archive
	opening    error                        // answer of OpenDevice
	lose       func(d *busv1.Delivery) bool // pushes to drop
	lag        int64                        // entries that the archive is behind
	logged     [partitions]uint64           // last place of each partition's log
	asked      [][]string                   // conversations of each question for some only
	cut        int                          // most conversations of a list, if any
	onOpen     func(*messagingv1.OpenDeviceRequest) *messagingv1.OpenDeviceResponse
	sent       []*msyncv1.Meta
}

// partitions of the backend's log.
const partitions = 3

func newBackend(nc *natsx.Conn) *backend {
	return &backend{
		nats: nc, nextID: 1_000_000_000_000_000_000, entries: make(map[string][]*busv1.Delivery),
		positions: make(map[string]map[string]int64), online: make(map[string]*presencev1.Connection),
	}
}

// add stores an entry of a conversation of two and pushes it to both.
func (b *backend) add(t testing.TB, d *busv1.Delivery) *busv1.Delivery {
	t.Helper()
	d, err := b.store(d)
	require.NoError(t, err)
	return d
}

func (b *backend) store(d *busv1.Delivery) (*busv1.Delivery, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nextID++
	d.Id = b.nextID
	if d.GetKind() == busv1.Kind_KIND_UNSPECIFIED {
		d.Kind = busv1.Kind_KIND_USER
	}
	d.Conversation = d.GetTo()
	if d.GetKind() == busv1.Kind_KIND_USER {
		d.Conversation = string(ident.UserConversation(ident.UserID(d.GetFrom()), ident.UserID(d.GetTo())))
	}
	d.Seq = int64(len(b.entries[d.GetConversation()])) + 1
	d.Timestamp = 1_700_000_000_000 + d.GetSeq()
	p := bus.Partition(appKey, d.GetConversation(), partitions)
	b.logged[p]++
	d.LogPlace = b.logged[p]
	if before := b.entries[d.GetConversation()]; len(before) > 0 {
		d.LogPrevious = before[len(before)-1].GetLogPlace()
	}
	b.entries[d.GetConversation()] = append(b.entries[d.GetConversation()], d)
	if b.lose != nil && b.lose(d) {
		return d, nil
	}
	push, err := proto.Marshal(&busv1.Push{What: &busv1.Push_Delivery{Delivery: d}})
	if err != nil {
		return nil, err
	}
	if d.GetKind() != busv1.Kind_KIND_USER {
		return d, b.nats.Publish(bus.DeliverySubject(appKey, d.GetKind(), d.GetTo()), push)
	}
	for _, user := range []string{d.GetTo(), d.GetFrom()} {
		if err := b.nats.Publish(bus.UserSubject(appKey, user), push); err != nil {
			return nil, err
		}
		if d.GetTo() == d.GetFrom() {
			break
		}
	}
	return d, nil
}

// text stores a text.
func (b *backend) text(t testing.TB, from, to, text string) *busv1.Delivery {
	t.Helper()
	return b.add(t, &busv1.Delivery{From: from, To: to, Type: busv1.EntryType_ENTRY_TYPE_TXT, Body: textBody(t, from, text)})
}

func textBody(t testing.TB, from, text string) []byte {
	t.Helper()
	body, err := proto.Marshal(&msyncv1.MessageBody{
		Type: msyncv1.MessageBody_CHAT.Enum(), From: &msyncv1.JID{Name: proto.String(from)},
		Contents: []*msyncv1.MessageBody_Content{{Type: msyncv1.MessageBody_Content_TEXT.Enum(), Text: proto.String(text)}},
	})
	require.NoError(t, err)
	return body
}

func (b *backend) push(t testing.TB, user string, p *busv1.Push) {
	t.Helper()
	data, err := proto.Marshal(p)
	require.NoError(t, err)
	require.NoError(t, b.nats.Publish(bus.UserSubject(appKey, user), data))
}

func (b *backend) SendFromClient(_ context.Context, req *messagingv1.SendFromClientRequest) (*messagingv1.SendFromClientResponse, error) {
	b.mu.Lock()
	refuse := b.refuse
	b.mu.Unlock()
	if refuse != nil {
		return nil, refuse
	}
	var meta msyncv1.Meta
	if err := proto.Unmarshal(req.GetMeta(), &meta); err != nil {
		return nil, err
	}
	var body msyncv1.MessageBody
	if err := proto.Unmarshal(meta.GetPayload(), &body); err != nil {
		return nil, err
	}
	body.To, body.From = nil, &msyncv1.JID{Name: proto.String(req.GetUser())}
	raw, err := proto.Marshal(&body)
	if err != nil {
		return nil, err
	}
	ext, err := proto.Marshal(&msyncv1.Meta{Ext: meta.GetExt()})
	if err != nil {
		return nil, err
	}
	d, err := b.store(&busv1.Delivery{
		From: req.GetUser(), FromResource: req.GetResource(), To: meta.GetTo().GetName(), Body: raw, MetaExt: ext,
		SyncSender: body.GetType() == msyncv1.MessageBody_CHAT,
	})
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.sent = append(b.sent, &meta)
	b.mu.Unlock()
	return &messagingv1.SendFromClientResponse{MessageId: d.GetId(), Timestamp: d.GetTimestamp()}, nil
}

func (b *backend) of(user, resource string) (map[string]int64, bool) {
	m, ok := b.positions[user+"/"+resource]
	if !ok {
		m = make(map[string]int64)
		b.positions[user+"/"+resource] = m
	}
	return m, ok
}

func (b *backend) member(conversation, user string) bool {
	if members, ok := b.members[conversation]; ok {
		return slices.Contains(members, user)
	}
	a, z, _ := strings.Cut(conversation, "~")
	return a == user || z == user
}

func (b *backend) last(conversation string) int64 {
	return max(0, int64(len(b.entries[conversation]))-b.lag)
}

func (b *backend) OpenDevice(_ context.Context, req *messagingv1.OpenDeviceRequest) (*messagingv1.OpenDeviceResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opens++
	if b.opening != nil {
		return nil, b.opening
	}
	if b.onOpen != nil {
		if resp := b.onOpen(req); resp != nil {
			return resp, nil
		}
	}
	if b.lag > 0 {
		return &messagingv1.OpenDeviceResponse{Pending: true, LogPlaces: slices.Clone(b.logged[:])}, nil
	}
	mine, known := b.of(req.GetUser(), req.GetResource())
	if len(req.GetConversations()) > 0 {
		b.asked = append(b.asked, req.GetConversations())
		resp := &messagingv1.OpenDeviceResponse{LogPlaces: slices.Clone(b.logged[:])}
		for _, c := range req.GetConversations() {
			if b.member(c, req.GetUser()) && len(b.entries[c]) > 0 {
				resp.Queues = append(resp.Queues, b.queue(c, req.GetUser(), mine))
			}
		}
		return resp, nil
	}
	if !known { // a snapshot of what the user's other devices have confirmed
		for device, positions := range b.positions {
			if user, _, _ := strings.Cut(device, "/"); user == req.GetUser() {
				for conversation, seq := range positions {
					mine[conversation] = max(mine[conversation], seq)
				}
			}
		}
	}
	resp := &messagingv1.OpenDeviceResponse{LogPlaces: slices.Clone(b.logged[:])}
	for conversation := range b.entries {
		if b.cut > 0 && len(resp.GetQueues()) == b.cut {
			resp.More = true
			break
		}
		if last := b.last(conversation); b.member(conversation, req.GetUser()) && last > mine[conversation] {
			resp.Queues = append(resp.Queues, b.queue(conversation, req.GetUser(), mine))
		}
	}
	return resp, nil
}

func (b *backend) queue(conversation, user string, mine map[string]int64) *messagingv1.DeviceQueue {
	kind, peer := busv1.Kind_KIND_USER, string(ident.ConversationID(conversation).Peer(ident.UserID(user)))
	if _, ok := b.members[conversation]; ok {
		kind, peer = busv1.Kind_KIND_GROUP, conversation
	}
	return &messagingv1.DeviceQueue{
		Conversation: conversation, Kind: kind, Peer: peer,
		ConfirmedSeq: mine[conversation], LastSeq: b.last(conversation),
	}
}

func (b *backend) PullConversation(_ context.Context, req *messagingv1.PullConversationRequest) (*messagingv1.PullConversationResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pulls++
	resp := &messagingv1.PullConversationResponse{ThroughSeq: req.GetAfterSeq(), LastSeq: b.last(req.GetConversation())}
	for _, d := range b.entries[req.GetConversation()] {
		if d.GetSeq() <= req.GetAfterSeq() {
			continue
		}
		if d.GetSeq() > resp.GetLastSeq() || len(resp.GetEntries()) == int(req.GetLimit()) {
			break
		}
		resp.ThroughSeq = d.GetSeq()
		if d.GetFrom() != req.GetUser() || d.GetSyncSender() && d.GetFromResource() != req.GetResource() {
			resp.Entries = append(resp.Entries, d)
		}
	}
	return resp, nil
}

func (b *backend) ConfirmDevices(_ context.Context, req *messagingv1.ConfirmDevicesRequest) (*messagingv1.ConfirmDevicesResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.confirms = append(b.confirms, time.Now())
	if b.confirming != nil {
		return nil, b.confirming
	}
	if b.early > 0 {
		b.early--
		return &messagingv1.ConfirmDevicesResponse{Early: req.GetPositions()}, nil
	}
	for _, p := range req.GetPositions() {
		m, _ := b.of(p.GetUser(), p.GetResource())
		seq := p.GetSeq()
		if all := b.entries[p.GetConversation()]; p.GetEpoch() < bus.LogEpoch(b.logged[bus.Partition(appKey, p.GetConversation(), partitions)]) {
			for seq = min(seq, int64(len(all))); seq > 0 && bus.LogEpoch(all[seq-1].GetLogPlace()) > p.GetEpoch(); {
				seq--
			}
		}
		m[p.GetConversation()] = max(m[p.GetConversation()], seq)
	}
	return &messagingv1.ConfirmDevicesResponse{}, nil
}

func (b *backend) confirmed(user, resource, conversation string) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.positions[user+"/"+resource][conversation]
}

func (b *backend) Connect(_ context.Context, req *presencev1.ConnectRequest) (*presencev1.ConnectResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limit != nil {
		return nil, b.limit
	}
	in := req.GetConnection()
	resp := &presencev1.ConnectResponse{}
	for id, c := range b.online {
		if c.GetUser() == in.GetUser() && c.GetResource() == in.GetResource() && id != in.GetId() {
			resp.ReplacedGateway = c.GetGateway()
			delete(b.online, id)
		}
	}
	b.online[in.GetId()] = in
	return resp, nil
}

func (b *backend) Disconnect(_ context.Context, req *presencev1.DisconnectRequest) (*presencev1.DisconnectResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.online, req.GetConnectionId())
	return &presencev1.DisconnectResponse{}, nil
}

func (b *backend) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *backend) onlineCount() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.online)
}

// tokens knows "token-<user>" as the token of a user, and a few odd ones.
type tokens struct {
	expires time.Time
	// void: the key that signed all tokens is gone.
	void *atomic.Bool
}

func (a tokens) KeyHolds(ident.AppKey, uint32) bool { return a.void == nil || !a.void.Load() }

func (a tokens) Verify(_ context.Context, org, app, token string) (auth.Principal, error) {
	if org != "acme" || app != "shop" {
		return auth.Principal{}, errs.AppNotFound(org, app)
	}
	switch {
	case token == "expired":
		return auth.Principal{}, errs.Unauthenticated(errs.ReasonUnauthorized, "Unable to authenticate due to expired access token")
	case token == "gone":
		return auth.Principal{}, errs.NotFound()
	case token == "banned":
		return auth.Principal{}, errs.Forbidden("user is deactivated")
	case token == "down":
		return auth.Principal{}, errs.Unavailable("account", nil)
	case token == "app":
		return auth.Principal{Kind: auth.App, App: appKey}, nil
	case strings.HasPrefix(token, "token-"):
		return auth.Principal{Kind: auth.User, App: appKey, User: ident.UserID(strings.TrimPrefix(token, "token-")), ExpiresAt: a.expires}, nil
	}
	return auth.Principal{}, errs.Unauthenticated(errs.ReasonBadToken, "Unable to authenticate")
}

// lossy is a connection to NATS whose losses tests can report.
type lossy struct {
	*natsx.Conn
	mu     sync.Mutex
	report func()
}

func (l *lossy) OnLoss(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report = f
	l.Conn.OnLoss(f)
}

// rig is a gateway with its backend.
type rig struct {
	bus     *lossy
	limits  *limits
	channel *grpcx.Channel
	t       testing.TB
	*backend
	server  *session.Server
	url     string
	metrics *prometheus.Registry
}

func start(t testing.TB, change func(*session.Config)) *rig {
	t.Helper()
	return startWith(t, tokens{}, change)
}

func startWith(t testing.TB, auth session.Authenticator, change func(*session.Config)) *rig {
	t.Helper()
	nats := testkit.NATSServer(t)
	return startOn(t, testkit.Connect(t, nats), newBackend(testkit.Connect(t, nats)), auth, change)
}

func startOn(t testing.TB, nats *natsx.Conn, b *backend, auth session.Authenticator, change func(*session.Config)) *rig {
	t.Helper()
	reg := prometheus.NewRegistry()
	channel := grpcx.NewChannel(grpcx.NewInterceptors(testkit.Logger(t), reg))
	messagingv1.RegisterMessagingServiceServer(channel, b)
	messagingv1.RegisterSyncServiceServer(channel, b)
	presencev1.RegisterConnectionServiceServer(channel, b)
	limits := &limits{}
	limiterv1.RegisterLimiterServiceServer(channel, limits)
	var cfg session.Config
	cfg.FlushInterval = 20 * time.Millisecond
	cfg.SweepInterval = 20 * time.Millisecond
	cfg.CheckSpread = 20 * time.Millisecond
	if change != nil {
		change(&cfg)
	}
	bus := &lossy{Conn: nats}
	s, err := session.New(cfg, session.Deps{
		Auth: auth, Presence: channel.Conn(), Messaging: channel.Conn(), Limiter: channel.Conn(), NATS: bus,
		Logger: testkit.Logger(t), Metrics: reg,
	})
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	h := serve(t, s)
	r := &rig{t: t, limits: limits, bus: bus, channel: channel, backend: b, server: s, url: "ws" + strings.TrimPrefix(h.URL, "http") + "/ws", metrics: reg}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, s.Stop(ctx))
	})
	return r
}

func (r *rig) dial(user string, opts msyncclient.Options) *msyncclient.Client {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := msyncclient.Dial(ctx, r.url, appKey, user, "token-"+lower(user), opts)
	require.NoError(r.t, err)
	r.t.Cleanup(c.Close)
	return c
}

// next waits for a message.
func (r *rig) next(c *msyncclient.Client) msyncclient.Received {
	r.t.Helper()
	select {
	case m := <-c.Received():
		return m
	case <-c.Done():
		require.FailNow(r.t, "connection ended", "%v", c.Err())
	case <-time.After(10 * time.Second):
		require.FailNow(r.t, "nothing received")
	}
	panic("unreachable")
}

func (r *rig) texts(c *msyncclient.Client, n int) []string {
	r.t.Helper()
	out := make([]string, n)
	for i := range out {
		out[i] = r.next(c).Text()
	}
	return out
}

func (r *rig) synced(c *msyncclient.Client) {
	r.t.Helper()
	select {
	case <-c.Synced():
	case <-c.Done():
		require.FailNow(r.t, "connection ended", "%v", c.Err())
	case <-time.After(10 * time.Second):
		require.FailNow(r.t, "not synced")
	}
}

func (r *rig) ended(c *msyncclient.Client) error {
	r.t.Helper()
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		require.FailNow(r.t, "connection did not end")
	}
	return c.Err()
}

// nothing asserts that a device that has asked what is unread was shown nothing.
func (r *rig) nothing(c *msyncclient.Client) {
	r.t.Helper()
	_, err := c.Unread(r.t.Context())
	require.NoError(r.t, err)
	require.Empty(r.t, c.Received())
}

func count(t testing.TB, reg *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			match := true
			for i, l := range m.GetLabel() {
				if i < len(labels) && l.GetValue() != labels[i] {
					match = false
				}
			}
			if match {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func conversation(a, b string) string {
	return string(ident.UserConversation(ident.UserID(a), ident.UserID(b)))
}

// report lets NATS say that pushes may have been lost.
func (r *rig) report() {
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	r.bus.report()
}

// serve puts a server behind a listener that closes after everything else.
func serve(t testing.TB, s *session.Server) *httptest.Server {
	t.Helper()
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return h
}

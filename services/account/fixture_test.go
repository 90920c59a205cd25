package account_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/embed"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/revocation"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/pkg/tier"
	"github.com/chappe-im/chappe/pkg/token"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	"github.com/chappe-im/chappe/services/account"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	org    = "acme"
	app    = "chat"
	appKey = "acme#chat"
	uuid   = "b7d3c5a0-1f0e-11ee-8a44-5d0c9be1f201"

	invalidRequest = "this is an invalid request."
)

var start = time.UnixMilli(1_700_000_000_000)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// apps are apps without an etcd.
type apps struct {
	mu   sync.Mutex
	list map[string]*catalog.App
}

func (a *apps) App(org, app string) (*catalog.App, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	x, ok := a.list[org+"#"+app]
	return x, ok
}

// edit replaces an app by a changed copy, as the catalog does.
func (a *apps) edit(f func(app *catalog.App)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := *a.list[appKey]
	f(&c)
	a.list[appKey] = &c
}

// compile gives a seeded tier with changes.
func compile(t testing.TB, name, overrides string) *tier.Compiled {
	t.Helper()
	docs, err := tier.Seeds()
	require.NoError(t, err)
	for _, d := range docs {
		if d.Name != name {
			continue
		}
		if overrides != "" {
			d, err = tier.Merge(d, []byte(overrides))
			require.NoError(t, err)
		}
		c, err := tier.Compile(d)
		require.NoError(t, err)
		return c
	}
	t.Fatalf("no tier %s", name)
	return nil
}

// bench is the account service on real stores, and its callers' side.
type bench struct {
	t     testing.TB
	db    *store.DB
	nats  *embed.NATS
	conn  *natsx.Conn
	apps  *apps
	clock *clock
	svc   *account.Service

	channel   grpc.ClientConnInterface
	users     accountv1.UserServiceClient
	tokens    accountv1.TokenServiceClient
	attrs     accountv1.AttributeServiceClient
	relations accountv1.RelationServiceClient
	push      accountv1.PushServiceClient
	mutes     accountv1.MuteServiceClient
}

type option func(*account.Config, *account.Deps)

func newBench(t testing.TB, db *store.DB, options ...option) *bench {
	t.Helper()
	b := &bench{t: t, db: db, nats: testkit.NATSServer(t), clock: &clock{now: start}}
	b.conn = testkit.Connect(t, b.nats)
	advanced := compile(t, "advanced", "")
	b.apps = &apps{list: map[string]*catalog.App{
		appKey: {
			Org: org, Name: app, Key: appKey, Number: 7, UUID: uuid, ClientID: "YXA6client", SecretHash: catalog.HashSecret("YXA6secret"),
			Registration: catalog.RegistrationAuthorized, TokenTTL: 60 * 24 * time.Hour,
			Keys: []token.Key{{ID: 3, Secret: []byte("signs the tokens of these tests!")}}, Tier: advanced,
		},
		"acme#other": {
			Org: org, Name: "other", Key: "acme#other", Number: 8, UUID: "c7d3c5a0-1f0e-11ee-8a44-5d0c9be1f202", Registration: catalog.RegistrationOpen,
			Keys: []token.Key{{ID: 4, Secret: []byte("signs the tokens of the other app")}}, Tier: advanced,
		},
	}}
	b.restart(options...)
	return b
}

// restart makes a new service on the same stores; the caller has stopped the
// one before.
func (b *bench) restart(options ...option) {
	b.t.Helper()
	cfg := account.DefaultConfig()
	cfg.Argon2 = account.Argon2{MemoryKiB: 8, Passes: 1, Threads: 1}
	deps := account.Deps{
		DB: b.db, NATS: b.conn, Apps: b.apps, Logger: testkit.Logger(b.t), Registerer: prometheus.NewRegistry(), Now: b.clock.Now,
	}
	for _, o := range options {
		o(&cfg, &deps)
	}
	svc, err := account.New(cfg, deps)
	require.NoError(b.t, err)
	ch := grpcx.NewChannel(grpcx.NewInterceptors(testkit.Logger(b.t), prometheus.NewRegistry()))
	svc.Register(ch)
	require.NoError(b.t, svc.Start(b.t.Context()))
	b.t.Cleanup(func() { stop(b.t, svc) })
	b.svc = svc
	b.channel = ch.Conn()
	b.users = accountv1.NewUserServiceClient(ch.Conn())
	b.tokens = accountv1.NewTokenServiceClient(ch.Conn())
	b.attrs = accountv1.NewAttributeServiceClient(ch.Conn())
	b.relations = accountv1.NewRelationServiceClient(ch.Conn())
	b.push = accountv1.NewPushServiceClient(ch.Conn())
	b.mutes = accountv1.NewMuteServiceClient(ch.Conn())
}

func stop(t testing.TB, svc *account.Service) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(t, svc.Stop(ctx))
}

// each runs a test on every database.
func each(t *testing.T, f func(t *testing.T, b *bench), options ...option) {
	t.Helper()
	testkit.EachDatabase(t, "account", account.Migrations(), func(t *testing.T, db *store.DB) {
		f(t, newBench(t, db, options...))
	})
}

// lite runs a test on SQLite alone: for what does not depend on the database.
func lite(t testing.TB, options ...option) *bench {
	t.Helper()
	return newBench(t, testkit.SQLite(t, "account", account.Migrations()), options...)
}

// register creates users with the password "secret".
func (b *bench) register(t testing.TB, names ...string) {
	t.Helper()
	for i := 0; i < len(names); i += 60 {
		req := &accountv1.RegisterUsersRequest{Org: org, App: app, Batch: true}
		for _, n := range names[i:min(i+60, len(names))] {
			req.Users = append(req.Users, &accountv1.NewUser{Username: &n, Password: ptr("secret")})
		}
		resp, err := b.users.RegisterUsers(t.Context(), req)
		require.NoError(t, err)
		require.Empty(t, resp.GetFailures())
	}
}

func (b *bench) get(t testing.TB, name string) *accountv1.User {
	t.Helper()
	resp, err := b.users.GetUser(t.Context(), &accountv1.GetUserRequest{Org: org, App: app, Username: name})
	require.NoError(t, err)
	return resp.GetUser()
}

// password asks for a token by password.
func (b *bench) password(t testing.TB, name, password string) (*accountv1.IssueTokenResponse, error) {
	t.Helper()
	return b.tokens.IssueToken(t.Context(), &accountv1.IssueTokenRequest{
		Org: org, App: app, GrantType: "password", Username: name, Password: password,
	})
}

func (b *bench) claims(t testing.TB, raw string) token.Claims {
	t.Helper()
	a, _ := b.apps.App(org, app)
	c, err := token.Verify(a.Number, a.Keys, raw, b.clock.Now())
	require.NoError(t, err)
	return c
}

// revocations watches them as a gateway does.
func (b *bench) revocations(t testing.TB) *revocation.List {
	t.Helper()
	l, err := revocation.Watch(t.Context(), b.conn, 1, testkit.Logger(t))
	require.NoError(t, err)
	t.Cleanup(l.Stop)
	return l
}

// pushes listens to what the devices of a user are sent.
func (b *bench) pushes(t testing.TB, user string) <-chan *busv1.Push {
	t.Helper()
	return listen(t, b, bus.UserSubject(appKey, user), func() *busv1.Push { return &busv1.Push{} })
}

// rosters listens to what a user is to be told of contacts.
func (b *bench) rosters(t testing.TB, user string) <-chan *busv1.RosterEvent {
	t.Helper()
	return listen(t, b, bus.RosterEventSubject(appKey, user), func() *busv1.RosterEvent { return &busv1.RosterEvent{} })
}

// events listens to the UserEvents of all users.
func (b *bench) events(t testing.TB) <-chan *busv1.UserEvent {
	t.Helper()
	return listen(t, b, bus.UserEventFilter, func() *busv1.UserEvent { return &busv1.UserEvent{} })
}

func listen[M proto.Message](t testing.TB, b *bench, subject string, empty func() M) <-chan M {
	t.Helper()
	out := make(chan M, 1024)
	sub, err := b.conn.Subscribe(subject, func(m *natsx.Msg) {
		x := empty()
		if err := proto.Unmarshal(m.Data, x); err != nil {
			t.Error(err)
		}
		out <- x
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, b.conn.Flush(ctx))
	return out
}

func next[M any](t testing.TB, ch <-chan M) M {
	t.Helper()
	select {
	case m := <-ch:
		return m
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// change waits for an event; those of before that are still on their way are
// stepped over.
func change(t testing.TB, ch <-chan *busv1.UserEvent, wanted string) {
	t.Helper()
	for {
		e := next(t, ch)
		require.Equal(t, appKey, e.GetApp())
		if e.GetUser()+" "+e.GetChange().String() == wanted {
			return
		}
	}
}

// told reads a contact event, as "from ACTION to reason".
func told(t testing.TB, e *busv1.RosterEvent) string {
	t.Helper()
	require.Equal(t, appKey, e.GetApp())
	require.NotEmpty(t, e.GetId())
	require.GreaterOrEqual(t, e.GetTimestamp(), start.UnixMilli())
	require.Empty(t, e.GetBody(), "the client protocol is not known here")
	return contactText(e.GetFrom(), e.GetTo(), e.GetEvent())
}

// copied reads a contact notice, which is a copy for the other devices of who
// did it.
func copied(t testing.TB, p *busv1.Push) string {
	t.Helper()
	n := p.GetNotice()
	require.NotNil(t, n)
	require.NotZero(t, n.GetId())
	require.Empty(t, n.GetPayload(), "the client protocol is not known here")
	return contactText(n.GetFrom(), n.GetTo(), n.GetEvent().GetContact())
}

func contactText(from, to string, e *busv1.ContactEvent) string {
	return strings.TrimSpace(from + " " + strings.TrimPrefix(e.GetAction().String(), "ACTION_") + " " + to + " " + e.GetReason())
}

// want is an expected refusal; zero expects success.
type want struct {
	code    codes.Code
	reason  string
	message string
}

var (
	wantInvalid = want{codes.InvalidArgument, errs.ReasonIllegalArgument, invalidRequest}
	wantMissing = want{codes.NotFound, errs.ReasonNotFound, "Service resource not found"}
	wantNoApp   = want{codes.NotFound, errs.ReasonAppNotFound, "Could not find application for acme/nochat"}
	wantQuota   = want{
		codes.ResourceExhausted, errs.ReasonQuota,
		"You have exceeded the limit of the community edition,Please upgrade to the enterprise edition",
	}
	wantNoEntity    = want{codes.NotFound, errs.ReasonEntityNotFound, "User null not found"}
	wantNoProperty  = want{codes.InvalidArgument, errs.ReasonRequiredProperty, "Entity user requires a property named username"}
	wantManyFriends = want{codes.PermissionDenied, errs.ReasonExceedLimit, "user contact number exceed limit"}
)

// wantText expects a 400 with a text.
func wantText(message string) want {
	return want{codes.InvalidArgument, errs.ReasonIllegalArgument, message}
}

func (w want) check(t testing.TB, err error) {
	t.Helper()
	if w.code == codes.OK {
		require.NoError(t, err)
		return
	}
	require.Error(t, err)
	e := errs.From(err)
	got := want{e.Code, e.Reason, e.Message}
	require.Equal(t, w, got, "%v", err)
}

func ptr[T any](v T) *T { return &v }

func many(n int, prefix string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%03d", prefix, i)
	}
	return out
}

func randomName() string {
	var b [6]byte
	_, _ = rand.Read(b[:])
	return "u" + hex.EncodeToString(b[:])
}

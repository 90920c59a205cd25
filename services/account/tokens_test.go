package account_test

import (
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/token"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	"github.com/chappe-im/chappe/services/account"
)

func grantWant(message string) want {
	return want{codes.InvalidArgument, errs.ReasonInvalidGrant, message}
}

var (
	wantWrongPassword = grantWant("invalid password")
	wantBanned        = grantWant("user not activated")
	wantNoUser        = want{codes.NotFound, errs.ReasonInvalidGrant, "user not found"}
)

func TestIssueTokenRefusals(t *testing.T) {
	t.Parallel()
	b := lite(t)
	b.register(t, "amelia")
	_, err := b.users.RegisterUsers(t.Context(), &accountv1.RegisterUsersRequest{
		Org: org, App: app, Users: []*accountv1.NewUser{{Username: ptr("nopass")}},
	})
	require.NoError(t, err)
	for _, c := range []struct {
		name string
		req  *accountv1.IssueTokenRequest
		want want
	}{
		{"no grant", &accountv1.IssueTokenRequest{}, wantInvalid},
		{"unknown grant", &accountv1.IssueTokenRequest{GrantType: "authorization_code"}, wantInvalid},
		{"grant in capitals", &accountv1.IssueTokenRequest{GrantType: "PASSWORD", Username: "amelia", Password: "secret"}, wantInvalid},
		{"unknown app", &accountv1.IssueTokenRequest{App: "nochat", GrantType: "password"}, wantNoApp},
		{"wrong client id", &accountv1.IssueTokenRequest{GrantType: "client_credentials", ClientId: "x", ClientSecret: "YXA6secret"}, grantWant("client_id does not match")},
		{"no client id", &accountv1.IssueTokenRequest{GrantType: "client_credentials", ClientSecret: "YXA6secret"}, wantText("client_id must be provided.")},
		{"wrong client secret", &accountv1.IssueTokenRequest{GrantType: "client_credentials", ClientId: "YXA6client", ClientSecret: "x"}, grantWant("client_secret does not match")},
		{"no client secret", &accountv1.IssueTokenRequest{GrantType: "client_credentials", ClientId: "YXA6client"}, wantText("client_secret must be provided")},
		{"another app's credentials", &accountv1.IssueTokenRequest{App: "other", GrantType: "client_credentials", ClientId: "YXA6client", ClientSecret: "YXA6secret"}, grantWant("client_id does not match")},
		{"unknown user", &accountv1.IssueTokenRequest{GrantType: "password", Username: "nobody", Password: "secret"}, wantNoUser},
		{"illegal user", &accountv1.IssueTokenRequest{GrantType: "password", Username: "a b", Password: "secret"}, wantNoUser},
		{"no user", &accountv1.IssueTokenRequest{GrantType: "password", Password: "secret"}, wantNoUser},
		{"wrong password", &accountv1.IssueTokenRequest{GrantType: "password", Username: "amelia", Password: "Secret"}, wantWrongPassword},
		{"no password", &accountv1.IssueTokenRequest{GrantType: "password", Username: "amelia"}, wantWrongPassword},
		{"endless password", &accountv1.IssueTokenRequest{GrantType: "password", Username: "amelia", Password: strings.Repeat("x", 1<<20)}, wantWrongPassword},
		{"user who has no password, empty", &accountv1.IssueTokenRequest{GrantType: "password", Username: "nopass"}, wantWrongPassword},
		{"user who has no password", &accountv1.IssueTokenRequest{GrantType: "password", Username: "nopass", Password: "x"}, wantWrongPassword},
		{"user of another app", &accountv1.IssueTokenRequest{App: "other", GrantType: "password", Username: "amelia", Password: "secret"}, wantNoUser},
		{"negative ttl", &accountv1.IssueTokenRequest{GrantType: "password", Username: "amelia", Password: "secret", Ttl: ptr(int64(-1))}, wantInvalid},
		{"inherit, unknown user", &accountv1.IssueTokenRequest{GrantType: "inherit", Username: "nobody"}, wantNoEntity},
		{"inherit, illegal user to create", &accountv1.IssueTokenRequest{GrantType: "inherit", Username: "a b", AutoCreateUser: true}, wantText("username [a b] is not legal")},
		{"inherit, long user to create", &accountv1.IssueTokenRequest{GrantType: "inherit", Username: strings.Repeat("x", 65), AutoCreateUser: true}, wantText("USERNAME_TOO_LONG")},
		{"inherit, nobody", &accountv1.IssueTokenRequest{GrantType: "inherit"}, wantNoEntity},
		{"inherit, no user", &accountv1.IssueTokenRequest{GrantType: "inherit", AutoCreateUser: true}, wantText("username [] is not legal")},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.req.Org = org
			if c.req.App == "" {
				c.req.App = app
			}
			_, err := b.tokens.IssueToken(t.Context(), c.req)
			c.want.check(t, err)
		})
	}
}

func TestTimeToLive(t *testing.T) {
	t.Parallel()
	b := lite(t)
	b.register(t, "amelia")
	for _, c := range []struct {
		name    string
		ttl     *int64
		app     time.Duration
		seconds int64
		never   bool
	}{
		{name: "the app's", app: 60 * 24 * time.Hour, seconds: 5184000},
		{name: "the app's, for ever", app: 0, seconds: math.MaxInt32, never: true},
		{name: "a second", ttl: ptr(int64(1)), app: time.Hour, seconds: 1},
		{name: "two hours", ttl: ptr(int64(7200)), app: 0, seconds: 7200},
		{name: "for ever", ttl: ptr(int64(0)), app: time.Hour, seconds: math.MaxInt32, never: true},
		{name: "longest", ttl: ptr(int64(math.MaxInt32)), app: time.Hour, seconds: math.MaxInt32},
		{name: "beyond 32 bits", ttl: ptr(int64(math.MaxInt64)), app: time.Hour, seconds: math.MaxInt32},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.apps.edit(func(a *catalog.App) { a.TokenTTL = c.app })
			for _, req := range []*accountv1.IssueTokenRequest{
				{GrantType: "client_credentials", ClientId: "YXA6client", ClientSecret: "YXA6secret"},
				{GrantType: "password", Username: "Amelia", Password: "secret"},
				{GrantType: "inherit", Username: "AMELIA"},
			} {
				req.Org, req.App, req.Ttl = org, app, c.ttl
				resp, err := b.tokens.IssueToken(t.Context(), req)
				require.NoError(t, err)
				require.Equal(t, c.seconds, resp.GetExpiresIn())
				claims := b.claims(t, resp.GetAccessToken())
				require.Equal(t, c.never, claims.ExpiresAt.IsZero())
				if !c.never {
					require.Equal(t, c.seconds, claims.ExpiresAt.Unix()-start.Unix())
				}
				if req.GetGrantType() == "client_credentials" {
					require.Equal(t, token.App, claims.Kind)
					require.Equal(t, uuid, resp.GetApplication())
					require.Nil(t, resp.GetUser())
				} else {
					require.Equal(t, token.User, claims.Kind)
					require.Equal(t, "amelia", claims.User)
					require.Empty(t, resp.GetApplication())
					require.Equal(t, "amelia", resp.GetUser().GetUsername())
				}
			}
		})
	}
}

func TestTokensLiveSideBySideAndSurviveRestarts(t *testing.T) {
	t.Parallel()
	b := lite(t)
	b.register(t, "amelia")
	first, err := b.password(t, "amelia", "secret")
	require.NoError(t, err)
	stop(t, b.svc)
	b.restart()
	second, err := b.password(t, "amelia", "secret")
	require.NoError(t, err)
	require.NotEqual(t, first.GetAccessToken(), second.GetAccessToken())
	revoked := b.revocations(t)
	for _, raw := range []string{first.GetAccessToken(), second.GetAccessToken()} {
		require.False(t, revoked.Revoked(appKey, "amelia", b.claims(t, raw).IssuedAt))
	}
}

func TestInheritCreatesUsers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		var wg sync.WaitGroup
		for range 8 { // at once, for one user
			wg.Go(func() {
				resp, err := b.tokens.IssueToken(t.Context(), &accountv1.IssueTokenRequest{
					Org: org, App: app, GrantType: "inherit", Username: "Amelia", AutoCreateUser: true, Ttl: ptr(int64(60)),
				})
				if err != nil {
					t.Error(err)
					return
				}
				if resp.GetUser().GetUsername() != "amelia" {
					t.Error(resp.GetUser())
				}
			})
		}
		wg.Wait()
		require.Equal(t, 1, b.count(t, app))
		_, err := b.password(t, "amelia", "")
		wantWrongPassword.check(t, err)
	})
}

func TestChangePasswordVoidsTokens(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, "amelia", "bruno")
		old, err := b.password(t, "amelia", "secret")
		require.NoError(t, err)
		other, err := b.password(t, "bruno", "secret")
		require.NoError(t, err)
		revoked := b.revocations(t)
		pushes, events := b.pushes(t, "amelia"), b.events(t)

		_, err = b.users.ChangePassword(t.Context(), &accountv1.ChangePasswordRequest{Org: org, App: app, Username: "Amelia", Newpassword: "n3w"})
		require.NoError(t, err)
		_, err = b.password(t, "amelia", "secret")
		wantWrongPassword.check(t, err)
		// Within the same millisecond of the clock, and yet the new one holds.
		fresh, err := b.password(t, "amelia", "n3w")
		require.NoError(t, err)
		require.Equal(t, "REASON_PASSWORD_CHANGED", next(t, pushes).GetDisconnect().GetReason().String())
		change(t, events, "amelia CHANGE_PASSWORD")
		is := func(user, raw string) bool { return revoked.Revoked(appKey, user, b.claims(t, raw).IssuedAt) }
		require.Eventually(t, func() bool { return is("amelia", old.GetAccessToken()) }, 10*time.Second, time.Millisecond)
		require.False(t, is("amelia", fresh.GetAccessToken()))
		require.False(t, is("bruno", other.GetAccessToken()))

		b.clock.Advance(time.Minute)
		_, err = b.users.ChangePassword(t.Context(), &accountv1.ChangePasswordRequest{Org: org, App: app, Username: b.get(t, "amelia").GetUuid(), Newpassword: "n3wer"})
		require.NoError(t, err)
		require.Equal(t, b.clock.Now().UnixMilli(), b.get(t, "amelia").GetModified())
		require.Eventually(t, func() bool { return is("amelia", fresh.GetAccessToken()) }, 10*time.Second, time.Millisecond)
	})
}

func TestChangePasswordRefusals(t *testing.T) {
	t.Parallel()
	b := lite(t)
	b.register(t, "amelia")
	needsNew := want{codes.InvalidArgument, errs.ReasonIllegalArgument, "newpassword is required"}
	needsOld := want{codes.InvalidArgument, errs.ReasonIllegalArgument, "oldPassword is required"}
	for _, c := range []struct {
		name string
		req  *accountv1.ChangePasswordRequest
		want want
	}{
		{"no new one", &accountv1.ChangePasswordRequest{Username: "amelia"}, needsNew},
		{"no new one, unknown user", &accountv1.ChangePasswordRequest{Username: "nobody"}, needsNew},
		{"unknown user", &accountv1.ChangePasswordRequest{Username: "nobody", Newpassword: "x"}, wantNoEntity},
		{"illegal user", &accountv1.ChangePasswordRequest{Username: "a b", Newpassword: "x"}, wantNoEntity},
		{"unknown app", &accountv1.ChangePasswordRequest{App: "nochat", Username: "amelia", Newpassword: "x"}, wantNoApp},
		{"65 characters", &accountv1.ChangePasswordRequest{Username: "amelia", Newpassword: strings.Repeat("x", 65)}, wantInvalid},
		{"the user, no old one", &accountv1.ChangePasswordRequest{Username: "amelia", Newpassword: "x", CheckOld: true}, needsOld},
		{"the user, empty old one", &accountv1.ChangePasswordRequest{Username: "amelia", Newpassword: "x", CheckOld: true, Oldpassword: ptr("")}, needsOld},
		{"the user, wrong old one", &accountv1.ChangePasswordRequest{Username: "amelia", Newpassword: "x", CheckOld: true, Oldpassword: ptr("y")}, want{
			codes.Unauthenticated, errs.ReasonUnauthorized, "oldPassword does not match",
		}},
		{"64 characters", &accountv1.ChangePasswordRequest{Username: "amelia", Newpassword: strings.Repeat("é", 64)}, want{}},
		{"the user, right old one", &accountv1.ChangePasswordRequest{
			Username: "amelia", Newpassword: "z", CheckOld: true, Oldpassword: ptr(strings.Repeat("é", 64)),
		}, want{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.req.Org = org
			if c.req.App == "" {
				c.req.App = app
			}
			_, err := b.users.ChangePassword(t.Context(), c.req)
			c.want.check(t, err)
		})
	}
	_, err := b.password(t, "amelia", "z")
	require.NoError(t, err)
}

func TestPasswordOfOneWhoHadNone(t *testing.T) {
	t.Parallel()
	b := lite(t)
	_, err := b.tokens.IssueToken(t.Context(), &accountv1.IssueTokenRequest{Org: org, App: app, GrantType: "inherit", Username: "amelia", AutoCreateUser: true})
	require.NoError(t, err)
	_, err = b.users.ChangePassword(t.Context(), &accountv1.ChangePasswordRequest{Org: org, App: app, Username: "amelia", Newpassword: "first"})
	require.NoError(t, err)
	_, err = b.password(t, "amelia", "first")
	require.NoError(t, err)
}

// A change that was committed takes effect although the process died, or NATS
// was away, before it could be published.
func TestRevocationOutlivesACrash(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, "amelia")
		old, err := b.password(t, "amelia", "secret")
		require.NoError(t, err)
		stop(t, b.svc) // its outbox is not read any more, as after a crash
		_, err = b.users.ChangePassword(t.Context(), &accountv1.ChangePasswordRequest{Org: org, App: app, Username: "amelia", Newpassword: "n3w"})
		require.NoError(t, err)
		revoked := b.revocations(t)
		at := b.claims(t, old.GetAccessToken()).IssuedAt
		require.False(t, revoked.Revoked(appKey, "amelia", at))
		b.restart()
		require.Eventually(t, func() bool { return revoked.Revoked(appKey, "amelia", at) }, 10*time.Second, time.Millisecond)
	})
}

func BenchmarkPasswordGrant(b *testing.B) {
	run := func(b *testing.B, password func(i int) string) {
		x := lite(b, func(c *account.Config, _ *account.Deps) { c.Argon2 = account.DefaultConfig().Argon2 })
		x.register(b, "amelia")
		_, err := x.password(b, "amelia", "secret")
		require.NoError(b, err)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			_, _ = x.password(b, "amelia", password(i))
		}
	}
	b.Run("warm", func(b *testing.B) { run(b, func(int) string { return "secret" }) })
	b.Run("wrong", func(b *testing.B) { run(b, func(int) string { return "wrong" }) })
}

func TestTokenExpiry(t *testing.T) {
	t.Parallel()
	b := lite(t)
	b.register(t, "amelia")
	ask := func(appName, user string, at int64) (int64, error) {
		resp, err := b.tokens.GetTokenExpiry(t.Context(), &accountv1.GetTokenExpiryRequest{Org: org, App: appName, Username: user, ExpiresAt: at})
		return resp.GetExpireTimestamp(), err
	}
	at, err := ask(app, "AMELIA", 1700000000123)
	require.NoError(t, err)
	require.Equal(t, int64(1700000000123), at)
	at, err = ask(app, "amelia", 0)
	require.NoError(t, err)
	require.Equal(t, b.clock.Now().Add(math.MaxInt32*time.Second).UnixMilli(), at, "as far as clients count")
	_, err = ask(app, "nobody", 1)
	wantMissing.check(t, err)
	_, err = ask("nochat", "amelia", 1)
	wantNoApp.check(t, err)
}

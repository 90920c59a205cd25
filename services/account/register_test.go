package account_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/testkit/fixture"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

func TestRegisterOne(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		events := b.events(t)
		resp, err := b.users.RegisterUsers(t.Context(), &accountv1.RegisterUsersRequest{
			Org: org, App: app, Users: []*accountv1.NewUser{{Username: ptr("Amelia"), Password: ptr("s3cret-1"), Nickname: ptr("Amelia P.")}},
		})
		require.NoError(t, err)
		require.Len(t, resp.GetUsers(), 1)
		require.Empty(t, resp.GetFailures())
		require.False(t, resp.GetBatch())
		u := resp.GetUsers()[0]
		require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`, u.GetUuid())
		require.Equal(t, "amelia", u.GetUsername())
		require.Equal(t, start.UnixMilli(), u.GetCreated())
		require.Equal(t, start.UnixMilli(), u.GetModified())
		require.True(t, u.GetActivated())
		require.Equal(t, "Amelia P.", u.GetNickname())
		require.Nil(t, u.NotificationDisplayStyle)

		require.Equal(t, u.GetUuid(), b.get(t, "AMELIA").GetUuid())
		require.Equal(t, "amelia", b.get(t, u.GetUuid()).GetUsername())
		e := next(t, events)
		require.Equal(t, busv1.UserEvent_CHANGE_CREATED, e.GetChange())
		require.Equal(t, appKey+"/amelia", e.GetApp()+"/"+e.GetUser())

		var hash string
		require.NoError(t, b.db.Read().QueryRowContext(t.Context(), `SELECT password_hash FROM users`).Scan(&hash))
		require.True(t, strings.HasPrefix(hash, "$argon2id$v=19$m=8,t=1,p=1$"), hash)
	})
}

func TestRegisterOneRefusals(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, "taken")
		illegal := func(name string) want { return wantText("username [" + name + "] is not legal") }
		noName := want{codes.InvalidArgument, errs.ReasonIllegalArgument, "Entity user requires a property named username"}
		noPassword := want{codes.InvalidArgument, errs.ReasonIllegalArgument, "password or pin must provided"}
		duplicate := want{
			codes.InvalidArgument, errs.ReasonDuplicate,
			"Application " + uuid + "Entity user requires that property named username be unique, value of taken exists",
		}
		closed := want{codes.Unauthenticated, errs.ReasonUnauthorized, "registration is not open, please contact the app admin"}
		for _, c := range []struct {
			name      string
			user      *accountv1.NewUser
			app       string
			anonymous bool
			open      bool
			want      want
		}{
			{name: "no username", user: &accountv1.NewUser{Password: ptr("x")}, want: noName},
			{name: "nothing", user: &accountv1.NewUser{}, want: noName},
			{name: "empty username", user: &accountv1.NewUser{Username: ptr(""), Password: ptr("x")}, want: illegal("")},
			{name: "blank in username", user: &accountv1.NewUser{Username: ptr("a b"), Password: ptr("x")}, want: illegal("a b")},
			{name: "slash", user: &accountv1.NewUser{Username: ptr("a/b"), Password: ptr("x")}, want: illegal("a/b")},
			{name: "at sign", user: &accountv1.NewUser{Username: ptr("a@b.c"), Password: ptr("x")}, want: illegal("a@b.c")},
			{name: "not ASCII", user: &accountv1.NewUser{Username: ptr("amélie"), Password: ptr("x")}, want: illegal("amélie")},
			{name: "wildcard", user: &accountv1.NewUser{Username: ptr("a*"), Password: ptr("x")}, want: illegal("a*")},
			{name: "65 bytes", user: &accountv1.NewUser{Username: ptr(strings.Repeat("a", 65)), Password: ptr("x")}, want: wantText("USERNAME_TOO_LONG")},
			{name: "64 bytes", user: &accountv1.NewUser{Username: ptr(strings.Repeat("a", 64)), Password: ptr("x")}},
			{name: "one byte", user: &accountv1.NewUser{Username: ptr("q"), Password: ptr("x")}},
			{name: "all kinds of characters", user: &accountv1.NewUser{Username: ptr("Az09_-."), Password: ptr("x")}},
			{name: "empty password", user: &accountv1.NewUser{Username: ptr("p0"), Password: ptr("")}, want: noPassword},
			{name: "no password from the app", user: &accountv1.NewUser{Username: ptr("p1")}},
			{name: "no password from anyone", user: &accountv1.NewUser{Username: ptr("p2")}, anonymous: true, open: true, want: noPassword},
			{name: "64 characters of password", user: &accountv1.NewUser{Username: ptr("p3"), Password: ptr(strings.Repeat("ü", 64))}},
			{name: "65 characters of password", user: &accountv1.NewUser{Username: ptr("p4"), Password: ptr(strings.Repeat("p", 65))}, want: wantInvalid},
			{name: "100 characters of nickname", user: &accountv1.NewUser{Username: ptr("n1"), Password: ptr("x"), Nickname: ptr(strings.Repeat("猫", 100))}},
			{name: "101 characters of nickname", user: &accountv1.NewUser{Username: ptr("n2"), Password: ptr("x"), Nickname: ptr(strings.Repeat("n", 101))}, want: wantText("NICKNAME_TOO_LONG")},
			{name: "NUL in nickname", user: &accountv1.NewUser{Username: ptr("n3"), Password: ptr("x"), Nickname: ptr("a\x00b")}, want: wantInvalid},
			{name: "NUL in password", user: &accountv1.NewUser{Username: ptr("n4"), Password: ptr("a\x00b")}},
			{name: "NUL in username", user: &accountv1.NewUser{Username: ptr("n\x005"), Password: ptr("x")}, want: illegal("n\x005")},
			{name: "exists", user: &accountv1.NewUser{Username: ptr("taken"), Password: ptr("x")}, want: duplicate},
			{name: "exists in another case", user: &accountv1.NewUser{Username: ptr("TAKEN"), Password: ptr("x")}, want: duplicate},
			{name: "same ID in another app", app: "other", user: &accountv1.NewUser{Username: ptr("taken"), Password: ptr("x")}},
			{name: "unknown app", app: "nochat", user: &accountv1.NewUser{Username: ptr("x"), Password: ptr("x")}, want: wantNoApp},
			{name: "anyone while closed", user: &accountv1.NewUser{Username: ptr("o1"), Password: ptr("x")}, anonymous: true, want: closed},
			{name: "anyone while open", user: &accountv1.NewUser{Username: ptr("o2"), Password: ptr("x")}, anonymous: true, open: true},
		} {
			t.Run(c.name, func(t *testing.T) {
				b.apps.edit(func(a *catalog.App) {
					a.Registration = catalog.RegistrationAuthorized
					if c.open {
						a.Registration = catalog.RegistrationOpen
					}
				})
				name := app
				if c.app != "" {
					name = c.app
				}
				before := b.count(t, name)
				resp, err := b.users.RegisterUsers(t.Context(), &accountv1.RegisterUsersRequest{
					Org: org, App: name, Users: []*accountv1.NewUser{c.user}, Anonymous: c.anonymous,
				})
				c.want.check(t, err)
				if c.want != (want{}) {
					require.Equal(t, before, b.count(t, name))
					return
				}
				require.Equal(t, strings.ToLower(c.user.GetUsername()), resp.GetUsers()[0].GetUsername())
				require.Equal(t, before+1, b.count(t, name))
			})
		}
	})
}

// count gives how many users an app has.
func (b *bench) count(t testing.TB, name string) int {
	t.Helper()
	a, ok := b.apps.App(org, name)
	if !ok {
		return 0
	}
	var n int
	require.NoError(t, b.db.Read().QueryRowContext(t.Context(), `SELECT COUNT(*) FROM users WHERE app = $1`, a.Number).Scan(&n))
	return n
}

func TestNobodyTakesAnothersUUIDForAnID(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, "amelia")
		hers := b.get(t, "amelia").GetUuid()
		_, err := b.users.RegisterUsers(t.Context(), &accountv1.RegisterUsersRequest{
			Org: org, App: app, Users: []*accountv1.NewUser{{Username: ptr(strings.ToUpper(hers)), Password: ptr("x")}},
		})
		require.True(t, errs.Is(err, errs.ReasonDuplicate), "%v", err)
		resp, err := b.users.RegisterUsers(t.Context(), &accountv1.RegisterUsersRequest{
			Org: org, App: app, Batch: true, Users: []*accountv1.NewUser{
				{Username: &hers, Password: ptr("x")}, {Username: ptr("01a20719-0000-7000-8000-000000000000"), Password: ptr("x")},
			},
		})
		require.NoError(t, err)
		require.Equal(t, []string{"01a20719-0000-7000-8000-000000000000"}, usernames(resp.GetUsers()))
		require.Equal(t, "the "+hers+" already exists", resp.GetFailures()[0].GetReason())
		require.Equal(t, "amelia", b.get(t, hers).GetUsername())
	})
}

func TestRegisterMany(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, "carla")
		user := func(name string) *accountv1.NewUser {
			return &accountv1.NewUser{Username: &name, Password: ptr("secret")}
		}
		resp, err := b.users.RegisterUsers(t.Context(), &accountv1.RegisterUsersRequest{
			Org: org, App: app, Batch: true,
			Users: []*accountv1.NewUser{user("amelia"), user("Bruno"), user("CARLA"), user("AMELIA"), user("dario")},
		})
		require.NoError(t, err)
		require.True(t, resp.GetBatch())
		var created []string
		for _, u := range resp.GetUsers() {
			created = append(created, u.GetUsername())
		}
		require.Equal(t, []string{"amelia", "bruno", "dario"}, created)
		failed := map[string]string{}
		for _, f := range resp.GetFailures() {
			failed[f.GetUsername()] = f.GetReason()
		}
		require.Equal(t, map[string]string{"carla": "the carla already exists"}, failed)
		// The order of the request is the order of the list.
		list, err := b.users.ListUsers(t.Context(), &accountv1.ListUsersRequest{Org: org, App: app})
		require.NoError(t, err)
		require.Equal(t, []string{"carla", "amelia", "bruno", "dario"}, usernames(list.GetUsers()))
		_, err = b.password(t, "bruno", "secret")
		require.NoError(t, err)
	})
}

func usernames(us []*accountv1.User) []string {
	out := make([]string, len(us))
	for i, u := range us {
		out[i] = u.GetUsername()
	}
	return out
}

func TestRegisterManyRefusals(t *testing.T) {
	t.Parallel()
	b := lite(t)
	users := func(n int) []*accountv1.NewUser {
		var out []*accountv1.NewUser
		for _, name := range many(n, randomName()) {
			out = append(out, &accountv1.NewUser{Username: &name, Password: ptr("x")})
		}
		return out
	}
	with := func(u *accountv1.NewUser) []*accountv1.NewUser { return append(users(2), u) }
	for _, c := range []struct {
		name      string
		users     []*accountv1.NewUser
		anonymous bool
		open      bool
		want      want
	}{
		{name: "none", want: wantInvalid},
		{name: "one", users: users(1)},
		{name: "60", users: users(60)},
		{name: "61", users: users(61), want: wantText("Request body array size[61] had almost reached or been greater than the upper range value[60]")},
		{name: "one illegal", users: with(&accountv1.NewUser{Username: ptr("a b"), Password: ptr("x")}), want: wantText("username [a b] is not legal")},
		{name: "one too long", users: with(&accountv1.NewUser{Username: ptr(strings.Repeat("a", 65)), Password: ptr("x")}), want: wantText("USERNAME_TOO_LONG")},
		{name: "one with a long nickname", users: with(&accountv1.NewUser{Username: ptr("x"), Password: ptr("x"), Nickname: ptr(strings.Repeat("n", 101))}), want: wantText("NICKNAME_TOO_LONG")},
		{name: "one twice with two passwords", users: append(with(&accountv1.NewUser{Username: ptr("x"), Password: ptr("p1")}), &accountv1.NewUser{Username: ptr("X"), Password: ptr("p2")}), want: want{
			codes.InvalidArgument, errs.ReasonDuplicate, "the same user x has a different password, the passwords are ***",
		}},
		{name: "one without username", users: with(&accountv1.NewUser{Password: ptr("x")}), want: want{
			codes.InvalidArgument, errs.ReasonIllegalArgument, "Entity user requires a property named username",
		}},
		{name: "one without password", users: with(&accountv1.NewUser{Username: ptr("x")}), want: want{
			codes.InvalidArgument, errs.ReasonIllegalArgument, "password or pin must provided",
		}},
		{name: "one password too long", users: with(&accountv1.NewUser{Username: ptr("x"), Password: ptr(strings.Repeat("x", 65))}), want: wantInvalid},
		{name: "anyone, closed", users: users(1), anonymous: true, want: want{
			codes.Unauthenticated, errs.ReasonUnauthorized, "registration is not open, please contact the app admin",
		}},
		{name: "anyone, open", users: users(1), anonymous: true, open: true, want: want{
			codes.Unauthenticated, errs.ReasonUnauthorized, "Unable to authenticate due to expired access token",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.apps.edit(func(a *catalog.App) {
				a.Registration = catalog.RegistrationAuthorized
				if c.open {
					a.Registration = catalog.RegistrationOpen
				}
			})
			before := b.count(t, app)
			resp, err := b.users.RegisterUsers(t.Context(), &accountv1.RegisterUsersRequest{
				Org: org, App: app, Users: c.users, Batch: true, Anonymous: c.anonymous,
			})
			c.want.check(t, err)
			if c.want == (want{}) {
				require.Len(t, resp.GetUsers(), len(c.users))
			} else {
				require.Equal(t, before, b.count(t, app))
			}
		})
	}
	_, err := b.users.RegisterUsers(t.Context(), &accountv1.RegisterUsersRequest{Org: org, App: app, Users: users(2)})
	wantInvalid.check(t, err)
}

func TestParallelRegistrationsAdmitExactlyTheQuota(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.apps.edit(func(a *catalog.App) { a.Tier = fixture.Tier(t, "free", "") }) // 100 users
		b.register(t, many(90, "old")...)
		var admitted atomic.Int32
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				_, err := b.users.RegisterUsers(t.Context(), &accountv1.RegisterUsersRequest{
					Org: org, App: app, Users: []*accountv1.NewUser{{Username: ptr(fmt.Sprint("new", i)), Password: ptr("x")}},
				})
				switch {
				case err == nil:
					admitted.Add(1)
				case errs.Is(err, errs.ReasonQuota):
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, int32(10), admitted.Load())
		require.Equal(t, 100, b.count(t, app))

		// Full, for batches and automatic creation too; an existing ID is said
		// to exist all the same.
		_, err := b.users.RegisterUsers(t.Context(), &accountv1.RegisterUsersRequest{
			Org: org, App: app, Batch: true, Users: []*accountv1.NewUser{{Username: ptr("late"), Password: ptr("x")}},
		})
		wantQuota.check(t, err)
		_, err = b.tokens.IssueToken(t.Context(), &accountv1.IssueTokenRequest{
			Org: org, App: app, GrantType: "inherit", Username: "late", AutoCreateUser: true,
		})
		wantQuota.check(t, err)
		_, err = b.users.RegisterUsers(t.Context(), &accountv1.RegisterUsersRequest{
			Org: org, App: app, Users: []*accountv1.NewUser{{Username: ptr("old000"), Password: ptr("x")}},
		})
		require.True(t, errs.Is(err, errs.ReasonDuplicate))

		// A deletion makes room for one.
		_, err = b.users.DeleteUser(t.Context(), &accountv1.DeleteUserRequest{Org: org, App: app, Username: "old000"})
		require.NoError(t, err)
		b.register(t, "late")

		// A lowered quota removes nobody and admits nobody.
		b.apps.edit(func(a *catalog.App) { a.Tier = fixture.Tier(t, "free", `{"quotas":{"registered_users":50}}`) })
		_, err = b.users.DeleteUser(t.Context(), &accountv1.DeleteUserRequest{Org: org, App: app, Username: "late"})
		require.NoError(t, err)
		_, err = b.users.RegisterUsers(t.Context(), &accountv1.RegisterUsersRequest{
			Org: org, App: app, Users: []*accountv1.NewUser{{Username: ptr("later"), Password: ptr("x")}},
		})
		wantQuota.check(t, err)
		require.Equal(t, 99, b.count(t, app))
	})
}

func TestParallelRegistrationsOfOneIDCreateOne(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		var created, duplicate atomic.Int32
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				_, err := b.users.RegisterUsers(t.Context(), &accountv1.RegisterUsersRequest{
					Org: org, App: app, Users: []*accountv1.NewUser{{Username: ptr("amelia"), Password: ptr("x")}},
				})
				switch {
				case err == nil:
					created.Add(1)
				case errs.Is(err, errs.ReasonDuplicate):
					duplicate.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, int32(1), created.Load())
		require.Equal(t, int32(15), duplicate.Load())
		require.Equal(t, 1, b.count(t, app))
	})
}

package account_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/errs"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

func TestGetUserRefusals(t *testing.T) {
	t.Parallel()
	b := lite(t)
	b.register(t, "amelia")
	for _, c := range []struct {
		name, app, user string
		want            want
	}{
		{name: "unknown", user: "nobody", want: wantMissing},
		{name: "illegal", user: "a\x00b", want: wantMissing},
		{name: "empty", user: "", want: wantMissing},
		{name: "unknown UUID", user: "6c1f2e40-7a55-11ee-9c3b-0b6d2f1a9e77", want: wantMissing},
		{name: "user of another app", app: "other", user: "amelia", want: wantMissing},
		{name: "UUID of another app's user", app: "other", user: b.get(t, "amelia").GetUuid(), want: wantMissing},
		{name: "unknown app", app: "nochat", user: "amelia", want: wantNoApp},
		{name: "another case", user: "AmElIa"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := app
			if c.app != "" {
				name = c.app
			}
			_, err := b.users.GetUser(t.Context(), &accountv1.GetUserRequest{Org: org, App: name, Username: c.user})
			c.want.check(t, err)
		})
	}
}

func TestListUsersPagesOldestFirst(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		first, second := many(65, "z"), many(60, "a")
		b.register(t, first...)
		b.clock.advance(time.Second)
		b.register(t, second...)
		all := append(append([]string{}, first...), second...)
		for name, c := range map[string]struct {
			limit *int32
			page  int
		}{
			"default":  {nil, 10},
			"one":      {ptr(int32(1)), 1},
			"seven":    {ptr(int32(7)), 7},
			"exact":    {ptr(int32(25)), 25},
			"most":     {ptr(int32(100)), 100},
			"too many": {ptr(int32(1000)), 100},
		} {
			t.Run(name, func(t *testing.T) {
				var got []string
				cursor := ""
				for {
					resp, err := b.users.ListUsers(t.Context(), &accountv1.ListUsersRequest{Org: org, App: app, Limit: c.limit, Cursor: cursor})
					require.NoError(t, err)
					require.NotEmpty(t, resp.GetUsers())
					got = append(got, usernames(resp.GetUsers())...)
					cursor = resp.GetCursor()
					if cursor == "" {
						break
					}
					require.Len(t, resp.GetUsers(), c.page)
					require.Regexp(t, `^[A-Za-z0-9_-]+$`, cursor)
				}
				require.Equal(t, all, got)
			})
		}
		t.Run("empty app", func(t *testing.T) {
			resp, err := b.users.ListUsers(t.Context(), &accountv1.ListUsersRequest{Org: org, App: "other"})
			require.NoError(t, err)
			require.Empty(t, resp.GetUsers())
			require.Empty(t, resp.GetCursor())
		})
	})
}

func TestListAndDeleteUsersRefusals(t *testing.T) {
	t.Parallel()
	b := lite(t)
	b.register(t, many(3, "u")...)
	page, err := b.users.ListUsers(t.Context(), &accountv1.ListUsersRequest{Org: org, App: app, Limit: ptr(int32(1))})
	require.NoError(t, err)
	for _, c := range []struct {
		name, app, cursor string
		limit             *int32
		want              want
	}{
		{name: "limit 0", limit: ptr(int32(0)), want: wantInvalid},
		{name: "limit -1", limit: ptr(int32(-1)), want: wantInvalid},
		{name: "cursor that is none", cursor: "hello", want: wantInvalid},
		{name: "cursor cut", cursor: page.GetCursor()[:10], want: wantInvalid},
		{name: "cursor longer", cursor: page.GetCursor() + "AA", want: wantInvalid},
		{name: "cursor with padding", cursor: page.GetCursor() + "=", want: wantInvalid},
		{name: "unknown app", app: "nochat", want: wantNoApp},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := app
			if c.app != "" {
				name = c.app
			}
			_, err := b.users.ListUsers(t.Context(), &accountv1.ListUsersRequest{Org: org, App: name, Limit: c.limit, Cursor: c.cursor})
			c.want.check(t, err)
			_, err = b.users.DeleteUsers(t.Context(), &accountv1.DeleteUsersRequest{Org: org, App: name, Limit: c.limit, Cursor: c.cursor})
			c.want.check(t, err)
			require.Equal(t, 3, b.count(t, app))
		})
	}
}

func TestDeleteUserLeavesNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, "amelia", "bruno", "carla")
		before := b.get(t, "amelia")
		b.befriend(t, "amelia", "bruno")
		b.block(t, "amelia", "carla")
		b.block(t, "bruno", "amelia")
		b.setAttributes(t, "amelia", map[string]string{"nickname": "Amelia"})
		b.mute(t, "amelia", 600)
		token, err := b.password(t, "amelia", "secret")
		require.NoError(t, err)
		revoked := b.revocations(t)
		pushes, friend, events := b.pushes(t, "amelia"), b.rosters(t, "bruno"), b.events(t)

		resp, err := b.users.DeleteUser(t.Context(), &accountv1.DeleteUserRequest{Org: org, App: app, Username: "Amelia"})
		require.NoError(t, err)
		require.Equal(t, before.GetUuid(), resp.GetUser().GetUuid())
		require.Equal(t, "amelia", resp.GetUser().GetUsername())

		// Her devices, tokens and friends learn of it.
		require.Equal(t, busv1.Disconnect_REASON_REMOVED, next(t, pushes).GetDisconnect().GetReason())
		require.Equal(t, "amelia REMOVED bruno", told(t, next(t, friend)))
		change(t, events, "amelia CHANGE_DELETED")
		change(t, events, "bruno CHANGE_BLOCKS")
		c := b.claims(t, token.GetAccessToken())
		require.Eventually(t, func() bool { return revoked.Revoked(appKey, "amelia", c.IssuedAt) }, 10*time.Second, time.Millisecond)

		// Nothing of hers is left, and nobody's count includes her.
		for _, table := range []string{"contacts", "blocks", "attributes", "mutes", "contact_requests"} {
			var n int
			require.NoError(t, b.db.Read().QueryRowContext(t.Context(), `SELECT COUNT(*) FROM `+table).Scan(&n))
			require.Zero(t, n, table)
		}
		rows, err := b.db.Read().QueryContext(t.Context(), `SELECT quota, owner, used FROM usage WHERE used <> 0`)
		require.NoError(t, err)
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var quota, owner string
			var used int
			require.NoError(t, rows.Scan(&quota, &owner, &used))
			require.Equal(t, "registered_users//2", quota+"/"+owner+"/"+string(rune('0'+used)))
		}
		require.NoError(t, rows.Err())

		_, err = b.users.DeleteUser(t.Context(), &accountv1.DeleteUserRequest{Org: org, App: app, Username: "amelia"})
		wantMissing.check(t, err)
		_, err = b.password(t, "amelia", "secret")
		wantNoUser.check(t, err)

		// The ID may be taken again, with a new UUID and tokens that hold.
		b.register(t, "amelia")
		require.NotEqual(t, before.GetUuid(), b.get(t, "amelia").GetUuid())
		again, err := b.password(t, "amelia", "secret")
		require.NoError(t, err)
		require.False(t, revoked.Revoked(appKey, "amelia", b.claims(t, again.GetAccessToken()).IssuedAt))
	})
}

func TestDeleteUsersTakesTheOldest(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, many(25, "u")...)
		del := func(limit *int32, cursor string) *accountv1.DeleteUsersResponse {
			resp, err := b.users.DeleteUsers(t.Context(), &accountv1.DeleteUsersRequest{Org: org, App: app, Limit: limit, Cursor: cursor})
			require.NoError(t, err)
			return resp
		}
		one := del(nil, "")
		require.Equal(t, many(10, "u"), usernames(one.GetUsers()))
		require.NotEmpty(t, one.GetCursor())
		two := del(ptr(int32(5)), one.GetCursor())
		require.Equal(t, many(15, "u")[10:], usernames(two.GetUsers()))
		three := del(ptr(int32(100)), two.GetCursor())
		require.Equal(t, many(25, "u")[15:], usernames(three.GetUsers()))
		require.Empty(t, three.GetCursor())
		four := del(nil, "")
		require.Empty(t, four.GetUsers())
		require.Empty(t, four.GetCursor())
		require.Zero(t, b.count(t, app))
	})
}

func TestDeactivateAndActivate(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, "amelia")
		issued, err := b.password(t, "amelia", "secret")
		require.NoError(t, err)
		revoked := b.revocations(t)
		pushes, events := b.pushes(t, "amelia"), b.events(t)
		b.clock.advance(time.Minute)

		resp, err := b.users.DeactivateUser(t.Context(), &accountv1.DeactivateUserRequest{Org: org, App: app, Username: "AMELIA"})
		require.NoError(t, err)
		require.False(t, resp.GetUser().GetActivated())
		require.Equal(t, b.clock.Now().UnixMilli(), resp.GetUser().GetModified())
		require.False(t, b.get(t, "amelia").GetActivated())
		require.Equal(t, busv1.Disconnect_REASON_BANNED, next(t, pushes).GetDisconnect().GetReason())
		change(t, events, "amelia CHANGE_DEACTIVATED")
		at := b.claims(t, issued.GetAccessToken()).IssuedAt
		require.Eventually(t, func() bool { return revoked.Revoked(appKey, "amelia", at) }, 10*time.Second, time.Millisecond)

		_, err = b.password(t, "amelia", "secret")
		wantBanned.check(t, err)
		_, err = b.password(t, "amelia", "wrong")
		wantWrongPassword.check(t, err)
		_, err = b.tokens.IssueToken(t.Context(), &accountv1.IssueTokenRequest{Org: org, App: app, GrantType: "inherit", Username: "amelia"})
		wantBanned.check(t, err)

		_, err = b.users.DeactivateUser(t.Context(), &accountv1.DeactivateUserRequest{Org: org, App: app, Username: "amelia"})
		require.NoError(t, err)
		for range 2 {
			_, err = b.users.ActivateUser(t.Context(), &accountv1.ActivateUserRequest{Org: org, App: app, Username: "amelia"})
			require.NoError(t, err)
		}
		change(t, events, "amelia CHANGE_ACTIVATED")
		require.True(t, b.get(t, "amelia").GetActivated())
		again, err := b.password(t, "amelia", "secret")
		require.NoError(t, err)
		require.False(t, revoked.Revoked(appKey, "amelia", b.claims(t, again.GetAccessToken()).IssuedAt))

		for _, name := range []string{"nobody", "a\x00b", ""} {
			_, err = b.users.DeactivateUser(t.Context(), &accountv1.DeactivateUserRequest{Org: org, App: app, Username: name})
			wantMissing.check(t, err)
			_, err = b.users.ActivateUser(t.Context(), &accountv1.ActivateUserRequest{Org: org, App: app, Username: name})
			wantMissing.check(t, err)
		}
	})
}

func BenchmarkGetUser(b *testing.B) {
	x := lite(b)
	x.register(b, many(60, "u")...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.users.GetUser(b.Context(), &accountv1.GetUserRequest{Org: org, App: app, Username: "u007"}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookupRecipients(b *testing.B) {
	x := lite(b)
	names := many(60, "u")
	x.register(b, names...)
	for _, n := range []int{1, 60} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := x.users.LookupRecipients(b.Context(), &accountv1.LookupRecipientsRequest{Org: org, App: app, Usernames: names[:n]})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Whatever comes in while a user is being deleted, nothing about the user
// stays, and every count is that of its rows.
func TestDeletionRacesLeaveNoOrphans(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		people := many(12, "p")
		b.register(t, people...)
		tolerate := func(err error) {
			if err != nil && !errs.Is(err, errs.ReasonNotFound) && !errs.Is(err, errs.ReasonRequiredProperty) {
				t.Error(err)
			}
		}
		var wg sync.WaitGroup
		for i, p := range people {
			wg.Go(func() {
				for _, q := range people {
					if p == q {
						continue
					}
					_, err := b.relations.AddContact(t.Context(), &accountv1.AddContactRequest{Org: org, App: app, OwnerUsername: p, FriendUsername: q})
					tolerate(err)
					_, err = b.relations.AddBlocks(t.Context(), &accountv1.AddBlocksRequest{Org: org, App: app, OwnerUsername: p, Usernames: []string{q}})
					tolerate(err)
					_, err = b.relations.RequestContacts(t.Context(), &accountv1.RequestContactsRequest{Org: org, App: app, OwnerUsername: p, Usernames: []string{q}})
					tolerate(err)
					_, err = b.mutes.SetGlobalMute(t.Context(), &accountv1.SetGlobalMuteRequest{Org: org, App: app, Username: q, Chat: ptr(int64(60))})
					tolerate(err)
				}
			})
			if i%2 == 0 {
				wg.Go(func() {
					_, err := b.users.DeleteUser(t.Context(), &accountv1.DeleteUserRequest{Org: org, App: app, Username: p})
					tolerate(err)
				})
			}
		}
		wg.Wait()
		require.Equal(t, 6, b.count(t, app))
		zero := func(query string) {
			t.Helper()
			var n int
			require.NoError(t, b.db.Read().QueryRowContext(t.Context(), query).Scan(&n))
			require.Zero(t, n, query)
		}
		for _, c := range []string{"contacts owner", "contacts friend", "blocks owner", "blocks blocked", "mutes username", "contact_requests target", "contact_requests sender"} {
			table, column, _ := strings.Cut(c, " ")
			zero(`SELECT COUNT(*) FROM ` + table + ` x WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.app = x.app AND u.username = x.` + column + `)`)
		}
		zero(`SELECT COUNT(*) FROM contacts x WHERE NOT EXISTS (SELECT 1 FROM contacts y WHERE y.app = x.app AND y.owner = x.friend AND y.friend = x.owner)`)
		for quota, table := range map[string]string{"contacts_per_user": "contacts", "blocked_users": "blocks"} {
			zero(`SELECT COUNT(*) FROM users u WHERE (SELECT COUNT(*) FROM ` + table + ` x WHERE x.app = u.app AND x.owner = u.username)
				<> COALESCE((SELECT used FROM usage g WHERE g.app = u.app AND g.quota = '` + quota + `' AND g.owner = u.username), 0)`)
		}
	})
}

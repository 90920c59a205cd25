package account_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	"github.com/chappe-im/chappe/services/account"
)

func (b *bench) befriend(t testing.TB, owner, friend string) {
	t.Helper()
	_, err := b.relations.AddContact(t.Context(), &accountv1.AddContactRequest{Org: org, App: app, OwnerUsername: owner, FriendUsername: friend})
	require.NoError(t, err)
}

func (b *bench) contacts(t testing.TB, owner string) []string {
	t.Helper()
	resp, err := b.relations.ListContacts(t.Context(), &accountv1.ListContactsRequest{Org: org, App: app, OwnerUsername: owner})
	require.NoError(t, err)
	require.Len(t, resp.GetContacts(), len(resp.GetUsernames()))
	return resp.GetUsernames()
}

func (b *bench) block(t testing.TB, owner string, blocked ...string) {
	t.Helper()
	_, err := b.relations.AddBlocks(t.Context(), &accountv1.AddBlocksRequest{Org: org, App: app, OwnerUsername: owner, Usernames: blocked})
	require.NoError(t, err)
}

func (b *bench) blocks(t testing.TB, owner string) []string {
	t.Helper()
	resp, err := b.relations.ListBlocks(t.Context(), &accountv1.ListBlocksRequest{Org: org, App: app, OwnerUsername: owner})
	require.NoError(t, err)
	return resp.GetUsernames()
}

func TestFriendshipIsMutual(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, "amelia", "bruno", "carla")
		amelia, bruno, copies, events := b.pushes(t, "amelia"), b.rosters(t, "bruno"), b.pushes(t, "bruno"), b.events(t)
		resp, err := b.relations.AddContact(t.Context(), &accountv1.AddContactRequest{
			Org: org, App: app, OwnerUsername: "Amelia", FriendUsername: "BRUNO", Resource: "web_1",
		})
		require.NoError(t, err)
		require.Equal(t, b.get(t, "amelia").GetUuid(), resp.GetOwnerUuid())
		require.Equal(t, "bruno", resp.GetFriend().GetUsername())
		require.Equal(t, "amelia ADDED bruno", told(t, next(t, bruno)))
		own := next(t, amelia)
		require.Equal(t, "amelia ADDED bruno", copied(t, own))
		require.Equal(t, "web_1", own.GetNotice().GetExceptResource())
		change(t, events, "amelia CHANGE_CONTACTS")
		change(t, events, "bruno CHANGE_CONTACTS")

		b.clock.advance(time.Second)
		b.befriend(t, "carla", "amelia")
		b.befriend(t, "amelia", "carla") // a friend already: no error, nothing new
		require.Equal(t, []string{"carla", "bruno"}, b.contacts(t, "amelia"))
		require.Equal(t, []string{"amelia"}, b.contacts(t, "bruno"))
		require.Equal(t, []string{"amelia"}, b.contacts(t, "CARLA"))

		for range 2 { // the second time there is no friend to remove
			gone, err := b.relations.RemoveContact(t.Context(), &accountv1.RemoveContactRequest{
				Org: org, App: app, OwnerUsername: "bruno", FriendUsername: "amelia",
			})
			require.NoError(t, err)
			require.Equal(t, b.get(t, "bruno").GetUuid(), gone.GetOwnerUuid())
			require.Equal(t, "amelia", gone.GetFriend().GetUsername())
		}
		require.Equal(t, []string{"carla"}, b.contacts(t, "amelia"))
		require.Empty(t, b.contacts(t, "bruno"))
		require.Equal(t, "bruno REMOVED amelia", copied(t, next(t, copies)))
		require.Empty(t, bruno)
	})
}

func TestRelationRefusals(t *testing.T) {
	t.Parallel()
	b := lite(t)
	b.register(t, "amelia", "bruno")
	for _, c := range []struct {
		name, app, owner, friend string
		add, remove              want
	}{
		{name: "unknown owner", owner: "nobody", friend: "bruno", add: wantMissing, remove: wantMissing},
		{name: "unknown friend", owner: "amelia", friend: "nobody", add: wantMissing, remove: wantMissing},
		{name: "illegal owner", owner: "a\x00b", friend: "bruno", add: wantMissing, remove: wantMissing},
		{name: "illegal friend", owner: "amelia", friend: "a/b", add: wantMissing, remove: wantMissing},
		{name: "empty friend", owner: "amelia", add: wantMissing, remove: wantMissing},
		{name: "oneself", owner: "amelia", friend: "Amelia", add: wantInvalid},
		{name: "users of another app", app: "other", owner: "amelia", friend: "bruno", add: wantMissing, remove: wantMissing},
		{name: "unknown app", app: "nochat", owner: "amelia", friend: "bruno", add: wantNoApp, remove: wantNoApp},
		{name: "no friend", owner: "amelia", friend: "bruno"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := app
			if c.app != "" {
				name = c.app
			}
			_, err := b.relations.RemoveContact(t.Context(), &accountv1.RemoveContactRequest{Org: org, App: name, OwnerUsername: c.owner, FriendUsername: c.friend})
			c.remove.check(t, err)
			_, err = b.relations.RemoveBlock(t.Context(), &accountv1.RemoveBlockRequest{Org: org, App: name, OwnerUsername: c.owner, BlockedUsername: c.friend})
			c.remove.check(t, err)
			_, err = b.relations.AddContact(t.Context(), &accountv1.AddContactRequest{Org: org, App: name, OwnerUsername: c.owner, FriendUsername: c.friend})
			c.add.check(t, err)
			_, err = b.relations.AddBlocks(t.Context(), &accountv1.AddBlocksRequest{Org: org, App: name, OwnerUsername: c.owner, Usernames: []string{c.friend}})
			c.add.check(t, err)
		})
	}
	for _, name := range []string{"nobody", "a\x00b", ""} {
		_, err := b.relations.ListContacts(t.Context(), &accountv1.ListContactsRequest{Org: org, App: app, OwnerUsername: name})
		wantMissing.check(t, err)
		_, err = b.relations.ListBlocks(t.Context(), &accountv1.ListBlocksRequest{Org: org, App: app, OwnerUsername: name})
		wantMissing.check(t, err)
		_, err = b.relations.PageContacts(t.Context(), &accountv1.PageContactsRequest{Org: org, App: app, OwnerUsername: name})
		wantMissing.check(t, err)
	}
}

func TestParallelFriendsStayWithinBothQuotas(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.apps.edit(func(a *catalog.App) { a.Tier = compile(t, "advanced", `{"quotas":{"contacts_per_user":10}}`) })
		people := many(30, "p")
		b.register(t, append(people, "amelia")...)
		// Everybody with everybody, and all with Amelia, from both ends.
		var wg sync.WaitGroup
		var friendships atomic.Int32
		for i, p := range people {
			wg.Go(func() {
				pairs := [][2]string{{"amelia", p}, {p, "amelia"}}
				for _, q := range people[:i] {
					pairs = append(pairs, [2]string{p, q})
				}
				for _, x := range pairs {
					_, err := b.relations.AddContact(t.Context(), &accountv1.AddContactRequest{Org: org, App: app, OwnerUsername: x[0], FriendUsername: x[1]})
					switch {
					case err == nil:
						friendships.Add(1)
					case errs.Is(err, errs.ReasonExceedLimit):
					default:
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		lists := map[string][]string{}
		for _, p := range append(people, "amelia") {
			lists[p] = b.contacts(t, p)
			require.LessOrEqual(t, len(lists[p]), 10, p)
			var used int
			require.NoError(t, b.db.Read().QueryRowContext(t.Context(),
				`SELECT COALESCE(SUM(used), 0) FROM usage WHERE quota = 'contacts_per_user' AND owner = $1`, p).Scan(&used))
			require.Len(t, lists[p], used)
		}
		for p, friends := range lists {
			for _, f := range friends {
				require.Contains(t, lists[f], p)
			}
		}
		// No two who both have room are left apart.
		for i, p := range people {
			for _, q := range people[:i] {
				if len(lists[p]) < 10 && len(lists[q]) < 10 {
					require.Contains(t, lists[p], q)
				}
			}
		}
	})
}

func TestFriendQuotaIsTheTiers(t *testing.T) {
	t.Parallel()
	b := lite(t)
	b.apps.edit(func(a *catalog.App) { a.Tier = compile(t, "advanced", `{"quotas":{"contacts_per_user":2}}`) })
	b.register(t, many(5, "p")...)
	b.befriend(t, "p000", "p001")
	b.befriend(t, "p002", "p000")
	for _, pair := range [][2]string{{"p000", "p003"}, {"p003", "p000"}} { // full on one side or the other
		_, err := b.relations.AddContact(t.Context(), &accountv1.AddContactRequest{Org: org, App: app, OwnerUsername: pair[0], FriendUsername: pair[1]})
		wantManyFriends.check(t, err)
		require.Empty(t, b.contacts(t, "p003"))
	}
	b.befriend(t, "p000", "p001") // a friend already
	_, err := b.relations.RemoveContact(t.Context(), &accountv1.RemoveContactRequest{Org: org, App: app, OwnerUsername: "p001", FriendUsername: "p000"})
	require.NoError(t, err)
	b.befriend(t, "p003", "p000")
}

func TestContactPagesAndRemarks(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, append(many(25, "f"), "amelia")...)
		var expected []string
		for i, f := range many(25, "f") {
			if i%3 == 0 {
				b.clock.advance(time.Millisecond) // some at the same instant
			}
			b.befriend(t, "amelia", f)
		}
		expected = b.contacts(t, "amelia")
		require.Len(t, expected, 25)
		_, err := b.relations.SetContactRemark(t.Context(), &accountv1.SetContactRemarkRequest{
			Org: org, App: app, OwnerUsername: "amelia", FriendUsername: "F007", Remark: ptr(strings.Repeat("猫", 100)),
		})
		require.NoError(t, err)
		for _, limit := range []*int32{nil, ptr(int32(1)), ptr(int32(5)), ptr(int32(50))} {
			var got []string
			cursor := ""
			for {
				resp, err := b.relations.PageContacts(t.Context(), &accountv1.PageContactsRequest{
					Org: org, App: app, OwnerUsername: "amelia", Limit: limit, Cursor: cursor,
				})
				require.NoError(t, err)
				for _, c := range resp.GetContacts() {
					got = append(got, c.GetUsername())
					require.Equal(t, c.GetUsername() == "f007", c.GetRemark() != "")
				}
				if cursor = resp.GetCursor(); cursor == "" {
					break
				}
			}
			require.Equal(t, expected, got)
		}
		for name, c := range map[string]struct {
			req  *accountv1.SetContactRemarkRequest
			want want
		}{
			"NUL":            {&accountv1.SetContactRemarkRequest{FriendUsername: "f001", Remark: ptr("a\x00b")}, wantInvalid},
			"101 characters": {&accountv1.SetContactRemarkRequest{FriendUsername: "f001", Remark: ptr(strings.Repeat("x", 101))}, wantInvalid},
			"no friend":      {&accountv1.SetContactRemarkRequest{FriendUsername: "amelia", Remark: ptr("x")}, wantText("updateRemark they are not friends, please add as a friend first.")},
			"unknown":        {&accountv1.SetContactRemarkRequest{FriendUsername: "nobody", Remark: ptr("x")}, wantMissing},
			"none":           {&accountv1.SetContactRemarkRequest{FriendUsername: "f007"}, wantInvalid},
			"cleared":        {&accountv1.SetContactRemarkRequest{FriendUsername: "f007", Remark: ptr("")}, want{}},
		} {
			c.req.Org, c.req.App, c.req.OwnerUsername = org, app, "amelia"
			_, err := b.relations.SetContactRemark(t.Context(), c.req)
			t.Log(name)
			c.want.check(t, err)
		}
		for _, req := range []*accountv1.PageContactsRequest{{Limit: ptr(int32(0))}, {Cursor: "x"}, {Cursor: "AAAAAAAAAAAA"}, {Cursor: "AAAAAAAAAAAgIA"}} {
			req.Org, req.App, req.OwnerUsername = org, app, "amelia"
			_, err := b.relations.PageContacts(t.Context(), req)
			wantInvalid.check(t, err)
		}
		_, err = b.relations.PageContacts(t.Context(), &accountv1.PageContactsRequest{Org: org, App: app, OwnerUsername: "amelia", Limit: ptr(int32(51))})
		wantText("getContacts | page size more than max limit : 50").check(t, err)
	})
}

func TestContactRequests(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, "amelia", "bruno", "carla", "dario")
		amelia, bruno, carla, copies := b.rosters(t, "amelia"), b.rosters(t, "bruno"), b.rosters(t, "carla"), b.pushes(t, "bruno")
		ask := func(owner, reason string, names ...string) error {
			_, err := b.relations.RequestContacts(t.Context(), &accountv1.RequestContactsRequest{
				Org: org, App: app, OwnerUsername: owner, Usernames: names, Reason: reason,
			})
			return err
		}
		accept := func(owner, friend string) error {
			_, err := b.relations.AcceptContact(t.Context(), &accountv1.AcceptContactRequest{
				Org: org, App: app, OwnerUsername: owner, FriendUsername: friend, Resource: "web_2",
			})
			return err
		}
		decline := func(owner, friend string) error {
			_, err := b.relations.DeclineContact(t.Context(), &accountv1.DeclineContactRequest{Org: org, App: app, OwnerUsername: owner, FriendUsername: friend})
			return err
		}
		// Nobody becomes a friend of one who did not ask.
		wantMissing.check(t, accept("amelia", "bruno"))
		wantMissing.check(t, decline("amelia", "bruno"))

		require.NoError(t, ask("amelia", "from the choir", "Bruno", "carla", "bruno"))
		for name, ch := range map[string]<-chan *busv1.RosterEvent{"bruno": bruno, "carla": carla} {
			require.Equal(t, "amelia REQUESTED "+name+" from the choir", told(t, next(t, ch)))
		}
		require.Empty(t, b.contacts(t, "amelia"))
		wantMissing.check(t, accept("amelia", "bruno")) // the asker cannot

		require.NoError(t, accept("bruno", "amelia"))
		require.Equal(t, "bruno ACCEPTED amelia", told(t, next(t, amelia)))
		own := next(t, copies)
		require.Equal(t, "bruno ACCEPTED amelia", copied(t, own))
		require.Equal(t, "web_2", own.GetNotice().GetExceptResource())
		require.Equal(t, []string{"bruno"}, b.contacts(t, "amelia"))
		require.NoError(t, accept("bruno", "amelia")) // twice

		require.NoError(t, decline("carla", "amelia"))
		require.Equal(t, "carla DECLINED amelia", told(t, next(t, amelia)))
		wantMissing.check(t, accept("carla", "amelia"))

		// Neither friends nor those who blocked the asker are asked.
		b.block(t, "dario", "amelia")
		dario := b.rosters(t, "dario")
		require.NoError(t, ask("amelia", "", "bruno", "dario"))
		wantMissing.check(t, accept("dario", "amelia"))
		require.NoError(t, ask("carla", "marker", "dario", "bruno"))
		for name, ch := range map[string]<-chan *busv1.RosterEvent{"bruno": bruno, "dario": dario} {
			require.Equal(t, "carla REQUESTED "+name+" marker", told(t, next(t, ch)))
		}

		for name, c := range map[string]struct {
			names  []string
			reason string
			want   want
		}{
			"nobody":      {nil, "", wantInvalid},
			"unknown":     {[]string{"carla", "nobody"}, "", wantMissing},
			"oneself":     {[]string{"amelia"}, "", wantInvalid},
			"too many":    {make([]string, 101), "", wantInvalid},
			"long reason": {[]string{"carla"}, strings.Repeat("x", 513), wantInvalid},
		} {
			t.Log(name)
			c.want.check(t, ask("amelia", c.reason, c.names...))
		}
	})
}

func TestContactRequestsAreBounded(t *testing.T) {
	t.Parallel()
	b := lite(t, func(c *account.Config, _ *account.Deps) { c.ContactRequests = 3 })
	b.register(t, append(many(5, "p"), "amelia")...)
	for _, p := range many(5, "p") {
		b.clock.advance(time.Second)
		_, err := b.relations.RequestContacts(t.Context(), &accountv1.RequestContactsRequest{Org: org, App: app, OwnerUsername: p, Usernames: []string{"amelia"}})
		require.NoError(t, err)
	}
	for i, p := range many(5, "p") {
		_, err := b.relations.AcceptContact(t.Context(), &accountv1.AcceptContactRequest{Org: org, App: app, OwnerUsername: "amelia", FriendUsername: p})
		if i < 2 {
			wantMissing.check(t, err)
		} else {
			require.NoError(t, err)
		}
	}
}

func TestBlocks(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, "amelia", "bruno", "carla", "dario")
		b.befriend(t, "amelia", "bruno")
		events := b.events(t)
		resp, err := b.relations.AddBlocks(t.Context(), &accountv1.AddBlocksRequest{
			Org: org, App: app, OwnerUsername: "Amelia", Usernames: []string{"Bruno", "carla", "bruno"},
		})
		require.NoError(t, err)
		require.Equal(t, []string{"bruno", "carla"}, resp.GetUsernames())
		change(t, events, "amelia CHANGE_BLOCKS")
		b.clock.advance(time.Second)
		b.block(t, "amelia", "dario", "carla")
		require.Equal(t, []string{"dario", "carla", "bruno"}, b.blocks(t, "amelia"))
		require.Empty(t, b.blocks(t, "bruno"))
		require.Equal(t, []string{"bruno"}, b.contacts(t, "amelia")) // friends stay friends

		// All or none.
		_, err = b.relations.AddBlocks(t.Context(), &accountv1.AddBlocksRequest{Org: org, App: app, OwnerUsername: "bruno", Usernames: []string{"carla", "nobody"}})
		wantMissing.check(t, err)
		_, err = b.relations.AddBlocks(t.Context(), &accountv1.AddBlocksRequest{Org: org, App: app, OwnerUsername: "bruno", Usernames: []string{"carla", "Bruno"}})
		wantInvalid.check(t, err)
		_, err = b.relations.AddBlocks(t.Context(), &accountv1.AddBlocksRequest{Org: org, App: app, OwnerUsername: "bruno"})
		wantInvalid.check(t, err)
		require.Empty(t, b.blocks(t, "bruno"))

		for range 2 {
			gone, err := b.relations.RemoveBlock(t.Context(), &accountv1.RemoveBlockRequest{Org: org, App: app, OwnerUsername: "amelia", BlockedUsername: "CARLA"})
			require.NoError(t, err)
			require.Equal(t, b.get(t, "amelia").GetUuid(), gone.GetOwnerUuid())
			require.Equal(t, "carla", gone.GetUnblocked().GetUsername())
		}
		require.Equal(t, []string{"dario", "bruno"}, b.blocks(t, "amelia"))
	})
}

func TestBlockPages(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		people := many(120, "p")
		b.register(t, append(people, "amelia")...)
		for i := 0; i < len(people); i += 40 { // several at the same instant
			b.clock.advance(time.Millisecond)
			b.block(t, "amelia", people[i:i+40]...)
		}
		page := func(size *int32, cursor string) *accountv1.ListBlocksResponse {
			t.Helper()
			resp, err := b.relations.ListBlocks(t.Context(), &accountv1.ListBlocksRequest{Org: org, App: app, OwnerUsername: "Amelia", PageSize: size, Cursor: cursor})
			require.NoError(t, err)
			return resp
		}
		all := page(nil, "")
		require.Len(t, all.GetUsernames(), 120)
		require.Empty(t, all.GetCursor(), "without a page all is there")
		require.Equal(t, "p119", all.GetUsernames()[0])
		for _, size := range []int32{1, 7, 40, 50} {
			var got []string
			for cursor := ""; ; {
				p := page(&size, cursor)
				require.LessOrEqual(t, len(p.GetUsernames()), int(size))
				got = append(got, p.GetUsernames()...)
				if cursor = p.GetCursor(); cursor == "" {
					break
				}
			}
			require.Equal(t, all.GetUsernames(), got)
		}
		first := page(ptr(int32(3)), "")
		require.Len(t, page(nil, first.GetCursor()).GetUsernames(), 10, "a cursor alone asks for a page")
		_, err := b.relations.RemoveBlock(t.Context(), &accountv1.RemoveBlockRequest{Org: org, App: app, OwnerUsername: "amelia", BlockedUsername: first.GetUsernames()[2]})
		require.NoError(t, err)
		require.Equal(t, all.GetUsernames()[3], page(nil, first.GetCursor()).GetUsernames()[0], "the place may be gone")
		for _, req := range []*accountv1.ListBlocksRequest{
			{PageSize: ptr(int32(0))}, {PageSize: ptr(int32(-1))}, {PageSize: ptr(int32(51))}, {Cursor: "x"}, {Cursor: "AAAA"},
		} {
			req.Org, req.App, req.OwnerUsername = org, app, "amelia"
			_, err := b.relations.ListBlocks(t.Context(), req)
			wantInvalid.check(t, err)
		}
	})
}

func TestRemoveBlocks(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, "amelia", "bruno", "carla", "dario", "edda")
		b.block(t, "amelia", "bruno", "carla", "dario")
		events := b.events(t)
		remove := func(owner string, names ...string) (*accountv1.RemoveBlocksResponse, error) {
			return b.relations.RemoveBlocks(t.Context(), &accountv1.RemoveBlocksRequest{Org: org, App: app, OwnerUsername: owner, Usernames: names})
		}
		_, err := remove("amelia", "bruno", "nobody") // all or none
		wantMissing.check(t, err)
		require.Len(t, b.blocks(t, "amelia"), 3)
		for range 2 { // the second time none of them is blocked
			resp, err := remove("Amelia", "Bruno", "edda", "carla", "bruno")
			require.NoError(t, err)
			require.Equal(t, []string{"bruno", "edda", "carla"}, resp.GetUsernames())
			require.Equal(t, []string{"dario"}, b.blocks(t, "amelia"))
		}
		change(t, events, "amelia CHANGE_BLOCKS")
		// What was removed has made room.
		b.block(t, "amelia", "bruno", "carla")
		_, err = b.relations.AddBlocks(t.Context(), &accountv1.AddBlocksRequest{Org: org, App: app, OwnerUsername: "amelia", Usernames: []string{"edda"}})
		want{codes.PermissionDenied, errs.ReasonForbidden, "the block list is full: at most 3 users"}.check(t, err)

		for name, c := range map[string]struct {
			owner string
			names []string
			want  want
		}{
			"none":          {"amelia", nil, wantInvalid},
			"oneself":       {"amelia", []string{"bruno", "AMELIA"}, wantInvalid},
			"illegal":       {"amelia", []string{"a\x00b"}, wantMissing},
			"unknown owner": {"nobody", []string{"bruno"}, wantMissing},
			"too many":      {"amelia", many(4, "p"), wantInvalid},
		} {
			t.Log(name)
			_, err := remove(c.owner, c.names...)
			c.want.check(t, err)
		}
		require.Len(t, b.blocks(t, "amelia"), 3)
	}, func(c *account.Config, _ *account.Deps) { c.BlockedUsers = 3 })
}

func TestParallelBlocksFillTheListExactly(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		people := many(40, "p")
		b.register(t, append(people, "amelia")...)
		full := want{codes.PermissionDenied, errs.ReasonForbidden, "the block list is full: at most 20 users"}
		var wg sync.WaitGroup
		for _, p := range people {
			wg.Go(func() {
				_, err := b.relations.AddBlocks(t.Context(), &accountv1.AddBlocksRequest{Org: org, App: app, OwnerUsername: "amelia", Usernames: []string{p}})
				if err != nil && errs.From(err).Message != full.message {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		blocked := b.blocks(t, "amelia")
		require.Len(t, blocked, 20)
		b.block(t, "amelia", blocked...) // all there already
		_, err := b.relations.AddBlocks(t.Context(), &accountv1.AddBlocksRequest{Org: org, App: app, OwnerUsername: "amelia", Usernames: people})
		full.check(t, err)
		_, err = b.relations.RemoveBlock(t.Context(), &accountv1.RemoveBlockRequest{Org: org, App: app, OwnerUsername: "amelia", BlockedUsername: blocked[0]})
		require.NoError(t, err)
		b.block(t, "amelia", blocked[0])
		i := slices.IndexFunc(people, func(p string) bool { return !slices.Contains(blocked, p) })
		_, err = b.relations.AddBlocks(t.Context(), &accountv1.AddBlocksRequest{Org: org, App: app, OwnerUsername: "amelia", Usernames: []string{people[i]}})
		full.check(t, err)
	}, func(c *account.Config, _ *account.Deps) { c.BlockedUsers = 20 })
}

func TestLookupRecipients(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, "amelia", "bruno", "carla")
		b.block(t, "amelia", "bruno", "carla")
		b.mute(t, "bruno", 60)
		_, err := b.mutes.SetGlobalMute(t.Context(), &accountv1.SetGlobalMuteRequest{
			Org: org, App: app, Username: "bruno", Groupchat: ptr(int64(-1)), Chatroom: ptr(int64(0)),
		})
		require.NoError(t, err)
		_, err = b.users.DeactivateUser(t.Context(), &accountv1.DeactivateUserRequest{Org: org, App: app, Username: "carla"})
		require.NoError(t, err)
		look := func(names ...string) ([]*accountv1.Recipient, error) {
			resp, err := b.users.LookupRecipients(t.Context(), &accountv1.LookupRecipientsRequest{Org: org, App: app, Usernames: names})
			return resp.GetRecipients(), err
		}
		got, err := look("no\x00body", "carla", "amelia", "bruno", "amelia")
		require.NoError(t, err)
		require.Len(t, got, 5)
		require.False(t, got[0].GetExists())
		require.True(t, got[1].GetExists() && got[1].GetDeactivated())
		for _, i := range []int{2, 4} {
			require.True(t, got[i].GetExists() && !got[i].GetDeactivated())
			require.ElementsMatch(t, []string{"bruno", "carla"}, got[i].GetBlocked())
			require.Zero(t, got[i].GetMutedChat())
		}
		require.Equal(t, start.Add(time.Minute).UnixMilli(), got[3].GetMutedChat())
		require.Equal(t, int64(-1), got[3].GetMutedGroupchat())
		require.Zero(t, got[3].GetMutedChatroom())

		got, err = look("a\x00b")
		require.NoError(t, err)
		require.False(t, got[0].GetExists())
		got, err = look()
		require.NoError(t, err)
		require.Empty(t, got)
		names := make([]string, 601)
		for i := range names {
			names[i] = fmt.Sprint("u", i)
		}
		got, err = look(names[:600]...)
		require.NoError(t, err)
		require.Len(t, got, 600)
		_, err = look(names...)
		wantInvalid.check(t, err)
	})
}

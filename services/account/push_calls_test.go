package account_test

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/catalog"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

func (b *bench) bind(t testing.TB, user, device, notifier, token string) {
	t.Helper()
	_, err := b.push.SetPushBinding(t.Context(), &accountv1.SetPushBindingRequest{
		Org: org, App: app, Username: user, DeviceId: device, NotifierName: notifier, DeviceToken: token,
	})
	require.NoError(t, err)
}

func (b *bench) bindings(t testing.TB, user string) []string {
	t.Helper()
	resp, err := b.push.GetPushBindings(t.Context(), &accountv1.GetPushBindingsRequest{Org: org, App: app, Username: user})
	require.NoError(t, err)
	out := []string{}
	for _, x := range resp.GetBindings() {
		out = append(out, x.GetDeviceId()+" "+x.GetNotifierName()+" "+x.GetDeviceToken())
	}
	return out
}

// TestParallelBindingsAreAllKept binds many devices at once: none is lost, and
// the list has its length.
func TestParallelBindingsAreAllKept(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.register(t, "amelia", "bruno")
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() { b.bind(t, "amelia", fmt.Sprint("d", i), "fcm", "t") })
		}
		for i := range 40 {
			wg.Go(func() { b.bind(t, "bruno", fmt.Sprint("d", i), "fcm", "t") })
		}
		wg.Wait()
		require.Len(t, b.bindings(t, "amelia"), 16)
		require.Len(t, b.bindings(t, "bruno"), 16)
		events := b.events(t)
		b.bind(t, "Amelia", "d3", "", "")
		change(t, events, "amelia CHANGE_PUSH_SETTINGS")
		require.Len(t, b.bindings(t, "amelia"), 15)
		u := b.get(t, "amelia")
		require.Equal(t, b.bindings(t, "amelia")[0], u.GetPushInfo()[0].GetDeviceId()+" "+u.GetNotifierName()+" "+u.GetDeviceToken())
		_, err := b.push.GetPushBindings(t.Context(), &accountv1.GetPushBindingsRequest{Org: org, App: app, Username: "nobody"})
		wantMissing.check(t, err)
	})
}

// relationCursor makes a cursor as clients might make one up.
func relationCursor(place uint64, user string) string {
	return base64.RawURLEncoding.EncodeToString(append(binary.BigEndian.AppendUint64(nil, place), user...))
}

// TestNotificationSettings merges settings, pages through them, and looks at
// them after their time and their users.
func TestNotificationSettings(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		people := many(23, "p")
		b.register(t, append(people, "amelia")...)
		set := func(chatType, target string, edit func(*accountv1.SetNotificationRequest)) *accountv1.Notification {
			t.Helper()
			req := &accountv1.SetNotificationRequest{Org: org, App: app, Username: "Amelia", ChatType: chatType, Target: target}
			edit(req)
			resp, err := b.push.SetNotification(t.Context(), req)
			require.NoError(t, err)
			return resp.GetNotification()
		}
		kind := func(k string) func(*accountv1.SetNotificationRequest) {
			return func(r *accountv1.SetNotificationRequest) { r.Type = &k }
		}
		n := set("user", "p001", func(r *accountv1.SetNotificationRequest) { r.IgnoreDuration = ptr(int64(60_000)) })
		require.Equal(t, b.clock.Now().Add(time.Minute).UnixMilli(), n.GetIgnoreUntil())
		b.clock.advance(time.Minute)
		get := func() *accountv1.Notification {
			resp, err := b.push.GetNotification(t.Context(), &accountv1.GetNotificationRequest{Org: org, App: app, Username: "amelia", ChatType: "user", Target: "P001"})
			require.NoError(t, err)
			return resp.GetNotification()
		}
		require.Zero(t, get().GetIgnoreUntil(), "it is over")

		want := map[string]string{}
		for i, p := range people {
			k := []string{"ALL", "AT", "NONE", "DEFAULT"}[i%4]
			set("user", p, kind(k))
			if k != "DEFAULT" {
				want["user "+p] = k
			}
		}
		for i := range 5 {
			set("chatgroup", fmt.Sprint(100+i), kind("NONE"))
			want[fmt.Sprint("chatgroup ", 100+i)] = "NONE"
		}
		set("user", "amelia", kind("NONE"))
		for _, limit := range []int32{1, 3, 50} {
			got, cursor := map[string]string{}, ""
			for {
				resp, err := b.push.ListNotificationTypes(t.Context(), &accountv1.ListNotificationTypesRequest{Org: org, App: app, Username: "amelia", Limit: &limit, Cursor: cursor})
				require.NoError(t, err)
				require.LessOrEqual(t, len(resp.GetTypes()), int(limit))
				for _, x := range resp.GetTypes() {
					key := x.GetChatType() + " " + x.GetTarget()
					require.NotContains(t, got, key)
					got[key] = x.GetType()
				}
				if cursor = resp.GetCursor(); cursor == "" {
					break
				}
			}
			require.Equal(t, want, got)
		}

		far := relationCursor(1<<63-1, "a")
		_, err := b.push.ListNotificationTypes(t.Context(), &accountv1.ListNotificationTypesRequest{Org: org, App: app, Username: "amelia", Cursor: far})
		wantInvalid.check(t, err)

		// Settings go with their user, and with the user they are about.
		rows := func() (n int) {
			require.NoError(t, b.db.Read().QueryRowContext(t.Context(), `SELECT COUNT(*) FROM notifications`).Scan(&n))
			return n
		}
		require.Equal(t, 29, rows())
		for i, user := range []string{"p001", "amelia"} {
			_, err := b.users.DeleteUser(t.Context(), &accountv1.DeleteUserRequest{Org: org, App: app, Username: user})
			require.NoError(t, err)
			require.Equal(t, []int{28, 0}[i], rows())
		}
	})
}

func TestNotificationSettingsAreBounded(t *testing.T) {
	t.Parallel()
	b := lite(t)
	b.register(t, "amelia")
	set := func(group int) error {
		_, err := b.push.SetNotification(t.Context(), &accountv1.SetNotificationRequest{
			Org: org, App: app, Username: "amelia", ChatType: "chatgroup", Target: fmt.Sprint(group), Type: ptr("NONE"),
		})
		return err
	}
	for i := range 2000 {
		require.NoError(t, set(i))
	}
	require.Error(t, set(2000))
	require.NoError(t, set(7), "one that is there")
}

// TestParallelImportsStayWithinTheQuota imports the same and other friends at
// once, from both sides.
func TestParallelImportsStayWithinTheQuota(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		b.apps.edit(func(a *catalog.App) { a.Tier = compile(t, "advanced", `{"quotas":{"contacts_per_user":10}}`) })
		people := many(30, "p")
		b.register(t, append(people, "amelia")...)
		var success, over atomic.Int64
		var wg sync.WaitGroup
		for i := 0; i < len(people); i += 5 {
			wg.Go(func() {
				resp, err := b.relations.ImportContacts(t.Context(), &accountv1.ImportContactsRequest{
					Org: org, App: app, OwnerUsername: "amelia", Usernames: people[i : i+5],
				})
				if err != nil {
					want{code: wantManyFriends.code, reason: wantManyFriends.reason, message: "Inviter's contact max count."}.check(t, err)
					over.Add(5)
					return
				}
				success.Add(int64(len(resp.GetSuccess())))
				over.Add(int64(len(resp.GetOverLimit())))
			})
		}
		wg.Wait()
		require.EqualValues(t, 10, success.Load())
		require.EqualValues(t, 20, over.Load())
		friends := b.contacts(t, "amelia")
		require.Len(t, friends, 10)
		for _, f := range friends {
			require.Equal(t, []string{"amelia"}, b.contacts(t, f))
		}

		// All at once they go, and there is room again.
		events := b.rosters(t, friends[0])
		_, err := b.relations.RemoveAllContacts(t.Context(), &accountv1.RemoveAllContactsRequest{Org: org, App: app, Username: "AMELIA"})
		require.NoError(t, err)
		require.Equal(t, "REMOVED", op(t, next(t, events)))
		require.Empty(t, b.contacts(t, "amelia"))
		for _, f := range friends {
			require.Empty(t, b.contacts(t, f))
		}
		resp, err := b.relations.ImportContacts(t.Context(), &accountv1.ImportContactsRequest{Org: org, App: app, OwnerUsername: "amelia", Usernames: people[:10]})
		require.NoError(t, err)
		require.Len(t, resp.GetSuccess(), 10)
	})
}

// op checks a contact event and returns what was done.
func op(t testing.TB, e *busv1.RosterEvent) string {
	t.Helper()
	require.NotEmpty(t, told(t, e))
	return strings.TrimPrefix(e.GetEvent().GetAction().String(), "ACTION_")
}

// TestImportsTellOnlyWhenAsked looks at what the new friends hear.
func TestImportsTellOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	b := lite(t)
	b.register(t, "amelia", "bruno")
	events := b.rosters(t, "bruno")
	for _, notice := range []bool{false, true} {
		_, err := b.relations.ImportContacts(t.Context(), &accountv1.ImportContactsRequest{
			Org: org, App: app, OwnerUsername: "amelia", Usernames: []string{"bruno"}, IsSendNotice: notice,
		})
		require.NoError(t, err)
		if !notice {
			_, err := b.relations.RemoveAllContacts(t.Context(), &accountv1.RemoveAllContactsRequest{Org: org, App: app, Username: "amelia"})
			require.NoError(t, err)
			require.Equal(t, "REMOVED", op(t, next(t, events)), "nothing came before")
		}
	}
	require.Equal(t, "ADDED", op(t, next(t, events)))
}

package account_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/testkit/fixture"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

// TestSixtyFourAddersFillOneListExactly has as many callers make friends of one
// user at once, from either end, and as many remove and add one again.
func TestSixtyFourAddersFillOneListExactly(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		const quota, adders = 20, 64
		b.apps.edit(func(a *catalog.App) { a.Tier = fixture.Tier(t, "advanced", `{"quotas":{"contacts_per_user":20}}`) })
		people := many(adders, "p")
		b.register(t, append(people, "amelia")...)
		add := func(i int) error {
			owner, friend := "amelia", people[i]
			if i%2 == 1 {
				owner, friend = friend, owner
			}
			_, err := b.relations.AddContact(t.Context(), &accountv1.AddContactRequest{Org: org, App: app, OwnerUsername: owner, FriendUsername: friend})
			return err
		}
		parallel := func(f func(i int) error) int {
			var admitted, refused atomic.Int32
			var wg sync.WaitGroup
			for i := range people {
				wg.Go(func() {
					switch err := f(i); {
					case err == nil:
						admitted.Add(1)
					case errs.Is(err, errs.ReasonExceedLimit):
						refused.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			wg.Wait()
			require.EqualValues(t, adders, admitted.Load()+refused.Load())
			return int(admitted.Load())
		}
		used := func(owner string) (n int) {
			require.NoError(t, b.db.Read().QueryRowContext(t.Context(),
				`SELECT COALESCE(SUM(used), 0) FROM usage WHERE quota = 'contacts_per_user' AND owner = $1`, owner).Scan(&n))
			return n
		}
		require.Equal(t, quota, parallel(add))
		friends := b.contacts(t, "amelia")
		require.Len(t, friends, quota)
		require.Equal(t, quota, used("amelia"))
		for _, p := range people {
			require.Len(t, b.contacts(t, p), used(p), p)
		}
		require.Equal(t, quota, parallel(add), "who is a friend is admitted again and counts once")
		require.Equal(t, quota, used("amelia"))

		// Places become free and are taken, both at once.
		parallel(func(i int) error {
			if i >= quota {
				return add(i)
			}
			_, err := b.relations.RemoveContact(t.Context(), &accountv1.RemoveContactRequest{Org: org, App: app, OwnerUsername: friends[i], FriendUsername: "amelia"})
			return err
		})
		require.Len(t, b.contacts(t, "amelia"), used("amelia"))
		require.LessOrEqual(t, used("amelia"), quota)
		parallel(add)
		require.Equal(t, quota, used("amelia"))
		require.Len(t, b.contacts(t, "amelia"), quota)
	})
}

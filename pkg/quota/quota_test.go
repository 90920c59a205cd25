package quota_test

import (
	"database/sql"
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/quota"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func each(t *testing.T, f func(t *testing.T, db *store.DB)) {
	testkit.EachDatabase(t, "quota", nil, func(t *testing.T, db *store.DB) {
		write(t, db, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(t.Context(), quota.Schema); err != nil {
				return err
			}
			_, err := tx.ExecContext(t.Context(), quota.Index)
			return err
		})
		f(t, db)
	})
}

func write(t *testing.T, db *store.DB, f func(tx *sql.Tx) error) {
	t.Helper()
	require.NoError(t, db.Write(t.Context(), f))
}

func used(t *testing.T, db *store.DB, owner string) int64 {
	t.Helper()
	n, err := quota.Used(t.Context(), db.Read(), 1, "friends", owner)
	require.NoError(t, err)
	return n
}

func limit(n int64) *int64 { return &n }

func TestHighest(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *store.DB) {
		highest := func() (string, int64) {
			owner, n, err := quota.Highest(t.Context(), db.Read(), 1, "friends")
			require.NoError(t, err)
			return owner, n
		}
		owner, n := highest()
		require.Empty(t, owner)
		require.Zero(t, n)
		add := func(app int64, name, owner string, n int64) {
			write(t, db, func(tx *sql.Tx) error { return quota.Add(t.Context(), tx, app, name, owner, n, nil) })
		}
		add(1, "friends", "amy", 3)
		add(1, "friends", "ben", 5)
		add(1, "foes", "amy", 50)
		add(2, "friends", "amy", 70)
		owner, n = highest()
		require.Equal(t, "ben", owner)
		require.Equal(t, int64(5), n)
		add(1, "friends", "ben", -5)
		add(1, "friends", "amy", -3)
		owner, n = highest()
		require.Empty(t, owner, "a count of nothing is nobody's")
		require.Zero(t, n)
	})
}

func TestAddAtTheLimit(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *store.DB) {
		for _, c := range []struct {
			name   string
			before int64
			n      int64
			limit  *int64
			want   int64
			full   bool
		}{
			{name: "first of one", n: 1, limit: limit(1), want: 1},
			{name: "first of none", n: 1, limit: limit(0), full: true},
			{name: "up to the limit", before: 3, n: 7, limit: limit(10), want: 10},
			{name: "one above", before: 3, n: 8, limit: limit(10), want: 3, full: true},
			{name: "more than the limit at once", n: 11, limit: limit(10), full: true},
			{name: "no limit", before: 100, n: 1, want: 101},
			{name: "largest limit", before: 5, n: 5, limit: limit(math.MaxInt64), want: 10},
			{name: "lowered below what is used", before: 20, n: 1, limit: limit(10), want: 20, full: true},
			{name: "nothing to add above the limit", before: 20, n: 0, limit: limit(10), want: 20},
			{name: "less above the limit", before: 20, n: -5, limit: limit(10), want: 15},
		} {
			t.Run(c.name, func(t *testing.T) {
				if c.before > 0 {
					write(t, db, func(tx *sql.Tx) error {
						return quota.Add(t.Context(), tx, 1, "friends", c.name, c.before, nil)
					})
				}
				err := db.Write(t.Context(), func(tx *sql.Tx) error {
					return quota.Add(t.Context(), tx, 1, "friends", c.name, c.n, c.limit)
				})
				if c.full {
					require.True(t, errs.Is(err, errs.ReasonQuota), "%v", err)
				} else {
					require.NoError(t, err)
				}
				require.Equal(t, c.want, used(t, db, c.name))
			})
		}
	})
}

func TestOwnersQuotasAndAppsAreApart(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *store.DB) {
		write(t, db, func(tx *sql.Tx) error {
			for _, x := range []struct {
				app          int64
				quota, owner string
			}{{1, "friends", "a"}, {1, "friends", "b"}, {2, "friends", "a"}, {1, "groups", "a"}} {
				if err := quota.Add(t.Context(), tx, x.app, x.quota, x.owner, 1, limit(1)); err != nil {
					return err
				}
			}
			return nil
		})
		write(t, db, func(tx *sql.Tx) error { return quota.Clear(t.Context(), tx, 1, "friends", "a") })
		require.Zero(t, used(t, db, "a"))
		require.Equal(t, int64(1), used(t, db, "b"))
	})
}

func TestRolledBackAddCountsNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *store.DB) {
		require.Error(t, db.Write(t.Context(), func(tx *sql.Tx) error {
			if err := quota.Add(t.Context(), tx, 1, "friends", "a", 1, limit(1)); err != nil {
				return err
			}
			return errs.NotFound()
		}))
		require.Zero(t, used(t, db, "a"))
	})
}

func TestParallelAddsAdmitExactlyWhatIsLeft(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *store.DB) {
		write(t, db, func(tx *sql.Tx) error {
			return quota.Add(t.Context(), tx, 1, "friends", "a", 90, limit(100))
		})
		var admitted, refused atomic.Int32
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				err := db.Write(t.Context(), func(tx *sql.Tx) error {
					return quota.Add(t.Context(), tx, 1, "friends", "a", 1, limit(100))
				})
				switch {
				case err == nil:
					admitted.Add(1)
				case errs.Is(err, errs.ReasonQuota):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, int32(10), admitted.Load())
		require.Equal(t, int32(54), refused.Load())
		require.Equal(t, int64(100), used(t, db, "a"))
	})
}

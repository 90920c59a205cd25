package cluster

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func members(n int) Members {
	byKey := map[string]Member{}
	for i := range n {
		byKey[fmt.Sprint(i)] = Member{ID: fmt.Sprint("limiter-", i), Addr: fmt.Sprint("127.0.0.1:", 9000+i)}
	}
	return sorted(byKey)
}

func TestOwnersShareTheApps(t *testing.T) {
	t.Parallel()
	const apps = 30_000
	for _, n := range []int{1, 2, 3, 7} {
		got := map[string]int{}
		for i := range apps {
			m, ok := members(n).Owner(fmt.Sprint("acme#app-", i))
			require.True(t, ok)
			got[m.ID]++
		}
		require.Len(t, got, n)
		for id, count := range got {
			require.InEpsilon(t, apps/n, count, 0.1, "%s of %d", id, n)
		}
	}
	_, ok := Members{}.Owner("acme#shop")
	require.False(t, ok)
}

// When a limiter goes, only its apps move; when one comes, apps only move to
// it.
func TestFewAppsMove(t *testing.T) {
	t.Parallel()
	three := members(3)
	two := append(Members{three[0]}, three[2])
	for i := range 3000 {
		app := fmt.Sprint("acme#app-", i)
		before, _ := three.Owner(app)
		after, _ := two.Owner(app)
		if before.ID != three[1].ID {
			require.Equal(t, before, after)
		}
	}
}

package idgen_test

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/idgen"
)

func TestIDs(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	g, err := idgen.New(5, func() time.Time { return now })
	require.NoError(t, err)
	last := int64(0)
	for range 10_000 { // more than fit into a millisecond
		id := g.Next()
		require.Greater(t, id, last)
		last = id
	}
	require.Regexp(t, `^\d{18,19}$`, strconv.FormatInt(last, 10))
	require.WithinDuration(t, now, idgen.Time(last), 10*time.Millisecond)

	now = now.Add(-time.Hour)
	require.Greater(t, g.Next(), last, "a clock set back repeats nothing")
	require.LessOrEqual(t, idgen.FirstAt(idgen.Time(last)), last)
	require.Zero(t, idgen.FirstAt(time.Unix(0, 0)))

	h, err := idgen.New(5, func() time.Time { return now })
	require.NoError(t, err)
	h.Advance(last)
	require.Greater(t, h.Next(), last, "nor does a restart with a clock set back")
	for _, node := range []int{-1, idgen.MaxNode + 1} {
		_, err := idgen.New(node, time.Now)
		require.Error(t, err)
	}
}

func TestIDsOfNodesAreDistinct(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[int64]bool{}
	var done sync.WaitGroup
	for node := range 4 {
		g, err := idgen.New(node, time.Now)
		require.NoError(t, err)
		for range 2 {
			done.Go(func() {
				for range 2000 {
					id := g.Next()
					mu.Lock()
					if seen[id] {
						t.Errorf("%d was given twice", id)
					}
					seen[id] = true
					mu.Unlock()
				}
			})
		}
	}
	done.Wait()
	require.Len(t, seen, 4*2*2000)
}

func TestIDsGrowWhenTheNodeChanges(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	g, err := idgen.New(9, func() time.Time { return at })
	require.NoError(t, err)
	last := g.Next()
	for _, node := range []int{3, 700, 0} {
		g.SetNode(node)
		id := g.Next()
		require.Greater(t, id, last)
		require.Equal(t, int64(node), id>>12&idgen.MaxNode)
		last = id
	}
}

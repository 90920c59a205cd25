package account

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCache(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_000)
	c, err := newCache(4*cacheShards, func() time.Time { return now })
	require.NoError(t, err)
	k := cacheKey{"acme#chat", "amelia"}
	known := func() *cacheEntry {
		e, _ := c.get(k)
		return e
	}
	fill := func() {
		_, mark := c.get(k)
		c.put(k, mark, &user{username: "amelia"}, nil)
		c.put(k, mark, nil, map[string]string{"a": "b"})
	}

	require.Nil(t, known().user)
	fill()
	require.Equal(t, "amelia", known().user.username)
	require.Equal(t, map[string]string{"a": "b"}, known().attributes)
	other, _ := c.get(cacheKey{"acme#other", "amelia"})
	require.Nil(t, other.user)

	c.forget(k)
	require.Nil(t, known().user)
	require.Nil(t, known().attributes)

	// What was read before a change is not kept after it.
	_, mark := c.get(k)
	c.forget(k)
	c.put(k, mark, &user{}, nil)
	require.Nil(t, known().user)
	_, mark = c.get(k)
	c.forgetAll()
	c.put(k, mark, &user{}, nil)
	require.Nil(t, known().user)

	// Nothing is believed for longer than cacheAge, not even when a part of it
	// is newer.
	fill()
	now = now.Add(cacheAge)
	require.NotNil(t, known().user)
	_, mark = c.get(k)
	c.put(k, mark, nil, map[string]string{})
	now = now.Add(1)
	require.Nil(t, known().user)

	for i := range 1000 {
		_, mark := c.get(cacheKey{"acme#chat", strconv.Itoa(i)})
		c.put(cacheKey{"acme#chat", strconv.Itoa(i)}, mark, &user{}, nil)
	}
	n := 0
	for i := range c.shards {
		n += c.shards[i].entries.Len()
	}
	require.LessOrEqual(t, n, 4*cacheShards)
}

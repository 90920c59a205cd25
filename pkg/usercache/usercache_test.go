package usercache

import (
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/testkit/fixture"
)

var amelia = ident.User{App: "acme#chat", ID: "amelia"}

func newCache(t *testing.T, size int, age time.Duration) (*Cache[string], *fixture.Clock) {
	t.Helper()
	at := &fixture.Clock{}
	c, err := New[string](size, age, at.Now)
	require.NoError(t, err)
	return c, at
}

func TestNewRefusesSenselessBounds(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func() error{
		"no size":  func() error { _, err := New[int](0, time.Second, time.Now); return err },
		"no age":   func() error { _, err := New[int](1, 0, time.Now); return err },
		"no clock": func() error { _, err := New[int](1, time.Second, nil); return err },
	} {
		require.Error(t, f(), name)
	}
}

func TestGetReturnsWhatWasPut(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t, 1024, time.Minute)
	_, mark, ok := c.Get(amelia)
	require.False(t, ok)
	require.True(t, c.Put(amelia, mark, "x"))
	v, _, ok := c.Get(amelia)
	require.True(t, ok)
	require.Equal(t, "x", v)
	_, _, ok = c.Get(ident.User{App: "acme#other", ID: "amelia"})
	require.False(t, ok, "another app's user of the same name")
}

// The age counts from before the read, so that a slow one does not make a value
// young again.
func TestValuesAge(t *testing.T) {
	t.Parallel()
	c, at := newCache(t, 1024, time.Minute)
	_, mark, _ := c.Get(amelia)
	at.Advance(40 * time.Second) // the read takes this long
	c.Put(amelia, mark, "x")
	at.Advance(20 * time.Second)
	_, _, ok := c.Get(amelia)
	require.True(t, ok)
	at.Advance(1)
	_, _, ok = c.Get(amelia)
	require.False(t, ok)
	require.Zero(t, c.Len())
}

func TestUpdateIsAsOldAsItsOldestPart(t *testing.T) {
	t.Parallel()
	c, at := newCache(t, 1024, time.Minute)
	join := func(part string) func(string) string { return func(known string) string { return known + part } }
	_, mark, _ := c.Get(amelia)
	require.True(t, c.Update(amelia, mark, join("a")))
	at.Advance(time.Minute)
	_, mark, ok := c.Get(amelia)
	require.True(t, ok)
	require.True(t, c.Update(amelia, mark, join("b")))
	v, _, _ := c.Get(amelia)
	require.Equal(t, "ab", v)
	at.Advance(1)
	_, mark, ok = c.Get(amelia)
	require.False(t, ok, "the part a is too old")
	require.True(t, c.Update(amelia, mark, join("c")))
	v, _, _ = c.Get(amelia)
	require.Equal(t, "c", v, "and is not joined any more")
}

// What was read before an event is not kept after it, whichever way the event
// came in, and whatever happened to the entry in between.
func TestNothingReadBeforeAnEventIsKept(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]func(c *Cache[string]){
		"forget":     func(c *Cache[string]) { c.Forget(amelia) },
		"forget all": func(c *Cache[string]) { c.ForgetAll() },
		"forgotten and read anew": func(c *Cache[string]) {
			c.Forget(amelia)
			_, mark, _ := c.Get(amelia)
			c.Put(amelia, mark, "new")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := newCache(t, 1024, time.Minute)
			_, mark, _ := c.Get(amelia)
			forget(c)
			require.False(t, c.Put(amelia, mark, "old"))
			require.False(t, c.Update(amelia, mark, func(string) string { return "old" }))
			v, _, _ := c.Get(amelia)
			require.NotEqual(t, "old", v)
		})
	}
}

// Events about others do not keep a value out: with thousands of changes a
// second a cache whose readers all wait for a moment without one holds nothing.
func TestEventsAboutOthersKeepNothingOut(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t, 1<<16, time.Minute)
	kept := 0
	for i := range 1000 {
		k := ident.User{App: "acme#chat", ID: ident.UserID(strconv.Itoa(i))}
		_, mark, _ := c.Get(k)
		c.Forget(amelia)
		if c.Put(k, mark, "x") {
			kept++
		}
	}
	require.GreaterOrEqual(t, kept, 980)
}

func TestSizeIsBounded(t *testing.T) {
	t.Parallel()
	const size = 4 * shardCount
	c, _ := newCache(t, size, time.Minute)
	for i := range 100 * size {
		k := ident.User{App: "acme#chat", ID: ident.UserID(strconv.Itoa(i))}
		_, mark, _ := c.Get(k)
		c.Put(k, mark, "x")
	}
	require.LessOrEqual(t, c.Len(), size)
	require.Greater(t, c.Len(), size/2)
}

// A value only ever grows at its source. Readers that are slow on purpose race
// with changes; once a change's Forget has returned, no Get may return what was
// there before it.
func TestRaceOfReadsAndChanges(t *testing.T) {
	t.Parallel()
	c, err := New[int64](1024, time.Minute, time.Now)
	require.NoError(t, err)
	var stored, announced, reads atomic.Int64
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				least := announced.Load()
				v, mark, ok := c.Get(amelia)
				if !ok {
					v = stored.Load()
					runtime.Gosched() // the way back from the store
					c.Put(amelia, mark, v)
				}
				reads.Add(1)
				runtime.Gosched()
				if v < least {
					t.Errorf("got %d after %d had been announced", v, least)
					return
				}
			}
		})
	}
	for range 5000 {
		n := stored.Add(1)
		c.Forget(amelia)
		announced.Store(n)
		// Some changes come while readers are on their way back, others late
		// enough for what was kept wrongly to be found.
		for last := reads.Load() + rand.Int64N(24); reads.Load() < last && !t.Failed(); {
			runtime.Gosched()
		}
	}
	close(stop)
	readers.Wait()
}

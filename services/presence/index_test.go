package presence

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

func TestConnectionKeys(t *testing.T) {
	t.Parallel()
	for _, resource := range []string{"web_1", "a.b", "*", ">", " ", "é", "=2E", "a/b", "\x00\xff", "webim_web_1700000000000", strings.Repeat(".", 256)} {
		key := connectionKey("acme#chat", "a.b-c_d", resource)
		require.NotContains(t, strings.ReplaceAll(key, ".", ""), "#")
		app, user, got, err := parseConnectionKey(key)
		require.NoError(t, err, resource)
		require.Equal(t, []string{"acme#chat", "a.b-c_d", resource}, []string{app, user, got})
	}
	for _, key := range []string{"", "a.b", "a.b.c.d", "a.b.=", "a.b.=4", "a.b.=zz"} {
		_, _, _, err := parseConnectionKey(key)
		require.Error(t, err, key)
	}
}

// change is one change of the bucket.
type change struct {
	key, user, resource string
	id                  string // empty for a deletion
	gateway             string
	revision            uint64
}

func (c change) conn() *conn {
	if c.id == "" {
		return nil
	}
	return newConn(&presencev1.Connection{Id: c.id, User: c.user, Resource: c.resource, Gateway: c.gateway}, c.revision)
}

// TestIndexAgreesWithTheBucket applies random changes, some by this instance
// ahead of the watch, some after it, with the watch started anew now and then,
// and compares the index with what the bucket holds in the end.
func TestIndexAgreesWithTheBucket(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's choices
		x := newIndex()
		x.beginLoad()
		x.endLoad()
		bucket := map[string]change{}
		var log []change
		watched := 0
		watch := func(upTo int) {
			for ; watched < upTo; watched++ {
				c := log[watched]
				x.follow(c.key, "app", c.user, c.resource, c.conn(), c.revision)
			}
		}
		for i := range 200 {
			c := change{user: fmt.Sprint("u", rnd.IntN(3)), resource: fmt.Sprint("r", rnd.IntN(2)), gateway: "g", revision: uint64(i + 1)}
			c.key = connectionKey("app", c.user, c.resource)
			if rnd.IntN(3) > 0 {
				c.id = fmt.Sprint("c", i)
			}
			log = append(log, c)
			bucket[c.key] = c
			mine := rnd.IntN(2) == 0
			if mine && rnd.IntN(2) == 0 {
				watch(len(log)) // the watch was faster
			}
			if mine {
				// Own changes are applied in the order of their revisions.
				if c.id == "" {
					x.remove(c.key, "app", c.user, c.resource, c.revision)
				} else {
					x.put(c.key, "app", c.conn())
				}
			}
			switch rnd.IntN(20) {
			case 0:
				x.beginLoad()
				watched = 0
				watch(len(log)) // a new watch brings the state, here with its history
				x.endLoad()
			case 1, 2, 3, 4:
				watch(watched + rnd.IntN(len(log)-watched+1))
			}
		}
		watch(len(log))
		want := map[string]string{}
		total := 0
		for key, c := range bucket {
			if c.id != "" {
				want[key] = c.id
				total++
			}
		}
		got := map[string]string{}
		for _, u := range []string{"u0", "u1", "u2"} {
			for _, c := range x.conns("app", u) {
				got[connectionKey("app", c.user, c.resource)] = c.id
			}
		}
		require.Equal(t, want, got, "seed %d", seed)
		require.Equal(t, total, x.size(), "seed %d", seed)
		require.Empty(t, x.ahead, "seed %d", seed)
		require.Empty(t, x.gone)
	}
}

func TestIndexSweepsWhatANewWatchDoesNotBring(t *testing.T) {
	t.Parallel()
	x := newIndex()
	x.beginLoad()
	a := change{key: "app.a.r", user: "a", resource: "r", id: "c1", gateway: "g", revision: 1}
	b := change{key: "app.b.r", user: "b", resource: "r", id: "c2", gateway: "g", revision: 2}
	x.follow(a.key, "app", "a", "r", a.conn(), 1)
	x.follow(b.key, "app", "b", "r", b.conn(), 2)
	x.endLoad()
	mine := change{key: "app.c.r", user: "c", resource: "r", id: "c3", gateway: "g", revision: 9}
	x.beginLoad()
	x.put(mine.key, "app", mine.conn())
	x.follow(b.key, "app", "b", "r", b.conn(), 2)
	x.endLoad()
	require.False(t, x.online("app", "a"))
	require.True(t, x.online("app", "b"))
	require.True(t, x.online("app", "c"))
	require.Equal(t, 2, x.size())
}

func TestIndexWaitersEndWithTheirContext(t *testing.T) {
	t.Parallel()
	x := newIndex()
	c := change{key: "app.a.r", user: "a", resource: "r", id: "c1", gateway: "g", revision: 1}
	x.put(c.key, "app", c.conn())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, x.reached(ctx, 5))
	require.Empty(t, x.await)
	require.False(t, x.kick("app", "a", "").wait(ctx))
	require.Empty(t, x.gone)
	require.True(t, x.kick("app", "nobody", "").wait(ctx))
	l := x.kick("app", "a", "r")
	require.True(t, x.isKicked(x.find("app", "a", "r")))
	x.remove(c.key, "app", "a", "r", 2)
	require.True(t, l.wait(ctx))
	require.Empty(t, x.gone)
}

// BenchmarkIndexMemory reports the memory of a connection.
func BenchmarkIndexMemory(b *testing.B) {
	const n = 100000
	var before, after runtime.MemStats
	for range b.N {
		runtime.GC()
		runtime.ReadMemStats(&before)
		x := newIndex()
		for i := range n {
			c := newConn(&presencev1.Connection{
				Id: fmt.Sprintf("%026d", i), User: fmt.Sprintf("user%06d", i), Resource: fmt.Sprintf("webim_web_%013d", i),
				Gateway: strings.Clone("gw-1"), Os: strings.Clone("web"), Version: strings.Clone("4.21.1"), Ip: "203.0.113.9:48098",
			}, uint64(i+1))
			x.follow("k", "acme#chat", c.user, c.resource, c, c.revision)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/conn")
		runtime.KeepAlive(x)
	}
}

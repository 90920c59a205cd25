package presence

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/ident"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

func TestConnectionKeys(t *testing.T) {
	t.Parallel()
	for _, resource := range []string{"web_1", "a.b", "*", ">", " ", "é", "=2E", "a/b", "\x00\xff", "webim_web_1700000000000", strings.Repeat(".", 256)} {
		device := ident.User{App: "acme#chat", ID: "a.b-c_d"}.Device(resource)
		key := connectionKey(device)
		require.NotContains(t, strings.ReplaceAll(key, ".", ""), "#")
		got, err := parseConnectionKey(key)
		require.NoError(t, err, resource)
		require.Equal(t, device, got)
	}
	for _, key := range []string{"", "a.b", "a.b.c.d", "a.b.=", "a.b.=4", "a.b.=zz"} {
		_, err := parseConnectionKey(key)
		require.Error(t, err, key)
	}
}

// change is one change of the bucket.
type change struct {
	device   ident.Device
	id       string // empty for a deletion
	gateway  string
	revision uint64
}

func device(user, resource string) ident.Device {
	return ident.User{App: "app", ID: ident.UserID(user)}.Device(resource)
}

func (c change) conn() *conn {
	if c.id == "" {
		return nil
	}
	return newConn(c.device.App, &presencev1.Connection{Id: c.id, User: string(c.device.ID), Resource: c.device.Resource, Gateway: c.gateway}, c.revision)
}

// TestIndexAgreesWithTheBucket applies random changes, some by this instance
// ahead of the watch, some after it, with the watch started anew now and then,
// and compares the index with what the bucket holds in the end.
func TestIndexAgreesWithTheBucket(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		x := newIndex()
		x.beginLoad()
		x.endLoad()
		bucket := map[ident.Device]change{}
		var log []change
		watched := 0
		watch := func(upTo int) {
			for ; watched < upTo; watched++ {
				c := log[watched]
				x.follow(c.device, c.conn(), c.revision)
			}
		}
		for i := range 200 {
			c := change{device: device(fmt.Sprint("u", rnd.IntN(3)), fmt.Sprint("r", rnd.IntN(2))), gateway: "g", revision: uint64(i + 1)}
			if rnd.IntN(3) > 0 {
				c.id = fmt.Sprint("c", i)
			}
			log = append(log, c)
			bucket[c.device] = c
			mine := rnd.IntN(2) == 0
			if mine && rnd.IntN(2) == 0 {
				watch(len(log)) // the watch was faster
			}
			if mine {
				// Own changes are applied in the order of their revisions.
				if c.id == "" {
					x.remove(c.device, c.revision)
				} else {
					x.put(c.conn())
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
		want := map[ident.Device]string{}
		total := 0
		for d, c := range bucket {
			if c.id != "" {
				want[d] = c.id
				total++
			}
		}
		got := map[ident.Device]string{}
		for _, u := range []string{"u0", "u1", "u2"} {
			for _, c := range x.conns(device(u, "").User) {
				got[c.device] = c.id
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
	a := change{device: device("a", "r"), id: "c1", gateway: "g", revision: 1}
	b := change{device: device("b", "r"), id: "c2", gateway: "g", revision: 2}
	x.follow(a.device, a.conn(), 1)
	x.follow(b.device, b.conn(), 2)
	x.endLoad()
	mine := change{device: device("c", "r"), id: "c3", gateway: "g", revision: 9}
	x.beginLoad()
	x.put(mine.conn())
	x.follow(b.device, b.conn(), 2)
	x.endLoad()
	require.False(t, x.online(device("a", "").User))
	require.True(t, x.online(device("b", "").User))
	require.True(t, x.online(device("c", "").User))
	require.Equal(t, 2, x.size())
}

func TestIndexWaitersEndWithTheirContext(t *testing.T) {
	t.Parallel()
	x := newIndex()
	c := change{device: device("a", "r"), id: "c1", gateway: "g", revision: 1}
	x.put(c.conn())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, x.reached(ctx, 5))
	require.Empty(t, x.await)
	require.False(t, x.kick(device("a", "").User, "").wait(ctx))
	require.Empty(t, x.gone)
	require.True(t, x.kick(device("nobody", "").User, "").wait(ctx))
	l := x.kick(device("a", "").User, "r")
	require.True(t, x.isKicked(x.find(c.device)))
	x.remove(c.device, 2)
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
			c := newConn("acme#chat", &presencev1.Connection{
				Id: fmt.Sprintf("%026d", i), User: fmt.Sprintf("user%06d", i), Resource: fmt.Sprintf("webim_web_%013d", i),
				Gateway: strings.Clone("gw-1"), Os: strings.Clone("web"), Version: strings.Clone("4.21.1"), Ip: "203.0.113.9:48098",
			}, uint64(i+1))
			x.follow(c.device, c, c.revision)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/conn")
		runtime.KeepAlive(x)
	}
}

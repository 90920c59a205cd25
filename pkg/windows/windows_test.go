package windows

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/testkit/fixture"
	"github.com/chappe-im/chappe/pkg/tier"
)

const second = int64(time.Second)

func TestCheckChargesAllOrNothing(t *testing.T) {
	t.Parallel()
	c := fixture.Tier(t, "basic", `{"rules": {"list_conversations": {"limits": [
		{"count": 2, "per": "minute", "unit": "call", "scope": "user"},
		{"count": 3, "per": "second", "unit": "call", "scope": "app"}]}}}`)
	rule := c.Rule("list_conversations")
	var clk fixture.Clock
	b := New(clk.Load)
	check := func(user string) bool {
		v, _ := b.Check(1, rule, &Call{Rule: "list_conversations", User: user, Cost: 1})
		return v.OK
	}
	require.True(t, check("amy"))
	require.True(t, check("amy"))
	require.False(t, check("amy"), "her own limit")
	require.True(t, check("ben"))
	require.False(t, check("ben"), "the app's limit")
	clk.Add(second)
	require.True(t, check("ben"), "the refusal cost him nothing of his own limit")
	require.False(t, check("ben"))
	require.False(t, check("amy"))
	require.True(t, check("cho"), "amy's and ben's refusals cost the app nothing")
	require.True(t, check("cho"))
	require.False(t, check("dan"))
}

func TestSharedBucket(t *testing.T) {
	t.Parallel()
	c := fixture.Tier(t, "basic", `{"shared_buckets": {"register_users": {"limits": [{"count": 3, "per": "second", "unit": "call", "scope": "app"}]}}}`)
	b := New(new(fixture.Clock).Load)
	for i, id := range []string{"register_user", "register_users_batch", "register_user"} {
		v, _ := b.Check(1, c.Rule(id), &Call{Rule: id, Cost: 1})
		require.True(t, v.OK)
		require.Equal(t, int64(2-i), v.Remaining)
	}
	for _, id := range []string{"register_user", "register_users_batch"} {
		v, _ := b.Check(1, c.Rule(id), &Call{Rule: id, Cost: 1})
		require.False(t, v.OK)
	}
	uses := b.Usage(1, "register_user", c.Rule("register_user"))
	require.Equal(t, []Use{{Rule: "register_user", Scope: "app", Limit: 3, WindowNs: second, Used: 3, Admitted: 2, Throttled: 1}}, uses)
}

func TestMessagesAreAdmittedWhole(t *testing.T) {
	t.Parallel()
	c := fixture.Tier(t, "basic", "")
	b := New(new(fixture.Clock).Load)
	send := func(cost int64) (bool, bool, int64) {
		v, _ := b.Check(1, c.Rule("send_message_chatgroups"), &Call{Rule: "send_message_chatgroups", Cost: cost})
		return v.OK, v.TooCostly, v.Remaining
	}
	ok, _, left := send(15)
	require.True(t, ok)
	require.Equal(t, int64(5), left)
	ok, costly, left := send(6)
	require.False(t, ok)
	require.False(t, costly)
	require.Equal(t, int64(5), left)
	_, costly, _ = send(21)
	require.True(t, costly)
	ok, _, left = send(5)
	require.True(t, ok)
	require.Zero(t, left)
}

// With a share of its own, one address is stopped before the app is. Without,
// the app's count is the address's too.
func TestPerIP(t *testing.T) {
	t.Parallel()
	c := fixture.Tier(t, "basic", `{"rate_counting": {"per_ip_percent": 40}}`)
	var clk fixture.Clock
	b := New(clk.Load)
	admitted := func(c *tier.Compiled, rule, ip string) (n int64) {
		for {
			v, _ := b.Check(1, c.Rule(rule), &Call{Rule: rule, IP: ip, Cost: 1})
			if !v.OK {
				return n
			}
			n++
		}
	}
	require.Equal(t, int64(40), admitted(c, "get_user", "192.0.2.1"))
	require.Equal(t, int64(40), admitted(c, "get_user", "2001:db8::1"))
	require.Equal(t, int64(20), admitted(c, "get_user", "192.0.2.2"), "what the app has left")
	require.Zero(t, admitted(c, "get_user", ""))
	uses := b.Usage(1, "get_user", c.Rule("get_user"))
	require.Len(t, uses, 2)
	require.Equal(t, "ip", uses[1].Scope)
	require.Equal(t, int64(40), uses[1].Used)
	require.Equal(t, int64(40), uses[1].Limit)

	clk.Add(second)
	require.Equal(t, int64(100), admitted(c, "get_user", ""), "calls without an address")
	require.Equal(t, int64(10), admitted(c, "get_history_file", "192.0.2.1"), "the exception")
	require.Equal(t, int64(100), admitted(fixture.Tier(t, "basic", ""), "list_users", "192.0.2.1"), "no share of its own")
}

func TestTierChangesKeepWhatIsUsed(t *testing.T) {
	t.Parallel()
	rate := func(n int) *tier.Rule {
		return fixture.Tier(t, "basic", fmt.Sprintf(
			`{"rules": {"get_user": {"limits": [{"count": %d, "per": "second", "unit": "call", "scope": "app"}]}}}`, n)).Rule("get_user")
	}
	var clk fixture.Clock
	b := New(clk.Load)
	admitted := func(rule *tier.Rule) (n int) {
		for {
			v, _ := b.Check(1, rule, &Call{Rule: "get_user", IP: "192.0.2.1", Cost: 1})
			if !v.OK {
				return n
			}
			n++
		}
	}
	require.Equal(t, 10, admitted(rate(10)))
	require.Equal(t, 5, admitted(rate(15)), "raised: the difference")
	require.Zero(t, admitted(rate(4)), "lowered: nothing until the window has room")
	clk.Add(second)
	require.Equal(t, 4, admitted(rate(4)))
}

func TestIdleKeysAreForgotten(t *testing.T) {
	t.Parallel()
	c := fixture.Tier(t, "basic", "")
	rule := c.Rule("list_conversations")
	var clk fixture.Clock
	b := New(clk.Load)
	exists := func(int64) bool { return true }
	for i := range 1000 {
		clk.Add(second / 50)
		v, _ := b.Check(int64(i%10), rule, &Call{Rule: "list_conversations", User: fmt.Sprint("user", i), Cost: 1})
		require.True(t, v.OK)
	}
	require.Equal(t, 10, b.Size())
	for range 5 {
		clk.Add(keepIdle)
		b.Sweep(clk.Load(), exists)
	}
	require.Zero(t, b.Size())
	uses := b.Usage(3, "list_conversations", rule)
	require.Equal(t, int64(100), uses[0].Admitted, "the counts stay")
	require.Zero(t, uses[0].Used)
}

// A busy app's users come and go: those that went are forgotten too.
func TestIdleUsersOfABusyApp(t *testing.T) {
	t.Parallel()
	c := fixture.Tier(t, "basic", "")
	rule := c.Rule("list_conversations")
	var clk fixture.Clock
	b := New(clk.Load)
	const perSecond = 50
	for i := range 600 * perSecond {
		clk.Add(second / perSecond)
		v, _ := b.Check(1, rule, &Call{Rule: "list_conversations", User: fmt.Sprint("user", i), IP: "192.0.2.9", Cost: 1})
		require.True(t, v.OK)
		if i%perSecond == 0 {
			b.Sweep(clk.Load(), func(int64) bool { return true })
		}
	}
	s, hash := b.find(1, rule.Hash)
	g := s.get(hash, 1, rule.Bucket)
	require.LessOrEqual(t, g.more.windows[0].users.len(), 121*perSecond, "two minutes' worth")
}

// Nothing is forgotten early: a user is held to 5 a minute through every turn
// of the generations.
func TestForgettingIsExact(t *testing.T) {
	t.Parallel()
	c := fixture.Tier(t, "basic", "")
	rule := c.Rule("list_conversations")
	var clk fixture.Clock
	b := New(clk.Load)
	r := rand.New(rand.NewPCG(5, 5))
	var log []int64
	for range 5000 {
		clk.Add(r.Int64N(9 * second))
		b.Sweep(clk.Load(), func(int64) bool { return true })
		if v, at := b.Check(1, rule, &Call{Rule: "list_conversations", User: "amy", Cost: 1}); v.OK {
			log = append(log, at)
		}
	}
	for i := 5; i < len(log); i++ {
		require.GreaterOrEqual(t, log[i]-log[i-5], int64(time.Minute))
	}
}

func TestConcurrentChecksNeverExceed(t *testing.T) {
	t.Parallel()
	c := fixture.Tier(t, "basic", "")
	rule := c.Rule("get_user")
	start := time.Now()
	b := New(func() int64 { return int64(time.Since(start)) })
	var mu sync.Mutex
	var log []int64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for range 500 {
				v, at := b.Check(1, rule, &Call{Rule: "get_user", IP: fmt.Sprint("192.0.2.", w), Cost: 1})
				if v.OK {
					mu.Lock()
					log = append(log, at)
					mu.Unlock()
				}
				b.Sweep(at, func(int64) bool { return true })
			}
		})
	}
	wg.Wait()
	within := 0
	for _, at := range log {
		if at-log[0] < second {
			within++
		}
	}
	require.LessOrEqual(t, within, 100)
	require.NotEmpty(t, log)
}

func TestMemoryOfIdleKeys(t *testing.T) {
	c := fixture.Tier(t, "basic", `{"rules": {"list_conversations": {"limits": [{"count": 5, "per": "minute", "unit": "call", "scope": "user"}]}}}`)
	rule := c.Rule("list_conversations")
	b := New(func() int64 { return 1 })
	before := heap()
	const keys = 250_000
	for i := range keys {
		_, _ = b.Check(int64(i%1000), rule, &Call{Rule: "list_conversations", User: fmt.Sprint("user", i), Cost: 1})
	}
	used := int64(heap()) - int64(before)
	t.Logf("%d keys: %d MiB, %d bytes each", keys, used>>20, used/keys)
	require.Less(t, used, int64(150<<20)/4, "150 MiB for a million")
	b.Sweep(3*keepIdle, func(int64) bool { return true })
	left := int64(heap()) - int64(before)
	t.Logf("after they were forgotten: %d KiB", left>>10)
	require.Less(t, left, int64(10<<20))
	runtime.KeepAlive(b)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// cpu gives the processor time that the process has used: on a busy machine it
// says more than the wall clock.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkCheck(b *testing.B) {
	const keys = 100_000
	// The yardstick: what one look-up among as many keys costs by itself.
	b.Run("bare map", func(b *testing.B) {
		type key struct {
			app    int64
			bucket string
		}
		m := make(map[key]*group)
		for i := range keys {
			m[key{int64(i), "get_user"}] = &group{}
		}
		before := cpu(b)
		for i := range b.N {
			m[key{int64(i * 7919 % keys), "get_user"}].touched = 1
		}
		b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
	})
	for name, c := range map[string]struct {
		overrides string
		rule      string
		// id names the key's user or address; empty if the app is the key.
		id func(i int) string
	}{
		"apps": {"", "get_user", nil},
		"users": {
			`{"rules": {"list_conversations": {"limits": [{"count": 5, "per": "minute", "unit": "call", "scope": "user"}]}}}`,
			"list_conversations", func(i int) string { return fmt.Sprint("user", i) },
		},
		"addresses": {
			`{"rate_counting": {"per_ip_percent": 1}, "rules": {"get_user": {"limits": [{"count": 1000000, "per": "second", "unit": "call", "scope": "app"}]}}}`,
			"get_user", func(i int) string { return fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255) },
		},
	} {
		b.Run(name, func(b *testing.B) {
			rule := fixture.Tier(b, "basic", c.overrides).Rule(c.rule)
			start := time.Now()
			x := New(func() int64 { return int64(time.Since(start)) })
			ids := make([]string, keys)
			call := Call{Rule: c.rule, Cost: 1}
			check := func(k int) {
				app := int64(1)
				if c.id == nil {
					app = int64(k)
				} else {
					call.IP, call.User = ids[k], ids[k]
				}
				_, _ = x.Check(app, rule, &call)
			}
			for i := range keys {
				if c.id != nil {
					ids[i] = c.id(i)
				}
				check(i)
			}
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu(b)
			for i := range b.N {
				check(i * 7919 % keys)
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/test/harness"
)

// place is where the server is just now; it changes with each restart.
type place struct {
	mu     sync.Mutex
	server *harness.Server
	kills  []time.Time
}

func (p *place) now() *harness.Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server
}

// sight is one message that a device was shown.
type sight struct {
	n          int
	at         time.Time
	connection int
}

// pair is a writer and a reader that logs in and out all the time.
type pair struct {
	app             *harness.App
	place           *place
	from, to, token string
	mu              sync.Mutex
	acknowledged    []int
	sights          []sight
	// settled is, for each connection, until when it was shown what was confirmed
	// for certain; a connection that broke has none.
	settled          map[int]time.Time
	connection, last int
}

// write sends numbers until ctx ends. What fails is not sent again: it may be
// there or not.
func (p *pair) write(ctx context.Context) { p.writeFrom(ctx, 1) }

// writeFrom is write with another first number.
func (p *pair) writeFrom(ctx context.Context, first int) {
	for n := first; ctx.Err() == nil; n++ {
		r, err := p.app.On(p.place.now()).Try(ctx, "POST", "/messages/users", map[string]any{
			"from": p.from, "to": []string{p.to}, "type": "txt", "body": map[string]string{"msg": strconv.Itoa(n)},
		}, p.app.Token)
		if err != nil || r.Status != 200 {
			pause(ctx, 20*time.Millisecond)
			continue
		}
		p.mu.Lock()
		p.acknowledged = append(p.acknowledged, n)
		p.mu.Unlock()
		pause(ctx, 5*time.Millisecond)
	}
}

func (p *pair) connect(ctx context.Context) (*msyncclient.Client, error) {
	p.mu.Lock()
	p.connection++
	connection := p.connection
	p.mu.Unlock()
	return msyncclient.Dial(ctx, p.place.now().WS, p.app.Key(), p.to, p.token, msyncclient.Options{
		Resource: "phone", KeepDuplicates: true, OnReceived: func(m msyncclient.Received) {
			n, _ := strconv.Atoi(m.Text())
			p.mu.Lock()
			defer p.mu.Unlock()
			p.sights = append(p.sights, sight{n, time.Now(), connection})
			p.last = max(p.last, n)
		},
	})
}

// read logs in and out until ctx ends.
func (p *pair) read(ctx context.Context, stay time.Duration) {
	for ctx.Err() == nil {
		c, err := p.connect(ctx)
		if err != nil {
			pause(ctx, 20*time.Millisecond)
			continue
		}
		pause(ctx, stay)
		// What was shown by now is confirmed when the second answer is there.
		shown := time.Now()
		if _, err = c.Unread(ctx); err == nil {
			_, err = c.Unread(ctx)
		}
		if err == nil {
			p.mu.Lock()
			p.settled[p.connection] = shown
			p.mu.Unlock()
		}
		c.Close()
	}
}

// check tells what was lost, late, or shown again although it had been confirmed
// long enough before the last kill.
func (p *pair) check(kills []time.Time) (wrong []string, again int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := map[int]sight{}
	highest := 0
	for _, s := range p.sights {
		first, ok := seen[s.n]
		switch {
		case !ok && s.n < highest:
			wrong = append(wrong, fmt.Sprintf("%d was shown after %d", s.n, highest))
		case ok:
			again++
			confirmed := first.at.Before(p.settled[first.connection])
			killed := slices.ContainsFunc(kills, func(k time.Time) bool {
				return first.at.Before(k) && s.at.After(k) && k.Sub(first.at) < time.Second
			})
			if confirmed && !killed {
				wrong = append(wrong, fmt.Sprintf("%d was shown twice", s.n))
			}
		}
		if !ok {
			seen[s.n] = s
		}
		highest = max(highest, s.n)
	}
	for _, n := range p.acknowledged {
		if _, ok := seen[n]; !ok {
			wrong = append(wrong, fmt.Sprintf("%d was acknowledged and never shown", n))
		}
	}
	return wrong, again
}

// TestLoginsAndKills kills the server three times under logins and traffic.
func TestLoginsAndKills(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	process := harness.StartProcess(t, data)
	app := process.NewApp(t, "enterprise", harness.NoLimits)
	where := &place{server: process.Server}
	pairs := make([]*pair, 12)
	for i := range pairs {
		pairs[i] = &pair{settled: map[int]time.Time{}, app: app, place: where, from: fmt.Sprintf("writer%d", i), to: fmt.Sprintf("reader%d", i)}
		app.Register(t, pairs[i].from)
		pairs[i].token = app.UserToken(t, pairs[i].to)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i, p := range pairs {
		all.Go(func() { p.write(ctx) })
		all.Go(func() { p.read(ctx, time.Duration(20+40*i)*time.Millisecond) })
	}
	for range 3 {
		pause(t.Context(), 1500*time.Millisecond)
		where.mu.Lock()
		process.Kill(t)
		where.kills = append(where.kills, time.Now())
		where.mu.Unlock()
		process = harness.StartProcess(t, data)
		where.mu.Lock()
		where.server = process.Server
		where.mu.Unlock()
	}
	pause(t.Context(), 1500*time.Millisecond)
	cancel()
	all.Wait()
	sent, logins, again := 0, 0, 0
	for _, p := range pairs {
		c, err := p.connect(t.Context())
		require.NoError(t, err)
		last := 0
		if n := len(p.acknowledged); n > 0 {
			last = p.acknowledged[n-1]
		}
		require.Eventually(t, func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.last >= last
		}, 15*time.Second, 5*time.Millisecond)
		c.Close()
		wrong, repeats := p.check(where.kills)
		require.Empty(t, wrong, p.to)
		sent, logins, again = sent+len(p.acknowledged), logins+p.connection, again+repeats
	}
	t.Logf("%d messages acknowledged, %d logins, 3 kills: none lost, none late, %d shown again after a kill", sent, logins, again)
	require.Greater(t, logins, 100)
}

// TestPositionsMoveUnderKills kills the server a second after each start, with a
// device that never closes its connection: what it confirmed up to a moment
// before does not come again.
func TestPositionsMoveUnderKills(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	process := harness.StartProcess(t, data)
	p := &pair{
		app: process.NewApp(t, "enterprise", harness.NoLimits), place: &place{server: process.Server},
		from: "writer", to: "reader", settled: map[int]time.Time{},
	}
	p.app.Register(t, p.from)
	p.token = p.app.UserToken(t, p.to)
	const lives = 4
	var first, again [lives]int
	for life := range lives {
		if life > 0 {
			process = harness.StartProcess(t, data)
			p.place.server = process.Server
		}
		ctx, cancel := context.WithCancel(t.Context())
		c, err := p.connect(ctx)
		require.NoError(t, err)
		var writer sync.WaitGroup
		writer.Go(func() { p.writeFrom(ctx, 1000*life+1) })
		pause(ctx, time.Second)
		process.Kill(t)
		killed := time.Now()
		cancel()
		writer.Wait()
		c.Abort()
		p.mu.Lock()
		seen := map[int]time.Time{}
		for _, s := range p.sights {
			before, ok := seen[s.n]
			switch {
			case s.connection != p.connection:
			case first[life] == 0:
				first[life] = s.n
			}
			if ok && s.connection == p.connection {
				again[life]++
				require.Less(t, p.place.kills[len(p.place.kills)-1].Sub(before), 600*time.Millisecond, "%d was confirmed long before the kill", s.n)
			}
			if !ok {
				seen[s.n] = s.at
			}
		}
		p.mu.Unlock()
		p.place.kills = append(p.place.kills, killed)
		if life > 0 {
			require.Greater(t, first[life], first[life-1], "places move")
		}
	}
	t.Logf("shown again after each kill: %v", again[1:])
}

package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // a second connection to the archive, which holds its lock

	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/test/harness"
)

// A device that is known logs in while it is written to. One message is
// acknowledged right before it connects, a second one a moment after its login:
// at each login it must be shown both, once and in order, and nothing again
// later.

// login is one device and what it was shown, over all its connections.
type login struct {
	app *harness.App
	// gateways are those that it connects to, one after the other.
	gateways []*harness.Server
	from     string
	to       string
	token    string
	mu       sync.Mutex
	shown    []string
	signal   chan struct{}
}

func (l *login) dial(ctx context.Context, i int) (*msyncclient.Client, error) {
	return msyncclient.Dial(ctx, l.gateways[i%len(l.gateways)].WS, l.app.Key(), l.to, l.token, msyncclient.Options{
		Resource: "phone", KeepDuplicates: true, OnReceived: func(m msyncclient.Received) {
			l.mu.Lock()
			l.shown = append(l.shown, m.Text())
			l.mu.Unlock()
			select {
			case l.signal <- struct{}{}:
			default:
			}
		},
	})
}

func (l *login) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.shown, text)
}

// await waits until the device was shown a text.
func (l *login) await(ctx context.Context, text string) bool {
	for !l.has(text) {
		select {
		case <-l.signal:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (l *login) send(ctx context.Context, text string) error {
	r, err := l.app.Try(ctx, "POST", "/messages/users", map[string]any{
		"from": l.from, "to": []string{l.to}, "type": "txt", "body": map[string]string{"msg": text},
	}, l.app.Token)
	if err != nil {
		return err
	}
	if r.Status != 200 {
		return fmt.Errorf("%s was answered %d: %s", text, r.Status, r.Raw)
	}
	return nil
}

// verdict counts how logins went.
type verdict struct {
	mu                       sync.Mutex
	right, lost, late, twice int
	failed                   []error
	example                  []string
}

func (v *verdict) of(shown []string, rounds int, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.failed = append(v.failed, err)
		return
	}
	var want, distinct []string
	for i := range rounds {
		want = append(want, fmt.Sprintf("before %d", i), fmt.Sprintf("after %d", i))
	}
	for _, s := range shown {
		if !slices.Contains(distinct, s) {
			distinct = append(distinct, s)
		}
	}
	right := true
	if len(distinct) < len(want) {
		v.lost, right = v.lost+1, false
	} else if !slices.Equal(distinct, want) {
		v.late, right = v.late+1, false
	}
	if len(shown) > len(distinct) {
		v.twice, right = v.twice+1, false
	}
	if right {
		v.right++
	} else {
		v.example = shown
	}
}

func (v *verdict) check(t *testing.T, logins int) {
	t.Helper()
	t.Logf("%d logins: %d right, %d lost something, %d were shown it late, %d twice, %d failed", logins, v.right, v.lost, v.late, v.twice, len(v.failed))
	require.Empty(t, v.failed)
	require.Equal(t, logins, v.right, "for example %q", v.example)
}

// rounds has the device log in so often, with two messages at each login. The
// pause between them changes from login to login.
func (l *login) rounds(ctx context.Context, n, seed int, wait time.Duration) error {
	for i := range n {
		before, after := fmt.Sprintf("before %d", i), fmt.Sprintf("after %d", i)
		if err := l.send(ctx, before); err != nil {
			return err
		}
		c, err := l.dial(ctx, i)
		if err != nil {
			return err
		}
		// Part of what is tried: the second message falls before, into and behind
		// the time in which the archive is asked.
		pause(ctx, time.Duration((seed*7+i*13)%60)*time.Millisecond)
		if err := l.send(ctx, after); err != nil {
			c.Close()
			return err
		}
		shown, cancel := context.WithTimeout(ctx, wait)
		_ = l.await(shown, after) && l.await(shown, before)
		cancel()
		// The first answer is read when what was shown is confirmed, the second one
		// given when the server has read that.
		for range 2 {
			if _, err = c.Unread(ctx); err != nil {
				break
			}
		}
		c.Close()
		if err != nil {
			return err
		}
		if err := l.handedOn(ctx); err != nil {
			return err
		}
	}
	c, err := l.dial(ctx, n) // what never came may come now, and nothing may come again
	if err != nil {
		return err
	}
	defer c.Close()
	select {
	case <-c.Synced():
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err = c.Unread(ctx)
	return err
}

// handedOn waits until what the device confirmed is stored, if it is to connect
// to another gateway, which would show it again before that.
func (l *login) handedOn(ctx context.Context) error {
	if len(l.gateways) == 1 {
		return nil
	}
	read := func(path string) (any, error) {
		r, err := l.app.Try(ctx, "GET", "/users/"+l.to+path, nil, l.app.Token)
		if err != nil {
			return nil, err
		}
		data, _ := r.Body["data"].(map[string]any)
		return data[l.to], nil
	}
	for {
		status, err := read("/status")
		if err != nil {
			return err
		}
		if status == "offline" {
			waiting, err := read("/offline_msg_count")
			if err != nil || waiting == 0.0 {
				return err
			}
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// storm has so many devices do that, several at a time.
func storm(t *testing.T, app *harness.App, servers []*harness.Server, devices, rounds int, wait time.Duration) *verdict {
	t.Helper()
	v := &verdict{}
	slots := make(chan struct{}, 24)
	var all sync.WaitGroup
	for d := range devices {
		l := &login{app: app.On(servers[d%len(servers)]), gateways: append(slices.Clone(servers[d%len(servers):]), servers[:d%len(servers)]...), from: fmt.Sprintf("writer%d", d), to: fmt.Sprintf("reader%d", d), signal: make(chan struct{}, 1)}
		app.Register(t, l.from)
		l.token = app.UserToken(t, l.to)
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
			defer cancel()
			err := l.rounds(ctx, rounds, d, wait)
			l.mu.Lock()
			defer l.mu.Unlock()
			v.of(l.shown, rounds, err)
		})
	}
	all.Wait()
	return v
}

func TestLoginUnderTraffic(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	app := s.NewApp(t, "enterprise", harness.NoLimits)
	storm(t, app, []*harness.Server{s}, 64, 5, 5*time.Second).check(t, 64)
}

// holdLock keeps others from writing into an SQLite file, for so long at a time
// and with pauses between, until the test ends.
func holdLock(t *testing.T, file string, held, free time.Duration) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)&_txlock=immediate")
	require.NoError(t, err)
	db.SetMaxOpenConns(1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				continue
			}
			pause(ctx, held)
			_ = tx.Rollback()
			pause(ctx, free)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = db.Close()
	})
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// startWithArchive starts a server and returns the file of its archive.
func startWithArchive(t *testing.T) (*harness.Server, string) {
	t.Helper()
	data := t.TempDir()
	s := harness.StartIn(t, data)
	files, err := filepath.Glob(filepath.Join(data, "*", "messaging.db"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	return s, files[0]
}

// TestLoginWithASlowArchive has the archive's write lock held for three seconds
// at a time, as a slow disk would.
func TestLoginWithASlowArchive(t *testing.T) {
	t.Parallel()
	s, archive := startWithArchive(t)
	app := s.NewApp(t, "enterprise", harness.NoLimits)
	holdLock(t, archive, 3*time.Second, 100*time.Millisecond)
	storm(t, app, []*harness.Server{s}, 24, 2, 20*time.Second).check(t, 24)
}

// TestLoginWhileTheArchiveIsAway has every device log in while nothing can be
// written into the archive for longer than any call takes.
func TestLoginWhileTheArchiveIsAway(t *testing.T) {
	t.Parallel()
	s, archive := startWithArchive(t)
	app := s.NewApp(t, "enterprise", harness.NoLimits)
	holdLock(t, archive, 12*time.Second, time.Hour)
	storm(t, app, []*harness.Server{s}, 12, 1, 40*time.Second).check(t, 12)
}

// TestLoginOnSeveralGateways has the devices change between two gateways, with
// two messaging services that share the partitions of the log.
func TestLoginOnSeveralGateways(t *testing.T) {
	t.Parallel()
	s := harness.StartSplit(t)
	s.Messaging(t)
	second := s.Gateway(t)
	app := s.NewApp(t, "enterprise", harness.NoLimits)
	storm(t, app, []*harness.Server{s.Server, second}, 24, 4, 10*time.Second).check(t, 24)
}

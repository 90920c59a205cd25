package session_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	"github.com/chappe-im/chappe/services/gateway/session"
)

// While the archive is away a login is answered, and nothing is shown, not even
// what is pushed; what is unread is answered without waiting for ever. When the
// archive is back everything comes, in order.
func TestNothingIsShownBeforeTheList(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(*backend){
		"away":   func(b *backend) { b.opening = errors.New("database is away") },
		"behind": func(b *backend) { b.lag = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, func(c *session.Config) { c.UnreadWait = 50 * time.Millisecond })
			r.text(t, "ann", "bob", "0")
			r.set(func() { away(r.backend) })
			bob := r.dial("bob", msyncclient.Options{Resource: "web", KeepDuplicates: true})
			r.synced(bob) // the answer lists nothing
			want := []string{"0"}
			for i := range 200 { // more than a connection remembers of single conversations
				want = append(want, fmt.Sprint(i+1))
				r.text(t, "ann", "bob", fmt.Sprint(i+1))
				r.text(t, fmt.Sprint("user", i), "bob", "x")
			}
			tried := func() (n int) {
				r.set(func() { n = r.opens })
				return n
			}
			before := tried()
			require.Eventually(t, func() bool { return tried() > before+1 }, 10*time.Second, time.Millisecond, "it is tried again")
			r.nothing(bob)
			require.Zero(t, count(t, r.metrics, "chappe_session_frames_total", "page_pushed"))
			r.set(func() { r.opening, r.lag = nil, 0 })
			var got []string
			for range len(want) + 200 {
				if m := r.next(bob); m.Queue == "ann" {
					got = append(got, m.Text())
				}
			}
			require.Equal(t, want, got)
			r.nothing(bob)
			require.Eventually(t, func() bool { return r.confirmed("bob", "web", "ann~bob") == int64(len(want)) }, 5*time.Second, time.Millisecond)
		})
	}
}

// What is unread is answered with the list when that comes in time, and once for
// each question.
func TestUnreadWaitsForTheList(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *session.Config) { c.UnreadWait = time.Hour })
	r.text(t, "ann", "bob", "0")
	r.set(func() { r.opening = errors.New("database is away") })
	bob := r.manual("bob", msyncclient.Options{})
	answers := make(chan int, 3)
	for range 3 {
		go func() {
			dl, err := bob.Unread(t.Context())
			if err != nil {
				answers <- -1
				return
			}
			answers <- len(dl.GetUnread())
		}()
	}
	require.Eventually(t, func() bool {
		return count(t, r.metrics, "chappe_session_checks_total", "failed") > 2
	}, 10*time.Second, time.Millisecond)
	require.Empty(t, answers)
	r.set(func() { r.opening = nil })
	for range 3 {
		require.Equal(t, 1, <-answers)
	}
}

// The places that a pending answer named are what is asked for again, so that an
// archive that is always a little behind gives a list in the end.
func TestPendingListIsAskedForAgain(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	var asked [][]uint64
	r.set(func() {
		r.onOpen = func(req *messagingv1.OpenDeviceRequest) *messagingv1.OpenDeviceResponse {
			asked = append(asked, req.GetLogPlaces())
			if len(asked) < 3 {
				return &messagingv1.OpenDeviceResponse{Pending: true, LogPlaces: []uint64{7, 8, 9}}
			}
			return nil
		}
	})
	bob := r.dial("bob", msyncclient.Options{})
	r.synced(bob)
	r.set(func() { require.Equal(t, [][]uint64{nil, {7, 8, 9}, {7, 8, 9}}, asked[:3]) })
}

// A list that was cut off says nothing of what is missing in it.
func TestListThatWasCutOff(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *session.Config) { c.CheckSpread = time.Hour })
	r.set(func() { r.cut = 2 })
	for i := range 6 {
		r.text(t, fmt.Sprint("user", i), "bob", "0")
	}
	bob := r.dial("bob", msyncclient.Options{KeepDuplicates: true})
	r.synced(bob)
	for range 2 {
		require.Equal(t, "0", r.next(bob).Text())
	}
	got := map[string][]string{}
	for i := range 6 {
		r.text(t, fmt.Sprint("user", i), "bob", "1")
	}
	for range 10 {
		m := r.next(bob)
		got[m.Queue] = append(got[m.Queue], m.Text())
	}
	whole := 0
	for q, texts := range got {
		if len(texts) == 2 {
			require.Equal(t, []string{"0", "1"}, texts, q)
			whole++
		} else {
			require.Equal(t, []string{"1"}, texts, q)
		}
	}
	require.Equal(t, 4, whole)
}

// When the log begins a new epoch, other entries may have the places of some that
// were pushed, confirmed, and are lost.
func TestNewEpochOfTheLog(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		// unstored: the positions have not been handed on yet.
		unstored bool
		// lost is how many pushes of the new epoch get lost; the loss is noticed.
		lost int
	}{
		"positions stored":                      {},
		"positions not stored":                  {unstored: true},
		"positions stored, first push lost":     {lost: 1},
		"positions not stored, first push lost": {unstored: true, lost: 1},
		"positions stored, no push":             {lost: 2},
		"positions not stored, no push":         {unstored: true, lost: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, func(c *session.Config) {
				if x.unstored {
					c.FlushInterval = time.Hour
				}
			})
			bob := r.dial("bob", msyncclient.Options{Resource: "web", KeepDuplicates: true})
			r.synced(bob)
			for i := range 3 {
				r.text(t, "ann", "bob", fmt.Sprint(i))
			}
			require.Equal(t, []string{"0", "1", "2"}, r.texts(bob, 3))
			r.nothing(bob) // so the gateway has the confirmation
			if !x.unstored {
				require.Eventually(t, func() bool { return r.confirmed("bob", "web", "ann~bob") == 3 }, 5*time.Second, time.Millisecond)
			}
			lost := x.lost
			r.set(func() { // the last one is lost, and with it its position
				r.entries["ann~bob"] = r.entries["ann~bob"][:2]
				if !x.unstored {
					r.positions["bob/web"]["ann~bob"] = 2
				}
				for p := range r.logged {
					r.logged[p] = 1 << 40
				}
				r.lose = func(*busv1.Delivery) bool { lost--; return lost >= 0 }
			})
			r.text(t, "ann", "bob", "new 2")
			r.text(t, "ann", "bob", "new 3")
			if x.lost > 0 {
				r.report()
			}
			require.Equal(t, []string{"new 2", "new 3"}, r.texts(bob, 2))
			r.nothing(bob)
		})
	}
}

// Devices come and go under traffic, while pushes are lost, the archive fails or
// is behind and connections forget conversations: each is shown everything, once
// and in order.
func TestLoginsUnderTraffic(t *testing.T) {
	t.Parallel()
	const devices, rounds, writers = 30, 12, 3
	r := start(t, func(c *session.Config) {
		c.MaxQueues, c.CleanQueues = 8, 2
		c.UnreadWait = 100 * time.Millisecond
	})
	var faults sync.Mutex
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1)) // no secret
	chance := func(n int) bool {
		faults.Lock()
		defer faults.Unlock()
		return random.IntN(n) == 0
	}
	r.set(func() {
		r.lose = func(*busv1.Delivery) bool { return chance(10) }
		r.onOpen = func(req *messagingv1.OpenDeviceRequest) *messagingv1.OpenDeviceResponse {
			if len(req.GetLogPlaces()) == 0 && chance(4) {
				return &messagingv1.OpenDeviceResponse{Pending: true, LogPlaces: slices.Clone(r.logged[:])}
			}
			return nil
		}
	})
	var all sync.WaitGroup
	for d := range devices {
		all.Go(func() { r.comeAndGo(t, fmt.Sprint("reader", d), rounds, writers, d) })
	}
	all.Wait()
}

// view is what a device was shown, by queue.
type view struct {
	mu sync.Mutex
	// ever was shown on any connection, now on this one. What is confirmed was
	// shown before the server heard of something later, so that it must not come
	// again.
	ever, now, confirmed map[string]int
	wrong                []string
}

func (v *view) show(m msyncclient.Received) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n, err := strconv.Atoi(m.Text())
	q := m.Queue
	switch now := v.now[q]; {
	case err != nil:
		v.wrong = append(v.wrong, err.Error())
	case now != 0 && n != now+1:
		v.wrong = append(v.wrong, fmt.Sprintf("%s: %d after %d", q, n, now))
	case now == 0 && (n <= v.confirmed[q] || n > v.ever[q]+1):
		v.wrong = append(v.wrong, fmt.Sprintf("%s: %d first, after %d, confirmed to %d", q, n, v.ever[q], v.confirmed[q]))
	}
	v.now[q], v.ever[q] = n, max(v.ever[q], n)
}

// connect begins a connection.
func (v *view) connect() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.now)
}

// settle notes that what was shown by now is confirmed.
func (v *view) settle(t *testing.T, c *msyncclient.Client) {
	v.mu.Lock()
	shown := maps.Clone(v.now)
	v.mu.Unlock()
	// The first answer is read when the pages before it are confirmed, the second
	// one given when the server has read that.
	for range 2 {
		if _, err := c.Unread(t.Context()); err != nil {
			t.Errorf("unread: %v", err)
		}
	}
	v.mu.Lock()
	maps.Copy(v.confirmed, shown)
	v.mu.Unlock()
}

// comeAndGo has a device log in so often and be written to all the while.
func (r *rig) comeAndGo(t *testing.T, user string, rounds, writers, seed int) {
	v := &view{ever: map[string]int{}, now: map[string]int{}, confirmed: map[string]int{}}
	opts := msyncclient.Options{Resource: "web", KeepDuplicates: true, OnReceived: v.show}
	sent := 0
	write := func() {
		sent++
		for w := range writers {
			if _, err := r.store(&busv1.Delivery{From: fmt.Sprint("writer", w), To: user, Body: textBody(t, "x", fmt.Sprint(sent))}); err != nil {
				t.Errorf("store: %v", err)
			}
		}
	}
	dial := func() *msyncclient.Client {
		v.connect()
		c, err := msyncclient.Dial(t.Context(), r.url, appKey, user, "token-"+user, opts)
		if err != nil {
			t.Errorf("login: %v", err)
		}
		return c
	}
	for i := range rounds {
		write()
		c := dial()
		if c == nil {
			return
		}
		write()
		if (seed+i)%2 == 0 {
			v.settle(t, c)
		}
		write()
		v.settle(t, c)
		c.Close()
	}
	c := dial()
	if c == nil {
		return
	}
	defer c.Close()
	// What was pushed last may be lost, and is found by whoever asks.
	done := func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		for w := range writers {
			if v.ever[fmt.Sprint("writer", w)] < sent {
				return len(v.wrong) > 0
			}
		}
		return true
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(20 * time.Second); !done() && time.Now().Before(end); <-look.C {
		r.report()
		v.settle(t, c)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, w := range v.wrong {
		t.Errorf("%s was shown of %s", user, w)
	}
	for w := range writers {
		if q := fmt.Sprint("writer", w); v.ever[q] != sent {
			t.Errorf("%s was shown %d of %d of %s", user, v.ever[q], sent, q)
		}
	}
}

// TestDeviceThatGoesAtOnceIsKnown has a device log in for the first time and go
// while the archive is behind.
func TestDeviceThatGoesAtOnceIsKnown(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	asked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.set(func() {
		r.onOpen = func(*messagingv1.OpenDeviceRequest) (resp *messagingv1.OpenDeviceResponse) {
			once.Do(func() {
				close(asked)
				r.mu.Unlock()
				<-release
				r.mu.Lock()
				resp = &messagingv1.OpenDeviceResponse{Pending: true, LogPlaces: make([]uint64, partitions)}
			})
			return resp
		}
	})
	bob := r.dial("bob", msyncclient.Options{Resource: "phone"})
	<-asked
	bob.Close()
	require.Eventually(t, func() bool { return r.server.Connections() == 0 }, 10*time.Second, 5*time.Millisecond)
	close(release)
	require.Eventually(t, func() (known bool) {
		r.set(func() { _, known = r.positions["bob/phone"] })
		return known
	}, 10*time.Second, 5*time.Millisecond)
}

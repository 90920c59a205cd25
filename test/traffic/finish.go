package traffic

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	"github.com/chappe-im/chappe/test/harness"
)

// Outcome is what a load went through.
type Outcome struct {
	Verdict
	Acked   int `json:"acknowledged"`
	Refused int `json:"refused"`
	Logins  int `json:"logins"`
	// Faults is how many faults had ended.
	Faults int `json:"faults"`
	// Milliseconds: the longest time without an acknowledgement, the slowest
	// answer, the longest time from an acknowledgement to the showing on a device
	// that stays connected, and from the end of the fault to the first acknowledgement of a
	// message sent after it and to the first showing of such a message: the slowest
	// of several faults, -1 where it never came.
	LongestGap  int64 `json:"longest_gap_ms"`
	SlowestCall int64 `json:"slowest_answer_ms"`
	SlowestShow int64 `json:"slowest_showing_ms"`
	SendsAgain  int64 `json:"sends_again_ms"`
	ShownAgain  int64 `json:"shown_again_ms"`

	Refusals map[string]int `json:"-"`
}

const (
	// settleFor bounds how long the devices may take to be shown what is left;
	// quietFor is how long nothing may come before it is believed that nothing
	// will.
	settleFor = 60 * time.Second
	quietFor  = 6 * time.Second
)

// Finish stops the writers, lets every device log in and stay until it was
// shown everything or nothing comes any more, has each log in once more to see
// that nothing comes again, and compares. where is a server whose archive is
// asked.
func (l *Load) Finish(t testing.TB, where *harness.App) Outcome {
	t.Helper()
	stopped := time.Now()
	l.stop()
	l.writers.Wait()
	l.awaitSent()
	close(l.settle)
	l.awaitShown(t)
	archive := l.archive(t, where)
	l.awaitNoMore(t)
	l.quit()
	l.receivers.Wait()

	l.mu.Lock()
	defer l.mu.Unlock()
	ledger := Ledger{Sent: l.sent, Archive: archive, Kills: l.kills}
	if len(l.overs) > 0 {
		ledger.Over = l.overs[0]
	}
	for _, d := range l.devices {
		ledger.Devices = append(ledger.Devices, d.copy())
	}
	out := Outcome{
		Verdict: ledger.Judge(), Acked: len(l.sent), Refused: int(l.refused.Load()), Logins: int(l.logins.Load()),
		Faults: len(l.overs), SlowestCall: time.Duration(l.slowest.Load()).Milliseconds(), Refusals: l.refusals,
	}
	out.LongestGap = longestGap(ledger.Sent, stopped).Milliseconds()
	out.SlowestShow = slowestShow(&ledger).Milliseconds()
	for _, over := range l.overs {
		sends, shows := again(&ledger, over)
		out.SendsAgain, out.ShownAgain = slower(out.SendsAgain, sends), slower(out.ShownAgain, shows)
	}
	return out
}

// awaitShown waits until each device was shown what was acknowledged.
func (l *Load) awaitShown(t testing.TB) {
	t.Helper()
	end, quiet, last := time.Now().Add(settleFor), time.Now().Add(quietFor), int64(-1)
	for time.Now().Before(end) && time.Now().Before(quiet) && l.missing() > 0 {
		if n := l.shown.Load() + l.logins.Load(); n != last {
			last, quiet = n, time.Now().Add(quietFor)
		}
		pause(t.Context(), 20*time.Millisecond)
	}
}

// Settled lets the writers stand still and waits until the archive holds
// everything that was acknowledged. where is a server whose archive is asked.
func (l *Load) Settled(t testing.TB, where *harness.App) {
	t.Helper()
	l.Pause(true)
	client := messagingv1.NewMessagingServiceClient(where.Server.Conn())
	require.Eventually(t, func() bool {
		l.mu.Lock()
		want := map[string]int{}
		for _, s := range l.sent {
			want[s.Conversation]++
		}
		l.mu.Unlock()
		for c, n := range want {
			if all, err := list(t.Context(), client, where, c); err != nil || len(all) < n {
				return false
			}
		}
		return true
	}, 30*time.Second, 300*time.Millisecond, "the archive does not hold what was acknowledged")
}

// missing counts what was acknowledged and not shown, over all devices.
func (l *Load) missing() int {
	l.mu.Lock()
	sent := slices.Clone(l.sent)
	l.mu.Unlock()
	n := 0
	for _, d := range l.devices {
		seen := map[string]bool{}
		for _, s := range d.copy().Shown {
			seen[s.ID] = true
		}
		for _, s := range sent {
			if s.Recipient == d.user && !seen[s.ID] {
				n++
			}
		}
	}
	return n
}

// awaitNoMore has every device log in once more, and waits until nothing has
// come for a while.
func (l *Load) awaitNoMore(t testing.TB) {
	t.Helper()
	again, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, d := range l.devices {
		// The same device: the older login is replaced and dials again, then the
		// new one is: three logins in which nothing may come again.
		for try := 0; try < 50; try++ {
			c := d.dial(again)
			if c == nil {
				if !pause(again, retryPause) {
					return
				}
				continue
			}
			select {
			case <-c.Synced():
			case <-c.Done():
			case <-again.Done():
			}
			c.Close()
			break
		}
	}
	pause(again, 500*time.Millisecond)
}

// archive asks for every conversation, until all that was acknowledged is there
// or nothing more comes.
func (l *Load) archive(t testing.TB, where *harness.App) map[string][]Archived {
	t.Helper()
	client := messagingv1.NewMessagingServiceClient(where.Server.Conn())
	l.mu.Lock()
	want := map[string]int{}
	for _, s := range l.sent {
		want[s.Conversation]++
	}
	l.mu.Unlock()
	out := map[string][]Archived{}
	end := time.Now().Add(10 * time.Second)
	for c := range l.conversations {
		for {
			all, err := list(t.Context(), client, where, c)
			if err == nil {
				out[c] = all
			}
			if err == nil && len(all) >= want[c] || time.Now().After(end) {
				if err != nil {
					t.Errorf("the archive of %s cannot be read: %v", c, err)
				}
				break
			}
			pause(t.Context(), 100*time.Millisecond)
		}
	}
	return out
}

func list(ctx context.Context, client messagingv1.MessagingServiceClient, where *harness.App, conversation string) ([]Archived, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var out []Archived
	for after := int64(0); ; {
		resp, err := client.ListMessages(ctx, &messagingv1.ListMessagesRequest{
			Org: where.Org, App: where.Name, Conversation: conversation, AfterSeq: after, Limit: 1000,
		})
		if err != nil || len(resp.GetMessages()) == 0 {
			return out, err
		}
		for _, m := range resp.GetMessages() {
			out = append(out, Archived{Seq: m.GetSeq(), ID: m.GetId(), Text: gjson.Get(m.GetPayload(), "bodies.0.msg").String()})
			after = m.GetSeq()
		}
	}
}

// longestGap is the longest time without an acknowledgement until the writers
// were stopped.
func longestGap(sent []Sent, stopped time.Time) time.Duration {
	var longest time.Duration
	for i := 1; i < len(sent); i++ {
		longest = max(longest, sent[i].Acked.Sub(sent[i-1].Acked))
	}
	if len(sent) > 0 {
		longest = max(longest, stopped.Sub(sent[len(sent)-1].Acked))
	}
	return longest
}

// slowestShow is the longest time from an acknowledgement to the first showing
// on a device that stays connected.
func slowestShow(l *Ledger) time.Duration {
	acked := make(map[string]time.Time, len(l.Sent))
	for _, s := range l.Sent {
		acked[s.ID] = s.Acked
	}
	var slowest time.Duration
	for _, d := range l.Devices {
		seen := map[string]bool{}
		for _, s := range d.Shown {
			if at, ok := acked[s.ID]; ok && d.Stays && !seen[s.ID] {
				slowest = max(slowest, s.At.Sub(at))
			}
			seen[s.ID] = true
		}
	}
	return slowest
}

// again tells how long after the end of a fault, in milliseconds, the first
// message was acknowledged that was sent after it, and the first of those was
// shown; -1 for never.
func again(l *Ledger, over time.Time) (sends, shows int64) {
	sends, shows = -1, -1
	after := map[string]bool{}
	for _, s := range l.Sent {
		if s.Begun.Before(over) {
			continue
		}
		after[s.ID] = true
		if ms := s.Acked.Sub(over).Milliseconds(); sends < 0 || ms < sends {
			sends = ms
		}
	}
	for _, d := range l.Devices {
		for _, s := range d.Shown {
			if ms := s.At.Sub(over).Milliseconds(); after[s.ID] && (shows < 0 || ms < shows) {
				shows = ms
			}
		}
	}
	return sends, shows
}

// slower gives the longer of two times, -1 being never.
func slower(a, b int64) int64 {
	if a < 0 || b < 0 {
		return -1
	}
	return max(a, b)
}

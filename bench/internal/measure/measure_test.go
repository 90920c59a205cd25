package measure

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/bench/internal/baseline"
	"github.com/chappe-im/chappe/bench/internal/check"
	"github.com/chappe-im/chappe/bench/internal/fake"
	"github.com/chappe-im/chappe/bench/internal/target"
)

func fakeTarget(t *testing.T, fault fake.Fault) (*fake.Server, *target.Target) {
	t.Helper()
	s := fake.Start(fault)
	t.Cleanup(s.Close)
	tg, err := target.New(t.Context(), target.Config{URL: s.URL, App: "org/app"})
	require.NoError(t, err)
	t.Cleanup(tg.Close)
	return s, tg
}

func seqOf(text string) int {
	tag, _ := check.Parse(text)
	return tag.Seq
}

// faults by name, each with what a check must say of it. The third message of
// each user is hit.
var faults = map[string]struct {
	fault fake.Fault
	found func(check.Report) bool
}{
	"none": {},
	"loses one": {
		func(_ string, waiting []string, text string) []string {
			if seqOf(text) == 3 {
				return waiting
			}
			return append(waiting, text)
		},
		func(r check.Report) bool { return r.Lost > 0 },
	},
	"gives one twice": {
		func(_ string, waiting []string, text string) []string {
			if seqOf(text) == 3 {
				waiting = append(waiting, text)
			}
			return append(waiting, text)
		},
		func(r check.Report) bool { return r.Duplicated > 0 },
	},
	"puts one in front of another": {
		func(_ string, waiting []string, text string) []string {
			if seqOf(text) == 3 && len(waiting) > 0 {
				return slices.Insert(waiting, len(waiting)-1, text)
			}
			return append(waiting, text)
		},
		func(r check.Report) bool { return r.Reordered > 0 },
	},
	"makes one up": {
		func(_ string, waiting []string, text string) []string {
			if seqOf(text) == 3 {
				waiting = append(waiting, "hello")
			}
			return append(waiting, text)
		},
		func(r check.Report) bool { return r.Foreign > 0 },
	},
}

// quiet is a process that is at rest, so that no measurement waits for it.
func quiet(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// limitFor is short where the wait is in vain.
func limitFor(fault string) time.Duration {
	if fault == "loses one" {
		return 200 * time.Millisecond
	}
	return 0
}

func TestSendFindsFaults(t *testing.T) {
	t.Parallel()
	for name, tt := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, tg := fakeTarget(t, tt.fault)
			s, err := NewSend(t.Context(), SendConfig{Target: tg, PID: quiet(t), Connections: 3, Recipients: 10, Count: 90, TextBytes: 80, ArrivalLimit: limitFor(name)})
			require.NoError(t, err)
			defer s.Close()
			for range 2 { // the same users serve again
				r, err := s.Run(t.Context())
				require.NoError(t, err)
				require.EqualValues(t, 90, r.Ops)
				require.EqualValues(t, 90, r.Check.Accepted)
				if tt.fault == nil {
					require.NoError(t, r.Check.Err())
					require.EqualValues(t, 90, r.Check.Arrived)
				} else {
					require.True(t, tt.found(*r.Check), "%+v", r.Check)
					require.Error(t, r.Check.Err())
				}
			}
		})
	}
}

func TestSendToConnectedUsers(t *testing.T) {
	t.Parallel()
	_, tg := fakeTarget(t, nil)
	s, err := NewSend(t.Context(), SendConfig{Target: tg, Connections: 2, Recipients: 4, Count: 200, Online: true})
	require.NoError(t, err)
	defer s.Close()
	r, err := s.Run(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 200, r.Check.Arrived)
	require.NoError(t, r.Check.Err())
	require.Zero(t, r.ServerCPU, "the process is not known")
}

func TestFanout(t *testing.T) {
	t.Parallel()
	for name, tt := range faults {
		if name == "puts one in front of another" {
			continue // each call waits for the one before: there is nothing to put it in front of
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, tg := fakeTarget(t, tt.fault)
			f, err := NewFanout(t.Context(), FanoutConfig{Target: tg, PID: quiet(t), Receivers: 20, Targets: 10, TextBytes: 60, ArrivalLimit: limitFor(name)})
			require.NoError(t, err)
			defer f.Close()
			r, err := f.Run(t.Context(), Rounds{Name: "x", Calls: 2, Count: 5})
			if name == "loses one" {
				require.ErrorContains(t, err, "were lost")
				return
			}
			require.NoError(t, err)
			require.EqualValues(t, 100, r.Ops)
			require.NotNil(t, r.LastDelivery)
			require.Positive(t, r.Extra["frames_per_delivery"])
			// One round to everyone comes before the measurement.
			require.EqualValues(t, 120, r.Check.Accepted)
			if tt.fault != nil {
				require.True(t, tt.found(*r.Check), "%+v", r.Check)
				return
			}
			require.NoError(t, r.Check.Err())
			frames, err := f.Frames(t.Context())
			require.NoError(t, err)
			require.NotEmpty(t, frames)
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s, tg := fakeTarget(t, nil)
	_, err := NewSend(t.Context(), SendConfig{Target: tg, Connections: 2, Recipients: 1})
	require.Error(t, err)
	_, err = NewFanout(t.Context(), FanoutConfig{Target: tg, Receivers: 1000, Targets: MaxTargets + 1})
	require.Error(t, err)

	send, err := NewSend(t.Context(), SendConfig{Target: tg, Connections: 1, Recipients: 1, Count: 5})
	require.NoError(t, err)
	defer send.Close()
	f, err := NewFanout(t.Context(), FanoutConfig{Target: tg, Receivers: 2, Targets: 2})
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Frames(t.Context())
	require.Error(t, err, "before a run")
	_, err = f.Run(t.Context(), Rounds{Calls: 2, Count: 1})
	require.Error(t, err, "too few receivers for two calls")

	s.Answer(http.StatusInternalServerError)
	r, err := send.Run(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 5, r.Failed)
	require.EqualValues(t, 5, r.Check.Uncertain)
	_, err = f.Run(t.Context(), Rounds{Calls: 1, Count: 1})
	require.ErrorContains(t, err, "500")

	s.Answer(http.StatusTooManyRequests)
	r, err = send.Run(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 5, r.Throttled)
	require.Zero(t, r.Check.Uncertain)
	s.Answer(http.StatusForbidden)
	r, err = send.Run(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 5, r.Failed)
	require.Zero(t, r.Check.Uncertain)
}

func TestPlainServers(t *testing.T) {
	t.Parallel()
	srv, err := baseline.Echo("127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, srv.Stop(context.Background())) }()
	r, err := HTTP(t.Context(), HTTPConfig{Name: "echo", Addr: srv.Addr, Connections: 4, Count: 100, TextBytes: 50})
	require.NoError(t, err)
	require.EqualValues(t, 100, r.Ops)
	var b bytes.Buffer
	require.NoError(t, r.Print(&b))
	require.Contains(t, b.String(), "p999")
}

func TestBareLoop(t *testing.T) {
	t.Parallel()
	srv, err := baseline.Frames("127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, srv.Stop(context.Background())) }()
	f, err := NewFrames(t.Context(), FramesConfig{Addr: srv.Addr, Connections: 6, Targets: 3})
	require.NoError(t, err)
	defer f.Close()

	// Frames as a server sends them for one delivery.
	_, tg := fakeTarget(t, nil)
	fan, err := NewFanout(t.Context(), FanoutConfig{Target: tg, Receivers: 2, Targets: 2})
	require.NoError(t, err)
	defer fan.Close()
	_, err = fan.Run(t.Context(), Rounds{Calls: 1, Count: 1})
	require.NoError(t, err)
	frames, err := fan.Frames(t.Context())
	require.NoError(t, err)
	require.Len(t, frames, 3, "notice, page, empty page")

	for _, exchange := range []bool{false, true, false} {
		r, err := f.Run(t.Context(), Rounds{Name: "x", Calls: 2, Count: 4}, frames, exchange)
		require.NoError(t, err)
		require.EqualValues(t, 24, r.Ops)
		require.NotNil(t, r.LastDelivery)
	}
	_, err = f.Run(t.Context(), Rounds{Calls: 3, Count: 1}, frames, false)
	require.Error(t, err)
}

func TestIdle(t *testing.T) {
	t.Parallel()
	_, tg := fakeTarget(t, nil)
	var collections atomic.Int64
	ops := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/debug/pprof/heap") {
			collections.Add(1)
		}
	}))
	defer ops.Close()
	users, tokens, err := PrepareIdle(t.Context(), tg, 70)
	require.NoError(t, err)
	r, err := Idle(t.Context(), IdleConfig{Target: tg, PID: quiet(t), Users: users, Tokens: tokens, Ops: ops.URL})
	require.NoError(t, err)
	require.EqualValues(t, 70, r.Ops)
	require.EqualValues(t, 2, collections.Load())
	require.Contains(t, r.Extra, "kib_per_connection")
	_, err = Idle(t.Context(), IdleConfig{Target: tg})
	require.Error(t, err, "without a process")
}

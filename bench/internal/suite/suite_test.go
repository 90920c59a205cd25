package suite

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/bench/internal/check"
	"github.com/chappe-im/chappe/bench/internal/measure"
)

func result(rate, cpu, last float64) *measure.Result {
	return &measure.Result{
		Unit: "send", PerSecond: rate, ServerCPU: cpu, LastDelivery: &measure.Latency{P50: last},
		Latency: &measure.Latency{P50: 1, P99: 40}, Check: &check.Report{Accepted: 5, Arrived: 5},
		Extra: map[string]float64{"kib_per_connection": 12, "frames_per_delivery": 3},
	}
}

func good() *Figures {
	return &Figures{
		Echo:    []*measure.Result{result(100, 30, 0), result(100, 30, 0), result(100, 40, 0)},
		Publish: []*measure.Result{result(50, 60, 0), result(60, 60, 0), result(70, 60, 0)},
		// Shares of the publish echo: 0.7, 0.5, 0.9.
		Send:             []*measure.Result{result(35, 90, 0), result(30, 90, 0), result(63, 90, 0)},
		AdmissionPercent: 2,
		Frames:           []*measure.Result{result(0, 10, 0)},
		Fanout:           []*measure.Result{result(0, 15, 0)},
		Single:           []*measure.Result{result(0, 0, 10), result(0, 0, 40), result(0, 0, 20)},
		ReadEcho:         []*measure.Result{result(100, 50, 0), result(200, 50, 0)},
		User:             []*measure.Result{result(80, 60, 0), result(160, 60, 0)},
		Attributes:       []*measure.Result{result(75, 60, 0), result(150, 60, 0)},
		Status:           []*measure.Result{result(90, 60, 0), result(180, 60, 0)},
		Token:            []*measure.Result{result(400, 900, 0)},
		Presence:         []*measure.Result{result(9000, 40, 0)},
		Idle:             result(0, 0, 0), IdleMiB: 80, ReadySeconds: []float64{1, 5, 2},
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	values := map[string]float64{}
	for _, v := range good().Verdicts() {
		require.True(t, v.Met, "%s: %v", v.What, v.Value)
		values[v.What[:14]] = v.Value
	}
	require.InDelta(t, 0.7, values["rate of durabl"], 1e-9)
	require.InDelta(t, 3, values["server CPU of "]*2, 1e-9) // the delivery's overwrites the send's
	require.InDelta(t, 20, values["last delivery "], 1e-9)

	bad := good()
	for _, r := range bad.Send {
		r.PerSecond /= 2
		r.ServerCPU *= 2
	}
	bad.Fanout[0].ServerCPU *= 2
	for _, r := range bad.ReadEcho {
		r.PerSecond *= 2
	}
	bad.AdmissionPercent = 5.1
	bad.Token[0].PerSecond = 299
	bad.Presence[0].Latency.P99 = 51
	bad.Single = nil
	bad.Idle.Extra["kib_per_connection"] = 17
	bad.IdleMiB = 101
	bad.ReadySeconds = []float64{4}
	for _, v := range bad.Verdicts() {
		require.False(t, v.Met, "%s: %v", v.What, v.Value)
	}
}

func TestLeftOutIsNotJudged(t *testing.T) {
	t.Parallel()
	f := good()
	require.Len(t, f.Verdicts(), 13)
	f.Send, f.Idle = nil, nil
	require.Len(t, f.Verdicts(), 9)
	require.Empty(t, (&Figures{}).Verdicts())
}

func TestFaults(t *testing.T) {
	t.Parallel()
	f := good()
	require.Empty(t, f.Faults())
	f.Single[1].Check = &check.Report{Accepted: 2, Arrived: 1, Lost: 1}
	require.Len(t, f.Faults(), 1)
}

func TestReport(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	cfg := Config{Rounds: 3, Duration: time.Second, Receivers: 1000, Targets: 500, ServerArgs: []string{"--x=1"}}
	f := good()
	env := Here("make bench")
	require.NoError(t, f.WriteMarkdown(&b, cfg, env))
	out := b.String()
	require.NotContains(t, out, "<no value>")
	require.NotContains(t, out, "missed")
	require.Contains(t, out, "| rate of durable REST sends, of the rate of the echo with one JetStream publish | 0.70 × | at least 0.6 × | met |")
	require.Contains(t, out, "none lost")
	require.Contains(t, out, "`--x=1`")
	require.Contains(t, out, env.Kernel)

	f.Send[0].Check.Lost = 1
	f.IdleMiB = 200
	b.Reset()
	require.NoError(t, f.WriteMarkdown(&b, cfg, env))
	require.Contains(t, b.String(), "**missed**")
	require.Contains(t, b.String(), "**failed**")
}

func TestShareOf(t *testing.T) {
	t.Parallel()
	function := func(id uint64, name string) *profile.Location {
		return &profile.Location{ID: id, Line: []profile.Line{{Function: &profile.Function{ID: id, Name: name}}}}
	}
	serve, admit, check := function(1, "net/http.serve"), function(2, "example.org/x/"+admission), function(3, "limiter.Check")
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		Location:   []*profile.Location{serve, admit, check},
		Sample: []*profile.Sample{
			{Location: []*profile.Location{serve}, Value: []int64{1, 60}},
			{Location: []*profile.Location{check, admit, serve}, Value: []int64{1, 30}},
			{Location: []*profile.Location{admit, serve}, Value: []int64{1, 10}},
		},
	}
	for _, l := range p.Location {
		p.Function = append(p.Function, l.Line[0].Function)
	}
	var b bytes.Buffer
	require.NoError(t, p.Write(&b))
	share, err := shareOf(b.Bytes(), admission)
	require.NoError(t, err)
	require.InDelta(t, 40, share, 1e-9)
	_, err = shareOf([]byte("nonsense"), admission)
	require.Error(t, err)
}

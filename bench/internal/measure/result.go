// Package measure runs the measurements: sends, fan-out, idle connections and
// the same against the plain baselines.
package measure

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/chappe-im/chappe/bench/internal/check"
	"github.com/chappe-im/chappe/bench/internal/load"
	"github.com/chappe-im/chappe/bench/internal/proc"
	"github.com/chappe-im/chappe/bench/internal/stats"
)

// Latency in milliseconds.
type Latency struct {
	Mean float64 `json:"mean_ms"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
	Max  float64 `json:"max_ms"`
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func latencyOf(h *stats.Histogram) *Latency {
	if h.Count() == 0 {
		return nil
	}
	return &Latency{
		Mean: ms(h.Mean()), P50: ms(h.Quantile(.5)), P99: ms(h.Quantile(.99)), P999: ms(h.Quantile(.999)), Max: ms(h.Max()),
	}
}

// Result of one measurement. An operation is a call, a delivery or a
// connection, as Unit says.
type Result struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	// Ops that were done, in Seconds.
	Ops       int64   `json:"ops"`
	Throttled int64   `json:"throttled"`
	Failed    int64   `json:"failed"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	// Latency of a call from its first byte to its answer.
	Latency *Latency `json:"latency,omitempty"`
	// LastDelivery is the time from a call's first byte to the last of its
	// deliveries.
	LastDelivery *Latency `json:"last_delivery,omitempty"`
	// ServerCPU is the server's processor time per operation in microseconds,
	// with all that it does after the answer; 0 if its process is not known.
	ServerCPU float64 `json:"server_cpu_us_per_op,omitempty"`
	// ServerCPUAtAnswer is the part used until the last answer.
	ServerCPUAtAnswer float64 `json:"server_cpu_us_per_op_at_answer,omitempty"`
	// SettleSeconds is how long the server went on working after the last
	// answer.
	SettleSeconds float64 `json:"settle_seconds,omitempty"`
	// ServerPeakMiB is the largest resident memory of the server so far.
	ServerPeakMiB float64 `json:"server_peak_mib,omitempty"`
	// ClientCPU is what this tool used per operation, in microseconds.
	ClientCPU float64 `json:"client_cpu_us_per_op,omitempty"`
	// Check of what arrived.
	Check *check.Report `json:"check,omitempty"`
	// Extra figures by name.
	Extra map[string]float64 `json:"extra,omitempty"`
}

// Print writes the result for people.
func (r *Result) Print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(tw, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	_, _ = fmt.Fprintln(tw, r.Name)
	line(plural(r.Unit), "%d in %.2f s = %.0f/s (throttled %d, failed %d)", r.Ops, r.Seconds, r.PerSecond, r.Throttled, r.Failed)
	if l := r.Latency; l != nil {
		line("answer", "p50 %.2f  p99 %.2f  p999 %.2f  max %.2f ms", l.P50, l.P99, l.P999, l.Max)
	}
	if l := r.LastDelivery; l != nil {
		line("last delivery", "p50 %.2f  p99 %.2f  p999 %.2f  max %.2f ms", l.P50, l.P99, l.P999, l.Max)
	}
	if r.ServerCPU > 0 {
		line("server CPU", "%.1f µs per %s (%.1f µs until the last answer, at rest %.1f s later)", r.ServerCPU, r.Unit, r.ServerCPUAtAnswer, r.SettleSeconds)
		line("server memory", "%.0f MiB at its peak", r.ServerPeakMiB)
	}
	if r.ClientCPU > 0 {
		line("client CPU", "%.1f µs per %s", r.ClientCPU, r.Unit)
	}
	names := make([]string, 0, len(r.Extra))
	for n := range r.Extra {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		line(strings.ReplaceAll(n, "_", " "), "%.2f", r.Extra[n])
	}
	if c := r.Check; c != nil {
		if err := c.Err(); err != nil {
			line("check", "FAILED: %v", err)
		} else {
			line("check", "all %d accepted messages arrived once and in order (%d more without a clear answer)", c.Accepted, c.Uncertain)
		}
	}
	return tw.Flush()
}

func (r *Result) fill(l *load.Result) {
	r.Ops, r.Throttled, r.Failed = l.Done, l.Throttled, l.Failed
	r.Seconds, r.PerSecond = l.Elapsed.Seconds(), l.Rate()
	r.Latency = latencyOf(&l.Latency)
}

// settleLimit bounds the wait for a server to come to rest.
const settleLimit = 60 * time.Second

// meter takes the processor time of a server and of this process over a
// measurement. pid 0 means that the server's process is not known.
type meter struct {
	pid            int
	server, client time.Duration
	answered       time.Duration
}

func startMeter(ctx context.Context, pid int) (*meter, error) {
	m := &meter{pid: pid}
	var err error
	if pid != 0 {
		if _, err = proc.Settle(ctx, pid, settleLimit); err != nil {
			return nil, err
		}
		if m.server, err = proc.CPU(pid); err != nil {
			return nil, err
		}
	}
	m.client, err = proc.CPU(os.Getpid())
	return m, err
}

// answer is called when the last answer is in.
func (m *meter) answer() error {
	if m.pid == 0 {
		return nil
	}
	cpu, err := proc.CPU(m.pid)
	m.answered = cpu - m.server
	return err
}

// stop waits until the server is at rest and writes the figures.
func (m *meter) stop(ctx context.Context, r *Result) error {
	ops := float64(max(r.Ops, 1))
	client, err := proc.CPU(os.Getpid())
	if err != nil {
		return err
	}
	r.ClientCPU = us(client-m.client) / ops
	if m.pid == 0 {
		return nil
	}
	settled, err := proc.Settle(ctx, m.pid, settleLimit)
	if err != nil {
		return err
	}
	cpu, err := proc.CPU(m.pid)
	if err != nil {
		return err
	}
	mem, err := proc.ReadMemory(m.pid)
	if err != nil {
		return err
	}
	r.ServerCPU = us(cpu-m.server) / ops
	r.ServerCPUAtAnswer = us(m.answered) / ops
	r.SettleSeconds = settled.Seconds()
	r.ServerPeakMiB = float64(mem.Peak) / (1 << 20)
	return nil
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// runID names a run so that its messages are told from all others.
func runID() string {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// pad fills a text up to n bytes.
func pad(b []byte, n int) []byte {
	const filler = "The quick brown fox jumps over the lazy dog. "
	for i := 0; len(b) < n; i++ {
		b = append(b, filler[i%len(filler)])
	}
	return b
}

func names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return out
}

func plural(unit string) string {
	if s, ok := strings.CutSuffix(unit, "y"); ok {
		return s + "ies"
	}
	return unit + "s"
}

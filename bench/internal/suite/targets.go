package suite

import (
	"github.com/chappe-im/chappe/bench/internal/measure"
	"github.com/chappe-im/chappe/bench/internal/stats"
)

// Verdict compares a figure with its target.
type Verdict struct {
	// What is measured, in words.
	What string `json:"what"`
	// Value and Bound in Unit.
	Value float64 `json:"value"`
	Bound float64 `json:"bound"`
	Unit  string  `json:"unit"`
	// AtLeast: the value must not be below the bound, else not above.
	AtLeast bool `json:"at_least"`
	Met     bool `json:"met"`
}

// The targets. Ratios are of one round, its median over the rounds is judged.
const (
	minSendShare      = 0.60
	maxSendCPU        = 3.5
	maxAdmission      = 5
	maxDeliveryCPU    = 1.5
	maxLastDeliveryMS = 30
	maxKiBPerIdle     = 16
	maxIdleMiB        = 100
	maxReadySeconds   = 3
	minReadShare      = 0.70
	minTokens         = 300
	maxNoticeMS       = 50
	ratioUnit         = "×"
)

// ratios divides round by round and takes the median.
func ratios(a, b []*measure.Result, of func(*measure.Result) float64) float64 {
	var all []float64
	for i := range min(len(a), len(b)) {
		if d := of(b[i]); d > 0 {
			all = append(all, of(a[i])/d)
		}
	}
	return stats.Median(all)
}

// median of a figure over the rounds.
func median(rs []*measure.Result, of func(*measure.Result) float64) float64 {
	all := make([]float64, len(rs))
	for i, r := range rs {
		all[i] = of(r)
	}
	return stats.Median(all)
}

func rate(r *measure.Result) float64 { return r.PerSecond }
func cpu(r *measure.Result) float64  { return r.ServerCPU }
func last(r *measure.Result) float64 {
	if r.LastDelivery == nil {
		return 0
	}
	return r.LastDelivery.P50
}

func p99(r *measure.Result) float64 {
	if r.Latency == nil {
		return 0
	}
	return r.Latency.P99
}

// Verdicts compares the figures with the targets. What was left out is not
// judged.
func (f *Figures) Verdicts() []Verdict {
	var v []Verdict
	if len(f.Send) > 0 {
		v = append(v,
			Verdict{What: "rate of durable REST sends, of the rate of the echo with one JetStream publish", Value: ratios(f.Send, f.Publish, rate), Bound: minSendShare, Unit: ratioUnit, AtLeast: true},
			Verdict{What: "server CPU of a REST send, of that of the plain echo", Value: ratios(f.Send, f.Echo, cpu), Bound: maxSendCPU, Unit: ratioUnit},
			Verdict{What: "admission, of the server CPU of a REST send, by a profile", Value: f.AdmissionPercent, Bound: maxAdmission, Unit: "%"})
	}
	for _, read := range []struct {
		of      string
		results []*measure.Result
	}{{"a user", f.User}, {"a user's attributes", f.Attributes}, {"a user's status", f.Status}} {
		if len(read.results) > 0 {
			v = append(v, Verdict{What: "rate of REST reads of " + read.of + ", of that of the plain echo", Value: ratios(read.results, f.ReadEcho, rate), Bound: minReadShare, Unit: ratioUnit, AtLeast: true})
		}
	}
	if len(f.Token) > 0 {
		v = append(v, Verdict{What: "tokens by password on one core, warm", Value: median(f.Token, rate), Bound: minTokens, Unit: "/s", AtLeast: true})
	}
	if len(f.Presence) > 0 {
		v = append(v, Verdict{What: "change of presence until a subscriber is told, 99th percentile", Value: median(f.Presence, p99), Bound: maxNoticeMS, Unit: "ms"})
	}
	if len(f.Fanout) > 0 {
		v = append(v,
			Verdict{What: "server CPU of a delivery to connected users, of that of the bare loop", Value: ratios(f.Fanout, f.Frames, cpu), Bound: maxDeliveryCPU, Unit: ratioUnit},
			Verdict{What: "last delivery of one call, median", Value: median(f.Single, last), Bound: maxLastDeliveryMS, Unit: "ms"})
	}
	if f.Idle != nil {
		v = append(v, Verdict{What: "memory of an idle connection", Value: f.Idle.Extra["kib_per_connection"], Bound: maxKiBPerIdle, Unit: "KiB"})
	}
	if len(f.ReadySeconds) > 0 {
		v = append(v,
			Verdict{What: "process without work", Value: f.IdleMiB, Bound: maxIdleMiB, Unit: "MiB"},
			Verdict{What: "ready on a warm disk", Value: stats.Median(f.ReadySeconds), Bound: maxReadySeconds, Unit: "s"})
	}
	for i := range v {
		if v[i].AtLeast {
			v[i].Met = v[i].Value >= v[i].Bound
		} else {
			// A figure of nothing is a measurement that did not take place.
			v[i].Met = v[i].Value > 0 && v[i].Value <= v[i].Bound
		}
	}
	return v
}

// Faults gives the checks that failed.
func (f *Figures) Faults() []error {
	var all []error
	for _, rs := range [][]*measure.Result{f.Send, f.Online, f.Fanout, f.Single} {
		for _, r := range rs {
			if r.Check == nil {
				continue
			}
			if err := r.Check.Err(); err != nil {
				all = append(all, err)
			}
		}
	}
	return all
}

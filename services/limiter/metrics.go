package limiter

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe-im/chappe/pkg/obs"
	"github.com/chappe-im/chappe/pkg/windows"
)

type metrics struct {
	backlog prometheus.Counter
	keys    prometheus.Gauge
	delay   prometheus.Histogram
	granted prometheus.Counter
}

// newMetrics makes the limiter's metrics. What the windows decide is counted
// by them and read when somebody asks.
func newMetrics(reg prometheus.Registerer, decided func() windows.Counts, backlog func() int64) (*metrics, error) {
	const throttledName, throttledHelp = "chappe_limiter_throttled_total", "Checks refused, by reason."
	throttled := func(reason string, read func(windows.Counts) int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: throttledName, Help: throttledHelp, ConstLabels: prometheus.Labels{"reason": reason},
		}, func() float64 { return float64(read(decided())) })
	}
	m := &metrics{
		backlog: prometheus.NewCounter(prometheus.CounterOpts{
			Name: throttledName, Help: throttledHelp, ConstLabels: prometheus.Labels{"reason": ReasonBacklog},
		}),
		keys: prometheus.NewGauge(prometheus.GaugeOpts{Name: "chappe_limiter_buckets", Help: "Buckets in memory."}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "chappe_limiter_downstream_delay_seconds", Help: "How long reserved deliveries have to wait for their budget.",
			Buckets: obs.LatencyBuckets,
		}),
		granted: prometheus.NewCounter(prometheus.CounterOpts{Name: "chappe_limiter_downstream_granted_total", Help: "Deliveries granted."}),
	}
	admitted := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "chappe_limiter_admitted_total", Help: "Checks admitted.",
	}, func() float64 { return float64(decided().Admitted) })
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "chappe_limiter_backlog_deliveries", Help: "Deliveries that wait for downstream budget, by the workers' reports.",
	}, func() float64 { return float64(backlog()) })
	return m, obs.Register(reg, "the limiter",
		throttled(ReasonRate, func(c windows.Counts) int64 { return c.Throttled }),
		throttled(ReasonTooCostly, func(c windows.Counts) int64 { return c.TooCostly }),
		m.backlog, admitted, m.keys, m.delay, m.granted, waiting)
}

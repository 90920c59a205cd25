package limiter

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe-im/chappe/pkg/obs"
)

type metrics struct {
	admitted  prometheus.Counter
	rate      prometheus.Counter
	backlog   prometheus.Counter
	tooCostly prometheus.Counter
	keys      prometheus.Gauge
	delay     prometheus.Histogram
	granted   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, backlog func() int64) (*metrics, error) {
	throttled := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "chappe_limiter_throttled_total", Help: "Checks refused, by reason.",
	}, []string{"reason"})
	m := &metrics{
		admitted:  prometheus.NewCounter(prometheus.CounterOpts{Name: "chappe_limiter_admitted_total", Help: "Checks admitted."}),
		rate:      throttled.WithLabelValues(ReasonRate),
		backlog:   throttled.WithLabelValues(ReasonBacklog),
		tooCostly: throttled.WithLabelValues(ReasonTooCostly),
		keys:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "chappe_limiter_buckets", Help: "Buckets in memory."}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "chappe_limiter_downstream_delay_seconds", Help: "How long reserved deliveries have to wait for their budget.",
			Buckets: obs.LatencyBuckets,
		}),
		granted: prometheus.NewCounter(prometheus.CounterOpts{Name: "chappe_limiter_downstream_granted_total", Help: "Deliveries granted."}),
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "chappe_limiter_backlog_deliveries", Help: "Deliveries that wait for downstream budget, by the workers' reports.",
	}, func() float64 { return float64(backlog()) })
	var all error
	for _, c := range []prometheus.Collector{throttled, m.admitted, m.keys, m.delay, m.granted, waiting} {
		all = errors.Join(all, reg.Register(c))
	}
	if all != nil {
		return nil, fmt.Errorf("limiter metrics: %w", all)
	}
	return m, nil
}

package partition

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe-im/chappe/pkg/obs"
)

type metrics struct {
	lag       prometheus.Histogram
	pushed    prometheus.Counter
	spilled   prometheus.Counter
	backlog   prometheus.Gauge
	failures  *prometheus.CounterVec
	partition prometheus.Gauge
	logLost   prometheus.Counter
	logEpoch  *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "chappe_messaging_distribution_delay_seconds", Help: "From commit to push.", Buckets: obs.LatencyBuckets,
		}),
		pushed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_messaging_deliveries_total", Help: "Deliveries pushed to the gateways' subjects.",
		}),
		spilled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_messaging_spilled_total", Help: "Deliveries that had to wait for downstream budget.",
		}),
		backlog: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "chappe_messaging_backlog_deliveries", Help: "Deliveries waiting for downstream budget here.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_messaging_worker_failures_total", Help: "Restarts of partition workers, by cause.",
		}, []string{"cause"}),
		partition: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "chappe_messaging_partitions_owned", Help: "Partitions whose worker runs here.",
		}),
		logLost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_messaging_log_lost_total", Help: "Records of the log that were acknowledged and are known to be lost before they were archived.",
		}),
		logEpoch: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "chappe_messaging_log_epoch", Help: "How often a partition's log began anew behind the archive.",
		}, []string{"partition"}),
	}
	reg.MustRegister(m.lag, m.pushed, m.spilled, m.backlog, m.failures, m.partition, m.logLost, m.logEpoch)
	return m
}

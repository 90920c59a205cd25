package history

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	archived prometheus.Counter
	batch    prometheus.Histogram
	expired  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		archived: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_messaging_archived_total", Help: "Entries written to the archive.",
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "chappe_messaging_archive_batch_entries", Help: "Entries of one archive transaction.",
			Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000},
		}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_messaging_expired_total", Help: "Messages deleted because their tier keeps them no longer.",
		}),
	}
	reg.MustRegister(m.archived, m.batch, m.expired)
	return m
}

package messaging

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	accepted *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		accepted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_messaging_accepted_total", Help: "Messages committed to the log, by source.",
		}, []string{"source"}),
	}
	reg.MustRegister(m.accepted)
	return m
}

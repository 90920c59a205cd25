package presence

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe-im/chappe/pkg/obs"
)

type metrics struct {
	refused prometheus.Counter
	lost    prometheus.Counter
	dropped prometheus.Counter
	notices prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, x *index) (*metrics, error) {
	m := &metrics{
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_presence_logins_refused_total", Help: "Logins refused because the app's plan allows no further user online.",
		}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_presence_connections_lost_total", Help: "Connections dropped because their gateway was gone.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_presence_records_dropped_total", Help: "Logins and logouts not recorded because too many were waiting for the database.",
		}),
		notices: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_presence_notices_total", Help: "Presence changes sent to subscribers who are online.",
		}),
	}
	connections := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "chappe_presence_connections", Help: "Connections of all gateways.",
	}, func() float64 { return float64(x.size()) })
	return m, obs.Register(reg, "presence", m.refused, m.lost, m.dropped, m.notices, connections)
}

package session

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	connections   prometheus.Gauge
	logins        *prometheus.CounterVec
	delivered     prometheus.Counter
	pushes        *prometheus.CounterVec
	pagePulled    prometheus.Counter
	pagePushed    prometheus.Counter
	pageEmpty     prometheus.Counter
	notice        prometheus.Counter
	direct        prometheus.Counter
	sendOK        prometheus.Counter
	sends         *prometheus.CounterVec
	unlimited     prometheus.Counter
	slowConsumers prometheus.Counter
	checks        *prometheus.CounterVec
	losses        prometheus.Counter
	confirmations *prometheus.CounterVec
	unconfirmed   prometheus.Gauge
	kicks         *prometheus.CounterVec
	panics        prometheus.Counter
	opening       prometheus.Gauge
	floods        prometheus.Counter
	shed          prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, mem *memory) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "chappe_session_" + name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "chappe_session_" + name, Help: help}, []string{label})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "chappe_session_" + name, Help: help})
	}
	m := &metrics{
		connections:   gauge("connections", "Client connections, logged in or not."),
		logins:        vec("logins_total", "Logins by result.", "result"),
		pushes:        vec("pushes_total", "Pushes taken in, by kind.", "kind"),
		sends:         vec("sends_total", "Metas that devices sent, by result.", "result"),
		unlimited:     counter("unlimited_sends_total", "Sends of devices admitted without asking because the limiter did not answer."),
		slowConsumers: counter("slow_consumers_total", "Connections closed because they read too slowly."),
		checks:        vec("checks_total", "Questions of connections to the archive, by result: ok, pending (the archive is behind the log, asked again) or failed (asked again).", "result"),
		losses:        counter("losses_total", "Times when pushes may have been lost and all connections were checked."),
		confirmations: vec("positions_total", "Confirmed positions handed on, by result.", "result"),
		unconfirmed:   gauge("positions_waiting", "Confirmed positions that wait to be handed on."),
		kicks:         vec("kicks_total", "Connections ended by the server, by reason.", "reason"),
		opening:       gauge("asking", "Connections whose question to the archive is not answered yet; devices that have just logged in are shown nothing until then."),
		floods:        counter("floods_total", "Connections closed because they sent too many frames for too long."),
		shed:          counter("tails_shed_total", "Queues whose waiting entries were left to the archive because memory was scarce."),
		panics:        counter("panics_total", "Faults while handling a frame."),
	}
	m.sendOK = m.sends.WithLabelValues("ok")
	m.delivered = m.pushes.WithLabelValues("delivery")
	frames := vec("frames_total", "Frames sent to devices, by kind.", "kind")
	m.pagePulled, m.pagePushed, m.pageEmpty = frames.WithLabelValues("page_pulled"), frames.WithLabelValues("page_pushed"), frames.WithLabelValues("page_empty")
	m.notice, m.direct = frames.WithLabelValues("notice"), frames.WithLabelValues("direct")
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "chappe_session_page_memory_bytes", Help: "Memory of entries and frames that wait for devices, bounded by --page-memory.",
	}, func() float64 { return float64(mem.used.Load()) })
	reg.MustRegister(waiting, frames, m.connections, m.logins, m.pushes, m.sends, m.unlimited, m.slowConsumers, m.checks, m.losses,
		m.confirmations, m.unconfirmed, m.kicks, m.panics, m.opening, m.floods, m.shed)
	return m
}

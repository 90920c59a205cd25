package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe-im/chappe/pkg/obs"
)

// logger is what a throttle writes to.
type logger interface {
	Warn(msg string, args ...any)
}

// throttle lets an event pass once in a while. The zero value is ready.
type throttle struct{ last atomic.Int64 }

func (t *throttle) pass(now time.Time, every time.Duration) bool {
	last := t.last.Load()
	return now.UnixNano()-last >= int64(every) && t.last.CompareAndSwap(last, now.UnixNano())
}

type metrics struct {
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	inFlight  prometheus.Gauge
	panics    prometheus.Counter
	unlimited prometheus.Counter
	// credentials counts by kind and result.
	credentials *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_gateway_http_requests_total", Help: "REST requests by path pattern, method and status.",
		}, []string{"route", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "chappe_gateway_http_duration_seconds", Help: "Duration of REST requests.", Buckets: obs.LatencyBuckets,
		}, []string{"route", "method"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "chappe_gateway_http_in_flight_requests", Help: "REST requests being served.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_gateway_http_panics_total", Help: "REST requests that ended in a panic.",
		}),
		unlimited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_gateway_unlimited_calls_total", Help: "Calls admitted without asking because the limiter did not answer.",
		}),
		credentials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_gateway_credential_checks_total",
			Help: "Passwords and client secrets in calls, by what they were: right, wrong, undecided, or delayed and not looked at.",
		}, []string{"kind", "result"}),
	}
	var all error
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.inFlight, m.panics, m.unlimited, m.credentials} {
		all = errors.Join(all, reg.Register(c))
	}
	if all != nil {
		return nil, fmt.Errorf("gateway metrics: %w", all)
	}
	return m, nil
}

// methodLabel keeps made-up methods out of the labels.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodHead, http.MethodPatch:
		return method
	default:
		return "other"
	}
}

// meters are the metrics of one route and method, looked up once.
type meters struct {
	ok       prometheus.Counter
	duration prometheus.Observer
}

func (m *metrics) metersOf(route, method string) meters {
	return meters{
		ok:       m.requests.WithLabelValues(route, method, "200"),
		duration: m.duration.WithLabelValues(route, method),
	}
}

// slowCall is logged whatever the sampling says.
const slowCall = time.Second

// done counts and logs a finished call.
func (c *call) done(took time.Duration) {
	route, method := "none", methodLabel(c.req.Method)
	if c.endpoint != nil {
		route = c.endpoint.Path
	}
	status := c.w.status
	if status == 0 {
		status = http.StatusOK
	}
	if c.endpoint != nil && status == http.StatusOK {
		c.endpoint.ok.Inc()
		c.endpoint.duration.Observe(took.Seconds())
	} else {
		c.h.metrics.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
		c.h.metrics.duration.WithLabelValues(route, method).Observe(took.Seconds())
	}
	if status < http.StatusInternalServerError && took < slowCall && !c.h.sampled() {
		return
	}
	level := slog.LevelInfo
	if status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	ctx := context.Background()
	// Asked without the logger, which would look for the line of code.
	to := c.h.logger.Handler()
	if !to.Enabled(ctx, level) {
		return
	}
	app := ""
	if c.access.App != nil {
		app = c.access.App.Key
	}
	r := slog.NewRecord(c.began.Add(took), level, "http", 0)
	r.AddAttrs(
		slog.String(obs.KeyRequestID, c.id),
		slog.String("http_method", method),
		slog.String("route", route),
		slog.String(obs.KeyApp, app),
		slog.Int(obs.KeyStatus, status),
		slog.Float64(obs.KeyDuration, float64(took.Microseconds())/1000),
		slog.Int64("bytes", c.w.bytes),
		slog.String("ip", c.h.addresses.ClientIP(c.req)),
	)
	_ = to.Handle(ctx, r) // there is nowhere to tell that the log cannot be written
}

// sampled chooses one call in so many for the access log.
func (h *Handler) sampled() bool {
	every := h.cfg.AccessLogEvery
	return every > 0 && h.served.Add(1)%uint64(every) == 0
}

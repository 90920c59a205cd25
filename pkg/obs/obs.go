// Package obs holds what all services share for logs and metrics: the logger,
// the names of log keys and the histogram buckets.
package obs

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Keys of log attributes.
const (
	KeyService   = "service"
	KeyRequestID = "request_id"
	KeyApp       = "app"
	KeyUser      = "user"
	KeyError     = "error"
	KeyMethod    = "method"
	KeyStatus    = "status"
	KeyDuration  = "duration_ms"
)

// LatencyBuckets are histogram buckets for calls, in seconds.
var LatencyBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// Register enters the collectors of a part of the program; what names it in the
// error.
func Register(reg prometheus.Registerer, what string, collectors ...prometheus.Collector) error {
	var all error
	for _, c := range collectors {
		all = errors.Join(all, reg.Register(c))
	}
	if all != nil {
		return fmt.Errorf("metrics of %s: %w", what, all)
	}
	return nil
}

// NewLogger makes a logger that writes to w. Level is debug, info, warn or
// error; format is json or text.
func NewLogger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(strings.ToUpper(level))); err != nil {
		l = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: l}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

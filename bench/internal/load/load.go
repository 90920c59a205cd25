// Package load runs a closed loop: N workers, each of which starts its next
// operation when the one before is answered.
package load

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chappe-im/chappe/bench/internal/stats"
)

// Outcome of one operation.
type Outcome int

// Outcomes.
const (
	// Done operations count and their latency is recorded.
	Done Outcome = iota
	// Throttled operations were refused by a limit.
	Throttled
	// Failed operations got no answer or an error.
	Failed
)

// Op is one operation of a worker; n counts the worker's operations from 0.
type Op func(ctx context.Context, worker, n int) (Outcome, error)

// Config of a run. It ends after Duration or Count operations, whichever is
// first; a zero value means no such bound.
type Config struct {
	Workers  int
	Duration time.Duration
	Count    int64
	// MaxErrors ends the run early; 0 means 100.
	MaxErrors int64
}

// Result of a run.
type Result struct {
	Done, Throttled, Failed int64
	// Elapsed from the first start to the last answer.
	Elapsed time.Duration
	Latency stats.Histogram
	// FirstError is the first of the Failed ones.
	FirstError error
}

// Rate is done operations per second.
func (r *Result) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Done) / r.Elapsed.Seconds()
}

// ErrTooManyErrors ends a run whose operations keep failing.
var ErrTooManyErrors = errors.New("too many operations failed")

// Run runs the loop and returns when all workers have ended.
func Run(ctx context.Context, cfg Config, op Op) (*Result, error) {
	if cfg.Duration <= 0 && cfg.Count <= 0 {
		return nil, errors.New("a run needs a duration or a count")
	}
	maxErrors := cfg.MaxErrors
	if maxErrors <= 0 {
		maxErrors = 100
	}
	// Operations under way at the end are let finish: what was sent must be
	// known to be accepted or not.
	var stop atomic.Bool
	if cfg.Duration > 0 {
		timer := time.AfterFunc(cfg.Duration, func() { stop.Store(true) })
		defer timer.Stop()
	}
	release := context.AfterFunc(ctx, func() { stop.Store(true) })
	defer release()

	var issued, failed atomic.Int64
	results := make([]Result, cfg.Workers)
	var wg sync.WaitGroup
	start := time.Now()
	for w := range cfg.Workers {
		wg.Go(func() {
			r := &results[w]
			for n := 0; !stop.Load(); n++ {
				if cfg.Count > 0 && issued.Add(1) > cfg.Count {
					return
				}
				begin := time.Now()
				outcome, err := op(ctx, w, n)
				switch outcome {
				case Done:
					r.Done++
					r.Latency.Record(time.Since(begin))
				case Throttled:
					r.Throttled++
				default:
					r.Failed++
					if r.FirstError == nil {
						r.FirstError = err
					}
					if failed.Add(1) >= maxErrors {
						stop.Store(true)
					}
				}
			}
		})
	}
	wg.Wait()
	total := &Result{Elapsed: time.Since(start)}
	for i := range results {
		r := &results[i]
		total.Done += r.Done
		total.Throttled += r.Throttled
		total.Failed += r.Failed
		total.Latency.Merge(&r.Latency)
		if total.FirstError == nil {
			total.FirstError = r.FirstError
		}
	}
	if total.Failed >= maxErrors {
		return total, errors.Join(ErrTooManyErrors, total.FirstError)
	}
	return total, ctx.Err()
}

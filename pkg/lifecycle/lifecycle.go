// Package lifecycle starts the parts of a process in order and stops them in
// the reverse order.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Part is something that is started and stopped. Start returns once the part
// serves; work that goes on after that belongs to goroutines which Stop ends
// and waits for. Stop must be safe to call once after a Start that succeeded.
type Part struct {
	Name  string
	Start func(ctx context.Context) error
	Stop  func(ctx context.Context) error
}

// Group runs parts in order.
type Group struct {
	logger  *slog.Logger
	parts   []Part
	started int
}

// New makes an empty group.
func New(logger *slog.Logger) *Group { return &Group{logger: logger} }

// Add appends a part; it is started after, and stopped before, those before
// it.
func (g *Group) Add(p Part) { g.parts = append(g.parts, p) }

// Start starts all parts. When one fails, those before it are stopped and the
// failure is returned.
func (g *Group) Start(ctx context.Context) error {
	for _, p := range g.parts[g.started:] {
		began := time.Now()
		if p.Start != nil {
			if err := p.Start(ctx); err != nil {
				stopErr := g.Stop(context.WithoutCancel(ctx))
				return errors.Join(fmt.Errorf("start %s: %w", p.Name, err), stopErr)
			}
		}
		g.started++
		g.logger.Debug("started", "part", p.Name, "took_ms", time.Since(began).Milliseconds())
	}
	return nil
}

// Stop stops all started parts, last first, and joins their errors. Every part
// gets its Stop call, also after ctx has run out.
func (g *Group) Stop(ctx context.Context) error {
	var all error
	for g.started > 0 {
		g.started--
		p := g.parts[g.started]
		if p.Stop == nil {
			continue
		}
		began := time.Now()
		if err := p.Stop(ctx); err != nil {
			all = errors.Join(all, fmt.Errorf("stop %s: %w", p.Name, err))
		}
		g.logger.Debug("stopped", "part", p.Name, "took_ms", time.Since(began).Milliseconds())
	}
	return all
}

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
// and waits for.
type Part struct {
	Name  string
	Start func(ctx context.Context) error
	Stop  func(ctx context.Context) error
}

// Group runs parts in order. It is not safe for concurrent use.
type Group struct {
	logger *slog.Logger
	parts  []Part
	next   int
	// stops is what has to be undone, last first.
	stops []Part
}

// New makes an empty group.
func New(logger *slog.Logger) *Group { return &Group{logger: logger} }

// Add appends a part; it is started after, and stopped before, those before
// it.
func (g *Group) Add(p Part) { g.parts = append(g.parts, p) }

// Undo is called while a part starts and adds something that is undone after
// the part is stopped, or when its start fails.
func (g *Group) Undo(name string, stop func(ctx context.Context) error) {
	g.stops = append(g.stops, Part{Name: name, Stop: stop})
}

// Start starts all parts. When one fails, everything before it is stopped and
// the failure is returned.
func (g *Group) Start(ctx context.Context) error {
	for _, p := range g.parts[g.next:] {
		began := time.Now()
		if p.Start != nil {
			if err := p.Start(ctx); err != nil {
				return errors.Join(fmt.Errorf("start %s: %w", p.Name, err), g.Stop(context.WithoutCancel(ctx)))
			}
		}
		g.next++
		if p.Stop != nil {
			g.stops = append(g.stops, p)
		}
		g.logger.Debug("started", "part", p.Name, "took_ms", time.Since(began).Milliseconds())
	}
	return nil
}

// Stop stops all started parts, last first, and joins their errors. Every part
// gets its Stop call once, also after ctx has run out.
func (g *Group) Stop(ctx context.Context) error {
	var all error
	for len(g.stops) > 0 {
		p := g.stops[len(g.stops)-1]
		g.stops = g.stops[:len(g.stops)-1]
		began := time.Now()
		if err := p.Stop(ctx); err != nil {
			all = errors.Join(all, fmt.Errorf("stop %s: %w", p.Name, err))
		}
		g.logger.Debug("stopped", "part", p.Name, "took_ms", time.Since(began).Milliseconds())
	}
	return all
}

// Package idgen makes message IDs: 63-bit numbers that grow with time, unique
// over all nodes that hold distinct node numbers.
package idgen

import (
	"fmt"
	"sync"
	"time"
)

const (
	nodeBits     = 10
	sequenceBits = 12

	// MaxNode is the largest node number.
	MaxNode = 1<<nodeBits - 1
)

// epoch is where the IDs' clock begins. From here, IDs have 18 digits until
// 2026 and 19 after, and fit into 63 bits until 2086.
var epoch = time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC)

// Generator makes IDs for one node. It is safe for concurrent use.
type Generator struct {
	now func() time.Time

	mu   sync.Mutex
	node int64
	last int64 // milliseconds since epoch of the last ID
	seq  int64
}

// New makes a generator for a node number, 0 to MaxNode. now is the clock.
func New(node int, now func() time.Time) (*Generator, error) {
	if node < 0 || node > MaxNode {
		return nil, fmt.Errorf("idgen: node number %d is not within 0 to %d", node, MaxNode)
	}
	return &Generator{node: int64(node), now: now}, nil
}

// Next returns an ID greater than all before it. When the clock steps back or
// more than 4,096 IDs are asked for in a millisecond, the IDs' clock runs ahead
// of the real one instead of waiting.
func (g *Generator) Next() int64 {
	ms := g.now().Sub(epoch).Milliseconds()
	g.mu.Lock()
	defer g.mu.Unlock()
	if ms > g.last {
		g.last, g.seq = ms, 0
	} else {
		g.seq++
		if g.seq == 1<<sequenceBits {
			g.last++
			g.seq = 0
		}
	}
	return g.last<<(nodeBits+sequenceBits) | g.node<<sequenceBits | g.seq
}

// SetNode has all following IDs made under another node number, 0 to MaxNode.
func (g *Generator) SetNode(node int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.node = int64(node)
	// What comes is greater than what came, whichever number is the smaller.
	g.last, g.seq = g.last+1, 0
}

// Advance makes all following IDs greater than id: called at start with the
// newest ID known, so that a clock set back over a restart repeats none.
func (g *Generator) Advance(id int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if ms := id >> (nodeBits + sequenceBits); ms >= g.last {
		g.last, g.seq = ms+1, 0
	}
}

// Time tells when an ID was made, to the millisecond.
func Time(id int64) time.Time {
	return epoch.Add(time.Duration(id>>(nodeBits+sequenceBits)) * time.Millisecond)
}

// FirstAt is the smallest ID that could be made at or after t.
func FirstAt(t time.Time) int64 {
	ms := t.Sub(epoch).Milliseconds()
	if ms < 0 {
		return 0
	}
	return ms << (nodeBits + sequenceBits)
}

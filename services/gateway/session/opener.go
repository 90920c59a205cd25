package session

import (
	"context"
	"sync"
	"time"

	"github.com/chappe-im/chappe/pkg/obs"
)

const (
	// openRetry is the pause before a connection's question is asked again; it
	// doubles up to openRetryMax.
	openRetry    = 50 * time.Millisecond
	openRetryMax = time.Second
	// openTick is how often connections are looked for whose pause has ended.
	openTick = 25 * time.Millisecond
	// openWarnEvery is how often it is logged that connections wait.
	openWarnEvery = 10 * time.Second
)

// opener asks the archive for connections: in the order in which they came, so
// many at once, and again after a pause for as long as it fails and the
// connection lives. A connection is in it at most once.
type opener struct {
	srv   *Server
	slots chan struct{}
	wake  chan struct{}

	mu sync.Mutex
	// ready are those whose turn it is, paused those that wait for another try.
	ready, paused []*conn
	failed        error
	warned        int64
}

func newOpener(s *Server) *opener {
	return &opener{srv: s, slots: make(chan struct{}, concurrentOpens), wake: make(chan struct{}, 1)}
}

// add puts a connection that wants to ask something into the line.
func (o *opener) add(c *conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.inLine {
		return // looked at again when its question is answered
	}
	c.inLine, c.tries = true, 0
	o.ready = append(o.ready, c)
	o.signal()
}

func (o *opener) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run asks until ctx ends and waits for what is under way.
func (o *opener) run(ctx context.Context) {
	var asking sync.WaitGroup
	defer asking.Wait()
	t := time.NewTicker(openTick)
	defer t.Stop()
	for {
		c := o.next()
		if c == nil {
			select {
			case <-o.wake:
			case <-t.C:
			case <-ctx.Done():
				return
			}
			continue
		}
		select {
		case o.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		asking.Go(func() {
			defer func() { <-o.slots }()
			err := c.consult()
			c.asked(err)
			o.done(c, err)
		})
	}
}

// next returns the connection whose turn it is.
func (o *opener) next() *conn {
	now := o.srv.now()
	o.mu.Lock()
	defer o.mu.Unlock()
	kept := o.paused[:0]
	for _, c := range o.paused {
		if now >= c.askAt {
			o.ready = append(o.ready, c)
		} else {
			kept = append(kept, c)
		}
	}
	clear(o.paused[len(kept):])
	o.paused = kept
	if o.failed != nil && now-o.warned >= openWarnEvery.Milliseconds() {
		o.warned = now
		o.srv.logger.Warn("the archive is not read for connections, whose devices are shown nothing until it is", "connections", len(o.paused)+len(o.ready), obs.KeyError, o.failed)
	}
	o.srv.metrics.opening.Set(float64(len(o.paused) + len(o.ready)))
	if len(o.ready) == 0 {
		return nil
	}
	c := o.ready[0]
	o.ready[0] = nil
	o.ready = o.ready[1:]
	return c
}

// done takes a connection out of the line, or has it wait when it must ask
// again.
func (o *opener) done(c *conn, err error) {
	o.mu.Lock()
	o.failed = err
	if err != nil {
		pause := min(openRetry<<min(c.tries, 8), openRetryMax)
		c.tries++
		c.askAt = o.srv.now() + pause.Milliseconds()/2 + jitter(pause/2)
		o.paused = append(o.paused, c)
		o.mu.Unlock()
		return
	}
	c.inLine = false
	o.mu.Unlock()
	if c.wants() {
		o.add(c)
	}
}

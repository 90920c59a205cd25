package traffic

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/chappe-im/chappe/pkg/msyncclient"
)

// device is one device of a recipient. It behaves as an SDK does, remembers
// nothing over a login, and writes down what it is shown.
type device struct {
	load           *Load
	user, resource string
	// herald writes to a device that comes and goes, as it comes; nil for one
	// that stays.
	herald *writer
	random *rand.Rand

	mu    sync.Mutex
	login int
	shown []Shown
	ends  []Span
}

// run logs in and out until ctx ends, or stays connected. known is called after
// the first login.
func (d *device) run(ctx context.Context, known func()) {
	defer func() {
		if known != nil {
			known()
		}
	}()
	for ctx.Err() == nil {
		if d.herald != nil && known == nil {
			d.herald.announce()
		}
		c := d.dial(ctx)
		if c == nil {
			if !pause(ctx, retryPause) {
				return
			}
			continue
		}
		if known != nil {
			known()
			known = nil
		}
		d.stay(ctx, c)
		d.leave(c)
		if d.herald != nil && !d.settling() {
			d.away(ctx)
		} else if !pause(ctx, retryPause) {
			return
		}
	}
}

func (d *device) settling() bool {
	select {
	case <-d.load.settle:
		return true
	default:
		return false
	}
}

func (d *device) dial(ctx context.Context) *msyncclient.Client {
	gateway := d.load.gateway(d.random)
	dialing, cancel := context.WithTimeout(ctx, 12*time.Second)
	defer cancel()
	d.mu.Lock()
	d.login++
	login := d.login
	d.mu.Unlock()
	c, err := msyncclient.Dial(dialing, gateway.Server.WS, gateway.Key(), d.user, d.load.tokens[d.user], msyncclient.Options{
		Resource: d.resource, OnReceived: func(r msyncclient.Received) { d.show(login, r) },
	})
	if err != nil {
		return nil
	}
	d.load.logins.Add(1)
	return c
}

// stay waits for the end of the login.
func (d *device) stay(ctx context.Context, c *msyncclient.Client) {
	var over, second <-chan time.Time
	settle := d.load.settle
	if d.herald != nil && !d.settling() {
		end, next := time.NewTimer(20*time.Millisecond+upTo(d.random, d.load.cfg.Stay)), time.NewTimer(upTo(d.random, d.load.cfg.Stay))
		defer end.Stop()
		defer next.Stop()
		over, second = end.C, next.C
	} else {
		settle = nil // is where it is to be
	}
	for {
		select {
		case <-second:
			d.herald.announce()
			continue
		case <-c.Done():
			return
		case <-over:
			return
		case <-settle:
			return
		case <-ctx.Done():
			return
		}
	}
}

// leave ends a connection, with or without a word, if it has not ended by
// itself.
func (d *device) leave(c *msyncclient.Client) {
	ended := end(time.Now())
	if d.random.IntN(2) == 0 {
		c.Close()
	} else {
		c.Abort()
	}
	ended.To = time.Now()
	d.mu.Lock()
	d.ends = append(d.ends, ended)
	d.mu.Unlock()
}

func (d *device) away(ctx context.Context) {
	t := time.NewTimer(upTo(d.random, d.load.cfg.Away))
	defer t.Stop()
	select {
	case <-t.C:
	case <-d.load.settle:
	case <-ctx.Done():
	}
}

func (d *device) show(login int, r msyncclient.Received) {
	text := r.Text()
	if text == "" {
		return
	}
	d.mu.Lock()
	d.shown = append(d.shown, Shown{At: time.Now(), Login: login, ID: strconv.FormatUint(r.Meta.GetId(), 10), Text: text})
	d.mu.Unlock()
	d.load.shown.Add(1)
}

// copy gives what the device was shown so far.
func (d *device) copy() Device {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Device{User: d.user, Resource: d.resource, Stays: d.herald == nil, Shown: slices.Clone(d.shown), Ends: slices.Clone(d.ends)}
}

package session

import "time"

const (
	// framesPerSecond bounds the frames that one device sends for long, pings
	// included, and frameBurst those that it may send at once. A device that
	// catches up sends one frame for each page of up to 50 entries and a receipt
	// for each entry, so this is above what a person's device ever does; a device
	// that asks in a loop costs a few hundredths of a core and no more.
	framesPerSecond = 1000
	frameBurst      = 2000
	// frameGrace is how long a device may be held up without a pause before its
	// connection is closed.
	frameGrace = 30 * time.Second
)

// pace is a connection's allowance of frames. The reading goroutine owns it.
type pace struct {
	// due is when the frames so far are paid for, heldUp since when every frame
	// had to wait, both in Unix microseconds; heldUp is 0 when none does.
	due, heldUp int64
}

// take counts a frame. It returns how long the frame must wait, and false when
// the device has been held up for too long.
func (p *pace) take(now int64) (wait time.Duration, ok bool) {
	const each, burst = int64(time.Second/time.Microsecond) / framesPerSecond, frameBurst * int64(time.Second/time.Microsecond) / framesPerSecond
	p.due = max(p.due, now) + each
	over := p.due - now - burst
	if over <= 0 {
		p.heldUp = 0
		return 0, true
	}
	if p.heldUp == 0 {
		p.heldUp = now
	}
	return time.Duration(over) * time.Microsecond, now-p.heldUp < frameGrace.Microseconds()
}

// allow waits until the device's next frame may be handled; false means that
// the connection closes.
func (c *conn) allow() bool {
	wait, ok := c.pace.take(c.srv.deps.Now().UnixMicro())
	if !ok {
		c.srv.metrics.floods.Inc()
		c.shutdown(closePolicy, "too many frames")
		return false
	}
	if wait == 0 {
		return true
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.srv.ctx.Done():
		return false
	}
}

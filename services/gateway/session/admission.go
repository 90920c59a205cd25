package session

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/msync"
	"github.com/chappe-im/chappe/pkg/obs"
	"github.com/chappe-im/chappe/pkg/tier"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

const (
	// admissionTimeout is how long a send waits for the limiter. Within a
	// cluster the limiter's client decides by itself long before.
	admissionTimeout = 250 * time.Millisecond
	// refusalPause is how long a device waits for the answer to a send that its
	// limit refuses, and for all that it sent after it. Without it one that does
	// not heed the refusals could ask for tens of thousands a second.
	refusalPause = 25 * time.Millisecond
	// limiterDownEvery is how often a limiter that does not answer is logged.
	limiterDownEvery = 5 * time.Second
)

// admit asks the limiter for what the device sends, before anything is done
// about it, and charges it to the user and the app. What makes no sense is
// charged like a message, as REST calls that make none are. A limiter that does
// not answer stops nobody: being limited exactly matters less than being served.
func (c *conn) admit(head msync.MetaHead) bool {
	rule := tier.RuleClientMessage
	if head.Receipt {
		rule = tier.RuleClientReceipt
	}
	ctx, cancel := context.WithTimeout(c.srv.ctx, admissionTimeout)
	defer cancel()
	resp, err := c.srv.limiter.Check(ctx, &limiterv1.CheckRequest{
		Org: c.org, App: c.app, Rule: rule, Ip: c.ip, User: string(c.user.ID), Cost: 1,
	})
	switch {
	case err == nil:
		return resp.GetAllowed()
	case errs.Is(err, errs.ReasonAppNotFound):
		return true // to be refused as such
	}
	c.srv.metrics.unlimited.Inc()
	if c.srv.limiterDown.pass(c.srv.now(), limiterDownEvery) {
		c.srv.logger.Warn("the limiter does not answer, sends of clients pass unlimited", obs.KeyError, err)
	}
	return true
}

// limited answers a send that the limiter refused: late, and with the reason
// that devices know.
func (c *conn) limited(head msync.MetaHead) {
	t := time.NewTimer(refusalPause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.srv.ctx.Done():
	}
	c.srv.metrics.sends.WithLabelValues("limited").Inc()
	c.send(msync.AppendRefusal(nil, head.ID, msyncv1.Status_PERMISSION_DENIED, reasonTraffic, c.srv.now()))
}

// throttle lets an event pass once in a while. The zero value is ready.
type throttle struct{ last atomic.Int64 }

// pass reports whether the event may pass at now, in Unix milliseconds.
func (t *throttle) pass(now int64, every time.Duration) bool {
	last := t.last.Load()
	return now-last >= every.Milliseconds() && t.last.CompareAndSwap(last, now)
}

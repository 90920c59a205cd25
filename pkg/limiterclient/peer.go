package limiterclient

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/members"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

const (
	// senders is how many batches may be under way to one limiter. With more,
	// batches get smaller; with one, every check would wait for the batch
	// before it.
	senders = 2
	// maxBatch bounds a batch, queueLength what waits for one.
	maxBatch    = 512
	queueLength = 8192
	// probeEvery is how often an unreachable owner is tried.
	probeEvery = 100 * time.Millisecond
	// maxLate is how many requests in a row an owner may leave unanswered before
	// it is taken for unreachable. A pause of its processor makes a few late;
	// deciding without it for longer than the pause would admit too much.
	maxLate = 3
)

// peer is one limiter as a caller sees it.
type peer struct {
	member members.Member
	conn   grpc.ClientConnInterface
	close  func()
	api    limiterv1.LimiterServiceClient
	met    *metrics
	// direct says that the limiter is in this process.
	direct bool
	// timeout is how long a batch may take; what waited for it has waited
	// this long and decides alone. Once the owner counts as unreachable nobody
	// waits at all until it answers again.
	timeout time.Duration

	queue chan *pending
	// down is set while the limiter is taken for unreachable, late counts the
	// requests since its last answer that ran out of time.
	down   atomic.Bool
	late   atomic.Int32
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// pending is a check that waits for its answer.
type pending struct {
	req *limiterv1.CheckRequest
	// answer gets the result, or nil if the owner cannot be reached. It has
	// room for one, so that nobody waits for who gave up.
	answer chan *limiterv1.CheckResponse
}

func newPeer(m members.Member, conn grpc.ClientConnInterface, closeConn func(), timeout time.Duration, met *metrics) *peer {
	ctx, cancel := context.WithCancel(context.Background())
	p := &peer{
		member: m, conn: conn, close: closeConn, api: limiterv1.NewLimiterServiceClient(conn), met: met, timeout: timeout,
		queue: make(chan *pending, queueLength), cancel: cancel,
	}
	for range senders {
		p.done.Go(func() { p.sender(ctx) })
	}
	p.done.Go(func() { p.probe(ctx) })
	return p
}

// stop ends the peer; its member is gone. Checks that still wait are answered
// as if it could not be reached.
func (p *peer) stop() {
	p.lost()
	p.cancel()
	p.done.Wait()
	p.drain()
	p.close()
}

func (p *peer) drain() {
	for {
		select {
		case x := <-p.queue:
			x.answer <- nil
		default:
			return
		}
	}
}

// check asks the owner. False means that it cannot be reached.
func (p *peer) check(ctx context.Context, req *limiterv1.CheckRequest) (*limiterv1.CheckResponse, bool) {
	if p.down.Load() {
		return nil, false
	}
	x := &pending{req: req, answer: make(chan *limiterv1.CheckResponse, 1)}
	select {
	case p.queue <- x:
	default:
		return nil, false
	}
	t := time.NewTimer(p.timeout)
	defer t.Stop()
	select {
	case r := <-x.answer:
		return r, r != nil
	case <-t.C:
		return nil, false
	case <-ctx.Done():
		return nil, false
	}
}

// sender sends what waits as one batch, over and over: while a batch is under
// way the next one gathers, so that batches are as large as the load makes
// them and a lone check does not wait.
func (p *peer) sender(ctx context.Context) {
	batch := make([]*pending, 0, maxBatch)
	req := &limiterv1.BatchCheckRequest{}
	for {
		select {
		case <-ctx.Done():
			return
		case x := <-p.queue:
			batch = append(batch[:0], x)
		}
	gather:
		for len(batch) < maxBatch {
			select {
			case x := <-p.queue:
				batch = append(batch, x)
			default:
				break gather
			}
		}
		req.Checks = req.Checks[:0]
		for _, x := range batch {
			req.Checks = append(req.Checks, x.req)
		}
		p.send(ctx, req, batch)
	}
}

func (p *peer) send(ctx context.Context, req *limiterv1.BatchCheckRequest, batch []*pending) {
	p.met.batch.Observe(float64(len(batch)))
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	resp, err := p.api.BatchCheck(ctx, req)
	if err != nil || len(resp.GetResults()) != len(batch) {
		p.failed(errs.From(err))
		for _, x := range batch {
			x.answer <- nil
		}
		return
	}
	p.late.Store(0)
	for i, x := range batch {
		x.answer <- resp.GetResults()[i]
	}
}

// failed notes that a request was not answered: at once if the owner is not
// there, after a few if it is only late.
func (p *peer) failed(err *errs.Error) {
	if err != nil && err.Reason == errs.ReasonDeadline && p.late.Add(1) < maxLate {
		return
	}
	p.lost()
}

// lost marks the owner unreachable and frees those that wait for it.
func (p *peer) lost() {
	if !p.down.Swap(true) {
		p.met.down.Inc()
	}
	p.drain()
}

// probe finds out when an unreachable owner answers again.
func (p *peer) probe(ctx context.Context) {
	t := time.NewTicker(probeEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			if p.down.Load() {
				p.met.down.Dec()
			}
			return
		case <-t.C:
		}
		if !p.down.Load() {
			continue
		}
		pctx, cancel := context.WithTimeout(ctx, max(probeEvery, p.timeout))
		_, err := p.api.BatchCheck(pctx, &limiterv1.BatchCheckRequest{})
		cancel()
		if err == nil {
			p.late.Store(0)
			p.down.Store(false)
			p.met.down.Dec()
		}
	}
}

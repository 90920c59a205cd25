package session

import (
	"context"
	"sync"
	"time"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/obs"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

const (
	// flushBatch bounds the positions of one call.
	flushBatch = 1000
	// flushEarly is how many waiting positions end the pause between flushes;
	// maxPositions how many may wait while the messaging service does not answer.
	flushEarly   = 20_000
	maxPositions = 1_000_000
)

// mark is how far a device has confirmed a conversation, in an epoch of the log.
type mark struct{ epoch, seq int64 }

// further returns the mark that counts: of the later epoch, whose numbers are
// right, or behind the other.
func (m mark) further(o mark) mark {
	if o.epoch > m.epoch || o.epoch == m.epoch && o.seq > m.seq {
		return o
	}
	return m
}

// marks are those of a device by conversation.
type marks map[ident.ConversationID]mark

// positions are confirmed places by conversation.
type positions map[ident.ConversationID]int64

// merge adds those of others, of which the highest count, and returns the result.
func (p positions) merge(others positions) positions {
	for conversation, seq := range others {
		if p == nil {
			p = make(positions)
		}
		p[conversation] = max(p[conversation], seq)
	}
	return p
}

// flusher hands confirmed positions on: the latest of each device and
// conversation, in batches. What is on its way stays known until it has
// arrived, so that a device that comes back meanwhile is not shown it again.
type flusher struct {
	srv  *Server
	wake chan struct{}
	done sync.WaitGroup
	quit chan struct{}

	mu      sync.Mutex
	dirty   map[ident.Device]marks
	flying  map[ident.Device]marks
	waits   int
	started bool
	// flushed is closed at the end of the flush under way, or of the next.
	flushed chan struct{}
	// failing counts the flushes that failed one after the other, paused is until
	// when none is tried, warned when it was logged; Unix milliseconds. Only the
	// flushing goroutine uses them.
	failing        int
	paused, warned int64
	// early counts how often positions came before the archive, soon says that
	// some did for the first time; only flush uses them.
	early map[earlyKey]int
	soon  bool
}

// earlyKey is a position that the archive has not reached.
type earlyKey struct {
	ident.Device
	conversation ident.ConversationID
	mark
}

// earlyTries is how often a position is handed on before the archive; what was
// lost with the log is never archived.
const earlyTries = 300

func newFlusher(s *Server) *flusher {
	return &flusher{
		srv: s, wake: make(chan struct{}, 1), quit: make(chan struct{}),
		dirty: make(map[ident.Device]marks), flushed: make(chan struct{}),
	}
}

func (f *flusher) start() {
	f.mu.Lock()
	f.started = true
	f.mu.Unlock()
	f.done.Go(f.run)
}

// put notes a position; only the highest counts.
func (f *flusher) put(d ident.Device, conversation ident.ConversationID, at mark) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.dirty[d]
	old, known := m[conversation]
	if known {
		m[conversation] = old.further(at)
		return
	}
	if f.waits >= maxPositions {
		// The device is shown again what it confirmed; nothing is lost.
		f.srv.metrics.confirmations.WithLabelValues("dropped").Inc()
		return
	}
	if m == nil {
		m = make(marks, 1)
		f.dirty[d] = m
	}
	m[conversation] = at
	f.waits++
	if f.waits == flushEarly {
		f.hurry()
	}
}

// waiting gives the positions of a device that have not arrived yet.
func (f *flusher) waiting(d ident.Device) marks {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all marks
	for _, from := range [...]marks{f.flying[d], f.dirty[d]} {
		for conversation, at := range from {
			if all == nil {
				all = make(marks)
			}
			all[conversation] = all[conversation].further(at)
		}
	}
	return all
}

// hurry ends the pause before the next flush.
func (f *flusher) hurry() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// earlyPause is how soon positions are handed on again that came before the
// archive for the first time: it is a moment behind the pushes.
const earlyPause = 30 * time.Millisecond

func (f *flusher) run() {
	var again <-chan time.Time
	t := time.NewTicker(f.srv.cfg.FlushInterval)
	defer t.Stop()
	for {
		extra := false // of which there is at most one between two others
		select {
		case <-t.C:
		case <-again:
			extra = true
		case <-f.wake:
		case <-f.quit:
			return
		}
		again = nil
		if f.srv.now() < f.paused {
			continue
		}
		f.soon = false
		f.flush(f.srv.ctx)
		if f.soon && !extra {
			again = time.After(earlyPause)
		}
	}
}

// handOn flushes until nothing of a device waits any more. It returns false when
// ctx ends or the server stops before.
func (f *flusher) handOn(ctx context.Context, d ident.Device) bool {
	for again := false; ; again = true {
		f.mu.Lock()
		left, flushed := len(f.dirty[d])+len(f.flying[d]) > 0, f.flushed
		f.mu.Unlock()
		if !left {
			return true
		}
		// What came before the archive does so again if it is asked at once.
		if again && !f.pause(ctx) {
			return false
		}
		f.hurry()
		select {
		case <-flushed:
		case <-f.quit:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// lastFlushes is how often what is left at the end is tried again.
const lastFlushes = 10

// pause waits for a moment; false means that ctx ended first.
func (f *flusher) pause(ctx context.Context) bool {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// stop makes a last flush, until ctx ends.
func (f *flusher) stop(ctx context.Context) {
	f.mu.Lock()
	started := f.started
	f.started = false
	f.mu.Unlock()
	if !started {
		return
	}
	close(f.quit)
	f.done.Wait()
	f.flush(ctx)
	for range lastFlushes {
		f.mu.Lock()
		left := f.waits
		f.mu.Unlock()
		if left == 0 || !f.pause(ctx) {
			break
		}
		f.flush(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waits > 0 {
		f.srv.logger.Error("confirmed positions were not handed on: devices will see entries again", "positions", f.waits)
	}
}

// flush hands on what is dirty; what fails is dirty again.
func (f *flusher) flush(ctx context.Context) {
	f.mu.Lock()
	if f.waits == 0 {
		f.mu.Unlock()
		return
	}
	f.flying, f.dirty = f.dirty, make(map[ident.Device]marks)
	f.waits = 0
	flying := f.flying
	f.mu.Unlock()

	batch := make([]*messagingv1.DevicePosition, 0, flushBatch)
	var failed, early []*messagingv1.DevicePosition
	var failure error
	submit := func() {
		if len(batch) == 0 {
			return
		}
		var before []*messagingv1.DevicePosition
		if failure == nil { // else the rest would only wait longer
			before, failure = f.submit(ctx, batch)
		}
		if failure != nil {
			failed = append(failed, batch...)
		}
		early = append(early, before...)
		batch = make([]*messagingv1.DevicePosition, 0, flushBatch)
	}
	for d, confirmed := range flying { // only this goroutine changes flying, and not before it is done
		org, app, _ := d.App.Split()
		for conversation, at := range confirmed {
			batch = append(batch, &messagingv1.DevicePosition{
				Org: org, App: app, User: string(d.ID), Resource: d.Resource, Conversation: string(conversation), Seq: at.seq, Epoch: at.epoch,
			})
			if len(batch) == flushBatch {
				submit()
			}
		}
	}
	submit()
	for _, p := range failed {
		f.put(deviceOf(p), ident.ConversationID(p.GetConversation()), mark{p.GetEpoch(), p.GetSeq()})
	}
	f.putEarly(early)
	f.went(failure, len(failed))
	f.mu.Lock()
	f.flying = nil
	close(f.flushed)
	f.flushed = make(chan struct{})
	f.srv.metrics.unconfirmed.Set(float64(f.waits))
	f.mu.Unlock()
}

const (
	// flushPause is the longest time between two flushes that fail.
	flushPause = time.Second
	// flushWarnEvery is how often it is logged that they do.
	flushWarnEvery = 10 * time.Second
)

// went has flushes pause after one that failed, the longer the more have, and
// logs that they fail and that they do not any more.
func (f *flusher) went(failure error, positions int) {
	if failure == nil {
		if f.warned != 0 {
			f.srv.logger.Info("confirmed positions are taken again")
		}
		f.failing, f.paused, f.warned = 0, 0, 0
		return
	}
	now := f.srv.now()
	f.paused = now + min(f.srv.cfg.FlushInterval<<min(f.failing, 8), flushPause).Milliseconds()
	f.failing++
	if f.warned == 0 || now-f.warned >= flushWarnEvery.Milliseconds() {
		f.warned = now
		f.srv.logger.Warn("confirmed positions are not taken and wait: devices that log in meanwhile elsewhere are shown some entries again", "positions", positions, obs.KeyError, failure)
	}
}

// putEarly keeps the positions that the archive has not reached, each for so
// many flushes.
func (f *flusher) putEarly(early []*messagingv1.DevicePosition) {
	tries := make(map[earlyKey]int, len(early))
	for _, p := range early {
		k := earlyKey{deviceOf(p), ident.ConversationID(p.GetConversation()), mark{p.GetEpoch(), p.GetSeq()}}
		if tries[k] = f.early[k] + 1; tries[k] > earlyTries {
			delete(tries, k)
			f.srv.metrics.confirmations.WithLabelValues("dropped").Inc()
			continue
		}
		f.soon = f.soon || tries[k] == 1
		f.put(k.Device, k.conversation, k.mark)
	}
	f.early = tries
}

func deviceOf(p *messagingv1.DevicePosition) ident.Device {
	user := ident.User{App: ident.NewAppKey(p.GetOrg(), p.GetApp()), ID: ident.UserID(p.GetUser())}
	return user.Device(p.GetResource())
}

// submit hands a batch on and returns the positions that were too early.
func (f *flusher) submit(ctx context.Context, batch []*messagingv1.DevicePosition) (early []*messagingv1.DevicePosition, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := f.srv.syncs.ConfirmDevices(ctx, &messagingv1.ConfirmDevicesRequest{Positions: batch})
	if err != nil {
		f.srv.metrics.confirmations.WithLabelValues("failed").Add(float64(len(batch)))
		return nil, err
	}
	f.srv.metrics.confirmations.WithLabelValues("ok").Add(float64(len(batch) - len(resp.GetEarly())))
	return resp.GetEarly(), nil
}

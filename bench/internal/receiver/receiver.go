// Package receiver is a connected client that takes messages: it logs in,
// pulls what is waiting, and answers every notice the way the official SDKs do,
// at the least cost for itself.
package receiver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/chappe-im/chappe/bench/internal/ws"
	"github.com/chappe-im/chappe/pkg/msyncclient"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// Config of a receiver.
type Config struct {
	// URL of the websocket endpoint.
	URL string
	// AppKey is "org#app".
	AppKey string
	User   string
	Token  string
	// Resource names the device; empty means "bench_" and the user.
	Resource string
	// OnText is called with sender and text of each message, in the order of
	// arrival, from one goroutine. The slices are valid during the call only.
	OnText func(from, text []byte)
	// OnNotice is called with the payload of each notification, such as a change
	// of somebody's presence, like OnText.
	OnNotice func(payload []byte)
	// OnFrame is called for each frame, from the same goroutine.
	OnFrame func()
	// Capture keeps copies of the frames since the last call of TakeFrames.
	Capture bool
}

func (c Config) resource() string {
	if c.Resource != "" {
		return c.Resource
	}
	return "bench_" + c.User
}

// Receiver is a logged-in connection.
type Receiver struct {
	cfg  Config
	conn *ws.Conn

	// Owned by the reading goroutine.
	out     []byte
	page    page
	current []byte   // serialized JID of the queue being pulled; nil if idle
	waiting [][]byte // further queues
	primed  bool     // the first list of queues has come

	synced chan struct{}
	done   chan struct{}
	err    error

	mute     atomic.Bool
	frames   atomic.Int64
	bytes    atomic.Int64
	captured chan []byte
}

// captureBound bounds the frames kept for TakeFrames.
const captureBound = 64

// Login connects and logs in, then starts to read. Close must be called.
func Login(ctx context.Context, cfg Config) (*Receiver, error) {
	conn, err := ws.Dial(ctx, cfg.URL)
	if err != nil {
		return nil, err
	}
	r := &Receiver{cfg: cfg, conn: conn, synced: make(chan struct{}), done: make(chan struct{})}
	if cfg.Capture {
		r.captured = make(chan []byte, captureBound)
	}
	if err := r.login(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("user %s: %w", cfg.User, err)
	}
	go r.run()
	return r, nil
}

// Attach connects without logging in, to a server that writes frames without
// being asked for them.
func Attach(ctx context.Context, cfg Config) (*Receiver, error) {
	conn, err := ws.Dial(ctx, cfg.URL)
	if err != nil {
		return nil, err
	}
	r := &Receiver{cfg: cfg, conn: conn, primed: true, synced: make(chan struct{}), done: make(chan struct{})}
	go r.run()
	return r, nil
}

func (r *Receiver) login(ctx context.Context) error {
	resource := r.cfg.resource()
	frame, err := msyncclient.Login{
		AppKey: r.cfg.AppKey, User: r.cfg.User, Token: r.cfg.Token, Resource: resource,
		SessionID: strconv.FormatInt(time.Now().UnixMilli(), 10) + ":",
	}.Frame()
	if err != nil {
		return err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(30 * time.Second)
	}
	if err := r.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	if err := r.conn.Write(frame); err != nil {
		return err
	}
	answer, err := r.conn.Read()
	if err != nil {
		return err
	}
	if err := checkProvision(answer); err != nil {
		return err
	}
	if err := r.conn.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	return r.Heartbeat()
}

// SetMute makes the receiver read without ever answering, or answer again.
func (r *Receiver) SetMute(mute bool) { r.mute.Store(mute) }

// Synced is closed when all that was waiting at login has been taken.
func (r *Receiver) Synced() <-chan struct{} { return r.synced }

// Done is closed when the connection has ended; Err tells why.
func (r *Receiver) Done() <-chan struct{} { return r.done }

// Err tells why the connection has ended; only after Done.
func (r *Receiver) Err() error { return r.err }

// Received counts frames and their bytes since login.
func (r *Receiver) Received() (frames, bytes int64) { return r.frames.Load(), r.bytes.Load() }

// TakeFrames gives the frames captured since the last call.
func (r *Receiver) TakeFrames() [][]byte {
	var frames [][]byte
	for {
		select {
		case f := <-r.captured:
			frames = append(frames, f)
		default:
			return frames
		}
	}
}

// Heartbeat asks which queues hold something, which keeps an idle connection
// alive.
func (r *Receiver) Heartbeat() error {
	frame, err := msyncclient.Frame(msyncv1.MSync_UNREAD, nil, nil)
	if err != nil {
		return err
	}
	return r.conn.Write(frame)
}

// Close ends the connection and waits for the reader.
func (r *Receiver) Close() {
	_ = r.conn.Close()
	<-r.done
}

func (r *Receiver) run() {
	defer close(r.done)
	for {
		frame, err := r.conn.Read()
		if err != nil {
			r.err = err
			return
		}
		r.frames.Add(1)
		r.bytes.Add(int64(len(frame)))
		if r.captured != nil {
			select {
			case r.captured <- bytes.Clone(frame):
			default:
			}
		}
		if r.cfg.OnFrame != nil {
			r.cfg.OnFrame()
		}
		if r.mute.Load() {
			continue
		}
		if err := r.handle(frame); err != nil {
			r.err = err
			_ = r.conn.Close()
			return
		}
	}
}

func (r *Receiver) handle(frame []byte) error {
	cmd, payload, err := envelope(frame)
	if err != nil {
		return err
	}
	switch cmd {
	case msyncv1.MSync_NOTICE:
		return r.enqueue(first(payload, fNoticeQueue))
	case msyncv1.MSync_UNREAD:
		err := fields(payload, func(num protowire.Number, _ uint64, b []byte) error {
			if num != fUnreadQueues {
				return nil
			}
			return r.enqueue(first(b, fQueueJID))
		})
		if err != nil {
			return err
		}
		r.primed = true
		r.signalIfSynced()
		return nil
	case msyncv1.MSync_SYNC:
		return r.sync(payload)
	default:
		return nil
	}
}

// enqueue takes note that a queue holds something. Like the SDKs it works on
// one queue at a time.
func (r *Receiver) enqueue(queue []byte) error {
	if queue == nil {
		return errors.New("a queue without a name")
	}
	if bytes.Equal(r.current, queue) {
		return nil
	}
	for _, w := range r.waiting {
		if bytes.Equal(w, queue) {
			return nil
		}
	}
	if r.current != nil {
		r.waiting = append(r.waiting, bytes.Clone(queue))
		return nil
	}
	r.current = append(r.current[:0], queue...)
	return r.pull(r.current, 0)
}

func (r *Receiver) pull(queue []byte, key uint64) error {
	r.out = appendPull(r.out[:0], queue, key)
	return r.conn.Write(r.out)
}

func (r *Receiver) sync(payload []byte) error {
	p := &r.page
	if err := p.parse(payload); err != nil {
		return err
	}
	if p.failed {
		return errors.New("the server refused a pull")
	}
	if p.queue == nil {
		if p.isAck {
			return nil
		}
		return errors.New("a page without a queue")
	}
	for _, m := range p.metas {
		if err := r.take(m); err != nil {
			return err
		}
	}
	if !p.isLast {
		// Confirmed whether it was asked for or not, as the SDKs do.
		return r.pull(p.queue, p.nextKey)
	}
	if len(p.metas) > 0 || !sameName(p.queue, r.current) {
		return nil // pushed past the queues, nothing to confirm
	}
	r.current = nil
	if len(r.waiting) > 0 {
		r.current = r.waiting[0]
		r.waiting = r.waiting[1:]
		return r.pull(r.current, 0)
	}
	r.signalIfSynced()
	return nil
}

func (r *Receiver) signalIfSynced() {
	if !r.primed || r.current != nil {
		return
	}
	select {
	case <-r.synced:
	default:
		close(r.synced)
	}
}

// sameName compares queues the way the SDKs do: by the name alone.
func sameName(a, b []byte) bool {
	return b != nil && bytes.Equal(first(a, fJIDName), first(b, fJIDName))
}

func (r *Receiver) take(meta []byte) error {
	ns, body, err := parseMeta(meta)
	if err != nil {
		return err
	}
	switch ns {
	case nsStatistic:
		return errors.New("the server ended the session")
	case nsNotify:
		if r.cfg.OnNotice != nil {
			r.cfg.OnNotice(body)
		}
		return nil
	case nsChat:
	default:
		return nil
	}
	if r.cfg.OnText == nil {
		return nil
	}
	text := first(first(body, fBodyContents), fContentText)
	if text == nil {
		return nil
	}
	r.cfg.OnText(first(first(body, fBodyFrom), fJIDName), text)
	return nil
}

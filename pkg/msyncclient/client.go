// Package msyncclient is a small client of the MSYNC protocol over WebSocket,
// for tests, load tools and internal programs. It behaves like the official
// SDKs do: it asks what is unread after login, pulls one queue after the
// other, confirms every page it was shown and shows a message once. It does not
// reconnect by itself.
package msyncclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/lxzan/gws"
	"google.golang.org/protobuf/proto"

	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// Domains of queues.
const (
	DomainUser  = "easemob.com"
	DomainGroup = "conference.easemob.com"
)

// Options of a connection; the zero value is a device of its own that pulls
// and confirms by itself.
type Options struct {
	// Resource names the device; empty makes one up. The same resource is the
	// same device.
	Resource string
	// SessionID tells two logins of one device apart; empty makes one up.
	SessionID string
	// Manual leaves pulling and confirming to the caller, who reads Frames.
	Manual bool
	// DeliveryAcks answers every one-to-one message with a delivery receipt.
	DeliveryAcks bool
	// KeepDuplicates shows messages again that were shown already.
	KeepDuplicates bool
	// OnReceived is called for every message instead of filling the channel of
	// Received. It runs on the reading goroutine and must not block.
	OnReceived func(Received)
	// Buffer is the capacity of the channels; 0 means 1024. A full channel stops
	// reading.
	Buffer int
	// Heartbeat is the pause between heartbeats; 0 sends none.
	Heartbeat time.Duration
	// LocalAddr binds the connection's near end; tools with more than about
	// 28,000 connections to one address spread over several of 127.0.0.0/8.
	LocalAddr net.Addr
	// ReadBuffer is the size of the read buffer in bytes; 0 means 1024.
	ReadBuffer int
}

// Received is a message, receipt or event shown to the device.
type Received struct {
	Meta *msyncv1.Meta
	// Queue is the name of the queue it came through.
	Queue string
	// Direct says that it was pushed past the queues and needs no confirmation.
	Direct bool
}

// Body decodes the payload of a message or receipt.
func (r Received) Body() (*msyncv1.MessageBody, error) {
	b := new(msyncv1.MessageBody)
	if err := proto.Unmarshal(r.Meta.GetPayload(), b); err != nil {
		return nil, fmt.Errorf("message body: %w", err)
	}
	return b, nil
}

// Text gives the text of the first content, or "".
func (r Received) Text() string {
	b, err := r.Body()
	if err != nil || len(b.GetContents()) == 0 {
		return ""
	}
	return b.GetContents()[0].GetText()
}

// KickedError ends a connection whose server said why.
type KickedError struct {
	Operation msyncv1.StatisticsBody_Operation
}

// Error names the operation.
func (e *KickedError) Error() string { return "kicked: " + e.Operation.String() }

// ErrClosed ends a connection that Close closed.
var ErrClosed = errors.New("connection closed")

// Client is one logged-in connection. It is safe for concurrent use.
type Client struct {
	opts    Options
	appKey  string
	user    string
	socket  *gws.Conn
	nextID  atomic.Uint64
	frames  chan *msyncv1.MSync
	in      chan Received
	login   chan *msyncv1.Provision
	synced  chan struct{}
	done    chan struct{}
	readers sync.WaitGroup

	provision *msyncv1.Provision

	// asking keeps questions for what is unread in the order of their notes.
	asking sync.Mutex

	mu      sync.Mutex
	err     error
	waiting map[uint64]chan *msyncv1.CommSyncDL
	unread  []chan *msyncv1.CommUnreadDL
	kicked  *KickedError

	work workList // reading goroutine only
}

// Dial connects to url (ws://host:port/ws) and logs in. appKey is "org#app".
// A refused login is a *LoginError.
func Dial(ctx context.Context, url, appKey, user, token string, opts Options) (*Client, error) {
	if opts.Buffer <= 0 {
		opts.Buffer = 1024
	}
	if opts.ReadBuffer <= 0 {
		opts.ReadBuffer = 1024
	}
	now := time.Now()
	if opts.Resource == "" {
		opts.Resource = "msyncclient_" + uuid.NewString()
	}
	if opts.SessionID == "" {
		opts.SessionID = strconv.FormatInt(now.UnixNano(), 10) + ":"
	}
	c := &Client{
		opts:    opts,
		appKey:  appKey,
		user:    user,
		frames:  make(chan *msyncv1.MSync, bufferIf(opts.Manual, opts.Buffer)),
		in:      make(chan Received, bufferIf(opts.OnReceived == nil && !opts.Manual, opts.Buffer)),
		login:   make(chan *msyncv1.Provision, 1),
		synced:  make(chan struct{}),
		done:    make(chan struct{}),
		waiting: make(map[uint64]chan *msyncv1.CommSyncDL),
	}
	c.nextID.Store(uint64(now.UnixMilli()-clientEpoch) * 4096) // after 2010
	dialer := &net.Dialer{LocalAddr: opts.LocalAddr, Timeout: 10 * time.Second}
	socket, _, err := gws.NewClient((*events)(c), &gws.ClientOption{
		Addr:            url,
		ReadBufferSize:  opts.ReadBuffer,
		ParallelGolimit: 1,
		NewDialer:       func() (gws.Dialer, error) { return contextDialer{ctx, dialer}, nil },
	})
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", url, err)
	}
	c.socket = socket
	c.readers.Add(1)
	go func() {
		defer c.readers.Done()
		socket.ReadLoop()
	}()
	if err := c.logIn(ctx, token); err != nil {
		c.Close()
		return nil, err
	}
	if opts.Heartbeat > 0 {
		c.readers.Add(1)
		go c.heartbeat()
	}
	return c, nil
}

// clientEpoch is 2010-02-01, from which SDKs count their message IDs, in Unix
// milliseconds.
const clientEpoch = 1264982400000

func bufferIf(used bool, n int) int {
	if used {
		return n
	}
	return 0
}

type contextDialer struct {
	ctx context.Context //nolint:containedctx // handed to a library that knows no contexts
	d   *net.Dialer
}

func (d contextDialer) Dial(network, addr string) (net.Conn, error) {
	return d.d.DialContext(d.ctx, network, addr)
}

func (c *Client) logIn(ctx context.Context, token string) error {
	frame, err := Login{AppKey: c.appKey, User: c.user, Token: token, Resource: c.opts.Resource, SessionID: c.opts.SessionID}.Frame()
	if err != nil {
		return err
	}
	if err := c.WriteRaw(frame); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	var answer *msyncv1.Provision
	select {
	case answer = <-c.login:
	case <-c.done:
		select {
		case answer = <-c.login: // a refusal, after which the server closes
		default:
			return fmt.Errorf("login: %w", c.Err())
		}
	case <-ctx.Done():
		return fmt.Errorf("login: %w", ctx.Err())
	}
	if err := CheckLogin(answer); err != nil {
		return err
	}
	c.provision = answer
	if c.opts.Manual {
		return nil
	}
	return c.askUnread(nil)
}

// Provision is the server's answer to the login.
func (c *Client) Provision() *msyncv1.Provision { return c.provision }

// Resource names the device as the server knows it.
func (c *Client) Resource() string { return c.provision.GetResource() }

// User is the user that is logged in.
func (c *Client) User() string { return c.user }

// Received gives what the device is shown; it is not closed.
func (c *Client) Received() <-chan Received { return c.in }

// Frames gives the server's frames in Manual mode, except answers to sends.
func (c *Client) Frames() <-chan *msyncv1.MSync { return c.frames }

// Synced is closed once everything that was unread at login has been shown
// and confirmed.
func (c *Client) Synced() <-chan struct{} { return c.synced }

// Done is closed when the connection has ended; Err says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is nil while the connection lives, then *KickedError, ErrClosed or what
// broke it (*gws.CloseError for a close frame).
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close closes the connection and waits for its goroutines.
func (c *Client) Close() {
	c.end(ErrClosed)
	_ = c.socket.WriteClose(1000, nil)
	c.readers.Wait()
}

// Abort drops the connection without a word, as a lost network does.
func (c *Client) Abort() {
	c.end(ErrClosed)
	_ = c.socket.NetConn().Close()
	c.readers.Wait()
}

// end notes why the connection ends; the first reason stays.
func (c *Client) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	if c.kicked != nil {
		err = c.kicked
	}
	c.err = err
	close(c.done)
}

func (c *Client) heartbeat() {
	defer c.readers.Done()
	t := time.NewTicker(c.opts.Heartbeat)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if c.askUnread(nil) != nil {
				return
			}
		case <-c.done:
			return
		}
	}
}

// Package natsx is the way to NATS: the only package that imports its client.
package natsx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Msg is a message of a subscription.
type Msg = nats.Msg

// Subscription is an interest that can be withdrawn.
type Subscription = nats.Subscription

// InProcessServer is an embedded server to connect to without a socket.
type InProcessServer = nats.InProcessConnProvider

// Config says which servers to connect to.
type Config struct {
	// URL of the servers, comma-separated; unused with InProcess.
	URL       string
	InProcess InProcessServer
	// Token is what the embedded server asks for, if it does; those of other
	// servers are part of their URL.
	Token string
	// Name shows up in the servers' connection list.
	Name string
	// Installation is the ID that streams get which are made or opened; empty
	// for none.
	Installation string
	Logger       *slog.Logger
}

// Conn is a connection with its JetStream context. It is safe for concurrent
// use, and what one goroutine publishes arrives in order.
type Conn struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	logger *slog.Logger

	installation string
	routed       bool

	hooks    sync.Mutex
	onLoss   []func()
	onChange []func()
}

// flushTimeout bounds a round trip to the server.
const flushTimeout = 5 * time.Second

// maxPending bounds publishes that wait for their ack.
const maxPending = 16384

// Connect connects and returns once a server answers.
func Connect(ctx context.Context, cfg Config) (*Conn, error) {
	c := &Conn{logger: cfg.Logger, installation: cfg.Installation, routed: cfg.InProcess == nil}
	opts := []nats.Option{
		nats.Name(cfg.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(200 * time.Millisecond),
		nats.Timeout(time.Second),
		nats.ReconnectBufSize(-1), // fail fast while disconnected
		nats.PingInterval(2 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ErrorHandler(c.onError),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				cfg.Logger.Warn("nats connection lost", "error", err)
			}
			c.call(&c.onChange)
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			cfg.Logger.Info("nats connection is back")
			if err := checkVersion(nc.ConnectedServerVersion()); err != nil {
				cfg.Logger.Error("nats server is not fit", "server", nc.ConnectedUrlRedacted(), "error", err)
			}
			c.call(&c.onChange)
			c.lost()
		}),
	}
	url := cfg.URL
	if cfg.InProcess != nil {
		opts = append(opts, nats.InProcessServer(cfg.InProcess))
		url = ""
	}
	if cfg.Token != "" {
		opts = append(opts, nats.Token(cfg.Token))
	}
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, unavailable("nats", err)
	}
	if err := checkVersion(nc.ConnectedServerVersion()); err != nil {
		url := nc.ConnectedUrlRedacted()
		nc.Close()
		return nil, fmt.Errorf("nats server %s: %w", url, err)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(maxPending))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	if err := ctx.Err(); err != nil {
		nc.Close()
		return nil, err
	}
	c.nc, c.js = nc, js
	return c, nil
}

// The oldest version of NATS servers that has what is used here: messages and
// markers of deletions that expire one by one.
const oldestMajor, oldestMinor = 2, 11

// checkVersion refuses servers that are too old.
func checkVersion(version string) error {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("its version %q cannot be read", version)
	}
	if major < oldestMajor || (major == oldestMajor && minor < oldestMinor) {
		return fmt.Errorf("it is version %s, at least %d.%d is needed: upgrade it first", version, oldestMajor, oldestMinor)
	}
	return nil
}

// OnLoss adds a function that is called when messages of subscriptions may have
// been lost: after a reconnect or when a subscriber was too slow. It must not
// block, and it is called as long as the connection lives.
func (c *Conn) OnLoss(f func()) { c.hook(&c.onLoss, f) }

// OnChange adds a function that is called when the connection is lost and when
// it is back, perhaps with a server that holds something else. It must not
// block, and it is called as long as the connection lives.
func (c *Conn) OnChange(f func()) { c.hook(&c.onChange, f) }

func (c *Conn) hook(list *[]func(), f func()) {
	c.hooks.Lock()
	defer c.hooks.Unlock()
	*list = append(*list, f)
}

func (c *Conn) call(list *[]func()) {
	c.hooks.Lock()
	all := *list
	c.hooks.Unlock()
	for _, f := range all {
		f()
	}
}

func (c *Conn) lost() { c.call(&c.onLoss) }

func (c *Conn) onError(_ *nats.Conn, sub *nats.Subscription, err error) {
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	c.logger.Warn("nats", "subject", subject, "error", err)
	if errors.Is(err, nats.ErrSlowConsumer) {
		c.lost()
	}
}

// Connected reports whether a server is reachable right now.
func (c *Conn) Connected() bool { return c.nc.IsConnected() }

// Installation is the ID of the installation that the connection is of; empty
// if it was not told.
func (c *Conn) Installation() string { return c.installation }

// Times is how often the connection was made anew. What was learned of the
// server's contents at another number may not hold any more.
func (c *Conn) Times() uint64 { return c.nc.Stats().Reconnects }

// Publish sends to whoever listens right now.
func (c *Conn) Publish(subject string, data []byte) error {
	if err := c.nc.Publish(subject, data); err != nil {
		return unavailable("nats", err)
	}
	return nil
}

// SubscribeChan puts the messages of a subject into ch. A full channel loses
// messages, and OnLoss's functions are called.
func (c *Conn) SubscribeChan(subject string, ch chan *Msg) (*Subscription, error) {
	s, err := c.nc.ChanSubscribe(subject, ch)
	if err != nil {
		return nil, unavailable("nats", err)
	}
	return s, nil
}

// Subscribe calls f with the messages of a subject, one after the other.
func (c *Conn) Subscribe(subject string, f func(*Msg)) (*Subscription, error) {
	s, err := c.nc.Subscribe(subject, f)
	if err != nil {
		return nil, unavailable("nats", err)
	}
	return s, nil
}

// Request sends to whoever listens right now and returns the first answer. It
// fails at once when nobody listens.
func (c *Conn) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	m, err := c.nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		return nil, unavailable("nats", err)
	}
	return m.Data, nil
}

// Routed reports whether what others publish may come by way of other servers
// than the one that this connection leads to. They hear of an interest a moment
// after Flush has returned.
func (c *Conn) Routed() bool { return c.routed }

// Flush returns when the server has taken all that was published and all
// interests that were declared before.
func (c *Conn) Flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if err := c.nc.FlushWithContext(ctx); err != nil {
		return unavailable("nats", err)
	}
	return nil
}

// Drain sends what is pending and closes the connection. Without a server to
// send it to it closes the connection at once.
func (c *Conn) Drain(ctx context.Context) error {
	if c.nc.IsConnected() {
		select {
		case <-c.js.PublishAsyncComplete():
		case <-ctx.Done():
		}
		_ = c.nc.FlushWithContext(ctx)
	}
	c.nc.Close()
	return nil
}

// JetStream gives the JetStream context for consumers and key-value buckets.
func (c *Conn) JetStream() jetstream.JetStream { return c.js }

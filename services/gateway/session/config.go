package session

import (
	"context"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/services/gateway/auth"
)

// Config are the settings of a Server.
type Config struct {
	// GatewayID is this gateway's name in the presence service.
	GatewayID string
	// ClientIP returns a connection's address; without it it is the socket's.
	ClientIP func(*http.Request) string
	// PageMemory bounds, in bytes, what waits for the devices of all connections;
	// beyond it entries are read from the archive when they are asked for. 0 means
	// 256 MiB.
	PageMemory int64
	// Tuning is for tests, which need small bounds and short times.
	Tuning
}

// Tuning are bounds and times that nobody who runs a gateway has a reason to
// change; zero values stand for those that DefaultTuning returns.
type Tuning struct {
	// LoginTimeout is how long a connection may stay without login.
	LoginTimeout time.Duration
	// IdleTimeout is how long a connection may stay silent. It is pinged after
	// half of it.
	IdleTimeout time.Duration
	// ConfirmTimeout is how long a page may stay unconfirmed before the device is
	// notified again that there is something.
	ConfirmTimeout time.Duration
	// FlushInterval is how often confirmed positions are handed on.
	FlushInterval time.Duration
	// CheckSpread spreads the checks of all connections after a loss.
	CheckSpread time.Duration
	// RouteDelay is how long other NATS servers of a cluster may take to hear of
	// a subscription; afterwards the archive is asked once more.
	RouteDelay time.Duration
	// UnreadWait is how long a device that asks what is unread waits for the
	// archive before it is told that nothing is, and of it later.
	UnreadWait time.Duration
	// SweepInterval is how often timeouts are looked for.
	SweepInterval time.Duration
	// MaxQueues bounds the conversations that a connection holds; CleanQueues
	// those of them in which nothing waits.
	MaxQueues, CleanQueues int
	// TailEntries bounds the unconfirmed entries of one conversation that a
	// connection holds; more are read from the archive. PageEntries bounds a page.
	TailEntries, PageEntries int
}

// DefaultTuning returns the bounds and times of a gateway that serves.
func DefaultTuning() Tuning {
	return Tuning{
		// Phones on bad networks need seconds for a login.
		LoginTimeout: 10 * time.Second,
		// Clients send a heartbeat every 30 s; this is three of them and some.
		IdleTimeout: 100 * time.Second,
		// A device confirms as soon as it has read; one that has not after this was
		// suspended or lost the page.
		ConfirmTimeout: 20 * time.Second,
		// After a crash what was confirmed within this time is shown again.
		FlushInterval: 100 * time.Millisecond,
		// 10,000 connections make 2,000 questions to the archive a second.
		CheckSpread: 5 * time.Second,
		// Routes between NATS servers carry a subscription within milliseconds.
		RouteDelay: time.Second,
		// Clients give up on a heartbeat after some seconds.
		UnreadWait:    2 * time.Second,
		SweepInterval: time.Second,
		// What a busy person talks in at once, and the conversations that it pays
		// to remember: a queue without entries takes about 300 bytes.
		MaxQueues: 1024, CleanQueues: 256,
		TailEntries: 64, PageEntries: 50,
	}
}

// Bounds without a reason to be others, not even in tests.
const (
	// maxFrameBytes bounds what a device may send in one message: the largest
	// message (40 KiB of texts) and what is around it.
	maxFrameBytes = 64 << 10
	// readBufferBytes is the read buffer of a connection, kept for its whole life;
	// most frames of devices are smaller.
	readBufferBytes = 512
	// maxOutboundBytes bounds what waits to be written to one connection, eight
	// pages. A device too slow for it is disconnected and catches up when it is
	// back.
	maxOutboundBytes = 1 << 20
	// writeTimeout bounds a blocked write. It is exact to half of itself.
	writeTimeout = 20 * time.Second
	// callTimeout is the deadline of calls to other services.
	callTimeout = 10 * time.Second
	// checkInterval is how often a connection's view is compared with the archive
	// even if nothing seems lost.
	checkInterval = 10 * time.Minute
	// tailBytes bounds the unconfirmed entries of one conversation that a
	// connection holds, pageBytes a page.
	tailBytes = 256 << 10
	pageBytes = 128 << 10
	// shardBuffer is how many pushes each goroutine that takes them in may have
	// waiting: at 100,000 a second, what a pause of the process of 80 ms brings.
	shardBuffer = 8192
	// defaultPageMemory is PageMemory where it is not set.
	defaultPageMemory = 256 << 20
	// concurrentLogins bounds logins in progress, each of which may check a
	// signature and write a row; concurrentOpens questions to the archive, which
	// answers one within milliseconds; concurrentClosings good-byes to presence.
	concurrentLogins   = 32
	concurrentOpens    = 256
	concurrentClosings = 64
)

// shardCount returns the number of goroutines that take in pushes.
func shardCount() int { return 2 * runtime.GOMAXPROCS(0) }

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (c Config) withDefaults() Config {
	d := DefaultTuning()
	orDefault(&c.GatewayID, "gateway")
	orDefault(&c.PageMemory, defaultPageMemory)
	orDefault(&c.LoginTimeout, d.LoginTimeout)
	orDefault(&c.IdleTimeout, d.IdleTimeout)
	orDefault(&c.ConfirmTimeout, d.ConfirmTimeout)
	orDefault(&c.FlushInterval, d.FlushInterval)
	orDefault(&c.CheckSpread, d.CheckSpread)
	orDefault(&c.RouteDelay, d.RouteDelay)
	orDefault(&c.UnreadWait, d.UnreadWait)
	orDefault(&c.SweepInterval, d.SweepInterval)
	orDefault(&c.MaxQueues, d.MaxQueues)
	orDefault(&c.CleanQueues, d.CleanQueues)
	orDefault(&c.TailEntries, d.TailEntries)
	orDefault(&c.PageEntries, d.PageEntries)
	if c.ClientIP == nil {
		c.ClientIP = socketIP
	}
	return c
}

func (c *Config) queueLimits() queueLimits {
	return queueLimits{tailEntries: c.TailEntries, tailBytes: tailBytes, pageEntries: c.PageEntries, pageBytes: pageBytes}
}

// Authenticator checks tokens; *auth.Verifier does. Errors are *errs.Error.
type Authenticator interface {
	Verify(ctx context.Context, org, app, token string) (auth.Principal, error)
	// KeyHolds reports whether the key of that ID still signs for the app: if
	// not, all tokens that it signed are void.
	KeyHolds(app ident.AppKey, keyID uint32) bool
}

// Bus brings the pushes and leads to other gateways; *natsx.Conn does.
type Bus interface {
	SubscribeChan(subject string, ch chan *natsx.Msg) (*natsx.Subscription, error)
	Subscribe(subject string, f func(*natsx.Msg)) (*natsx.Subscription, error)
	Request(ctx context.Context, subject string, data []byte) ([]byte, error)
	Routed() bool
	Flush(ctx context.Context) error
	OnLoss(f func())
}

// Deps is what a Server works with.
type Deps struct {
	Auth Authenticator
	// Presence, Messaging and Limiter lead to the services of these names.
	Presence, Messaging, Limiter grpc.ClientConnInterface
	NATS                         Bus
	Logger                       *slog.Logger
	Metrics                      prometheus.Registerer
	// Now is time.Now unless set.
	Now func() time.Time
}

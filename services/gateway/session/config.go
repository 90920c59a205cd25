package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/services/gateway/auth"
)

// PushMode is how a device learns of what is new.
type PushMode string

// The push modes.
const (
	// PushPage sends the entries at once; the device confirms them.
	PushPage PushMode = "page"
	// PushNotice only says that there is something; the device pulls.
	PushNotice PushMode = "notice"
)

// Config are the settings of a Server; zero values stand for the defaults of
// DefaultConfig.
type Config struct {
	// GatewayID is this gateway's name in the presence service.
	GatewayID string
	// PushMode is page unless set.
	PushMode PushMode
	// MaxFrameBytes bounds what a device may send in one message.
	MaxFrameBytes int
	// ReadBufferBytes is the read buffer of a connection.
	ReadBufferBytes int
	// MaxOutboundBytes bounds what waits to be written to one connection. A
	// device too slow for it is disconnected and catches up when it is back.
	MaxOutboundBytes int
	// LoginTimeout is how long a connection may stay without login.
	LoginTimeout time.Duration
	// IdleTimeout is how long a connection may stay silent. It is pinged after
	// half of it.
	IdleTimeout time.Duration
	// WriteTimeout bounds a blocked write. It is exact to half of itself.
	WriteTimeout time.Duration
	// CallTimeout is the deadline of calls to other services.
	CallTimeout time.Duration
	// ConfirmTimeout is how long a page may stay unconfirmed before the device is
	// told again that there is something.
	ConfirmTimeout time.Duration
	// FlushInterval is how often confirmed positions are handed on.
	FlushInterval time.Duration
	// CheckInterval is how often a connection's view is compared with the
	// archive even if nothing seems lost.
	CheckInterval time.Duration
	// CheckSpread spreads the checks of all connections after a loss.
	CheckSpread time.Duration
	// RouteDelay is how long other NATS servers of a cluster may take to hear of
	// an interest; afterwards the archive is asked once more.
	RouteDelay time.Duration
	// UnreadWait is how long a device that asks what is unread waits for the
	// archive before it is told that nothing is, and of it later.
	UnreadWait time.Duration
	// PageMemory bounds, in bytes, what waits for the devices of all connections;
	// beyond it entries are read from the archive when they are asked for.
	PageMemory int64
	// SweepInterval is how often timeouts are looked for.
	SweepInterval time.Duration
	// MaxQueues bounds the conversations that a connection holds; CleanQueues
	// those of them in which nothing waits.
	MaxQueues, CleanQueues int
	// MaxTailEntries and MaxTailBytes bound the unconfirmed entries of one
	// conversation that a connection holds; more are read from the archive.
	MaxTailEntries, MaxTailBytes int
	// PageEntries and PageBytes bound a page.
	PageEntries, PageBytes int
	// Shards is the number of goroutines that take in pushes, ShardBuffer what
	// each may have waiting.
	Shards, ShardBuffer int
	// ConcurrentLogins bounds logins in progress, ConcurrentOpens questions to the
	// archive, ConcurrentClosings good-byes to the presence service.
	ConcurrentLogins, ConcurrentOpens, ConcurrentClosings int
	// ClientIP tells a connection's address; without it it is the socket's.
	ClientIP func(*http.Request) string
}

// DefaultConfig gives the defaults.
func DefaultConfig() Config {
	return Config{
		GatewayID:          "gateway",
		PushMode:           PushPage,
		MaxFrameBytes:      64 << 10,
		ReadBufferBytes:    512,
		MaxOutboundBytes:   1 << 20,
		LoginTimeout:       10 * time.Second,
		IdleTimeout:        100 * time.Second,
		WriteTimeout:       20 * time.Second,
		CallTimeout:        10 * time.Second,
		ConfirmTimeout:     20 * time.Second,
		FlushInterval:      100 * time.Millisecond,
		CheckInterval:      10 * time.Minute,
		CheckSpread:        5 * time.Second,
		RouteDelay:         time.Second,
		UnreadWait:         2 * time.Second,
		PageMemory:         256 << 20,
		SweepInterval:      time.Second,
		MaxQueues:          1024,
		CleanQueues:        256,
		MaxTailEntries:     64,
		MaxTailBytes:       256 << 10,
		PageEntries:        50,
		PageBytes:          128 << 10,
		Shards:             2 * runtime.GOMAXPROCS(0),
		ShardBuffer:        8192,
		ConcurrentLogins:   32,
		ConcurrentOpens:    256,
		ConcurrentClosings: 64,
	}
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (c Config) withDefaults() Config {
	d := DefaultConfig()
	orDefault(&c.GatewayID, d.GatewayID)
	orDefault(&c.PushMode, d.PushMode)
	orDefault(&c.MaxFrameBytes, d.MaxFrameBytes)
	orDefault(&c.ReadBufferBytes, d.ReadBufferBytes)
	orDefault(&c.MaxOutboundBytes, d.MaxOutboundBytes)
	orDefault(&c.LoginTimeout, d.LoginTimeout)
	orDefault(&c.IdleTimeout, d.IdleTimeout)
	orDefault(&c.WriteTimeout, d.WriteTimeout)
	orDefault(&c.CallTimeout, d.CallTimeout)
	orDefault(&c.ConfirmTimeout, d.ConfirmTimeout)
	orDefault(&c.FlushInterval, d.FlushInterval)
	orDefault(&c.CheckInterval, d.CheckInterval)
	orDefault(&c.CheckSpread, d.CheckSpread)
	orDefault(&c.RouteDelay, d.RouteDelay)
	orDefault(&c.UnreadWait, d.UnreadWait)
	orDefault(&c.PageMemory, d.PageMemory)
	orDefault(&c.SweepInterval, d.SweepInterval)
	orDefault(&c.MaxQueues, d.MaxQueues)
	orDefault(&c.CleanQueues, d.CleanQueues)
	orDefault(&c.MaxTailEntries, d.MaxTailEntries)
	orDefault(&c.MaxTailBytes, d.MaxTailBytes)
	orDefault(&c.PageEntries, d.PageEntries)
	orDefault(&c.PageBytes, d.PageBytes)
	orDefault(&c.Shards, d.Shards)
	orDefault(&c.ShardBuffer, d.ShardBuffer)
	orDefault(&c.ConcurrentLogins, d.ConcurrentLogins)
	orDefault(&c.ConcurrentOpens, d.ConcurrentOpens)
	orDefault(&c.ConcurrentClosings, d.ConcurrentClosings)
	if c.ClientIP == nil {
		c.ClientIP = socketIP
	}
	return c
}

// Validate joins all that is wrong with a Config.
func (c Config) Validate() error {
	c = c.withDefaults()
	var all []error
	if c.PushMode != PushPage && c.PushMode != PushNotice {
		all = append(all, fmt.Errorf("push mode %q is neither page nor notice", c.PushMode))
	}
	if c.MaxOutboundBytes < 2*c.PageBytes {
		all = append(all, errors.New("the outbound bound must hold two pages"))
	}
	if c.PageEntries > 200 {
		all = append(all, errors.New("a page holds at most 200 entries"))
	}
	for name, v := range map[string]int{
		"frame bytes": c.MaxFrameBytes, "read buffer": c.ReadBufferBytes, "outbound bytes": c.MaxOutboundBytes,
		"queues": c.MaxQueues, "clean queues": c.CleanQueues, "tail entries": c.MaxTailEntries, "tail bytes": c.MaxTailBytes,
		"page entries": c.PageEntries, "page bytes": c.PageBytes, "shards": c.Shards, "shard buffer": c.ShardBuffer,
		"concurrent logins": c.ConcurrentLogins, "concurrent opens": c.ConcurrentOpens, "concurrent closings": c.ConcurrentClosings,
	} {
		if v < 0 {
			all = append(all, fmt.Errorf("%s must not be negative", name))
		}
	}
	if c.PageMemory < 0 {
		all = append(all, errors.New("page memory must not be negative"))
	}
	for name, v := range map[string]time.Duration{
		"login timeout": c.LoginTimeout, "idle timeout": c.IdleTimeout, "write timeout": c.WriteTimeout, "call timeout": c.CallTimeout,
		"confirm timeout": c.ConfirmTimeout, "flush interval": c.FlushInterval, "check interval": c.CheckInterval,
		"check spread": c.CheckSpread, "route delay": c.RouteDelay, "unread wait": c.UnreadWait, "sweep interval": c.SweepInterval,
	} {
		if v < 0 {
			all = append(all, fmt.Errorf("%s must not be negative", name))
		}
	}
	return errors.Join(all...)
}

func (c *Config) queueLimits() queueLimits {
	return queueLimits{
		tailEntries: c.MaxTailEntries, tailBytes: c.MaxTailBytes,
		pageEntries: c.PageEntries, pageBytes: c.PageBytes,
	}
}

// Authenticator checks tokens; *auth.Verifier does. Errors are *errs.Error.
type Authenticator interface {
	Verify(ctx context.Context, org, app, token string) (auth.Principal, error)
	// KeyHolds reports whether the key of that ID still signs for the app: if
	// not, all tokens that it signed are void.
	KeyHolds(org, app string, keyID uint32) bool
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

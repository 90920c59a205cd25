package natsx

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/chappe-im/chappe/pkg/errs"
)

// followPause is the time before a message comes again.
const followPause = time.Second

// Follow calls handle with the messages of a consumer, one after the other,
// until ctx ends or the consumer fails for good. A message whose handling
// succeeds is acknowledged; one that fails comes again after a pause.
func Follow(ctx context.Context, c Consumer, handle func(context.Context, StreamMsg) error) error {
	it, err := c.Messages(jetstream.PullMaxMessages(16))
	if err != nil {
		return errs.Unavailable("consumer", err)
	}
	stop := context.AfterFunc(ctx, it.Stop)
	defer func() {
		stop()
		it.Stop()
	}()
	for {
		m, err := it.Next()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, jetstream.ErrNoHeartbeat):
			continue // the server is away or slow; the pull is made again
		case err != nil:
			return errs.Unavailable("consumer", err)
		}
		if err := handle(ctx, m); err != nil {
			_ = m.NakWithDelay(followPause)
			continue
		}
		_ = m.Ack()
	}
}

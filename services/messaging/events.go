package messaging

import (
	"context"
	"time"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/obs"
)

// followRetry is the pause before the stream of events is tried again.
const followRetry = time.Second

// follow handles domain events, in order, until ctx ends. The consumer is the
// service's place in their stream: what happens while no instance runs is dealt
// with later.
func (s *Service) follow(ctx context.Context, consumer, filter string, handle func(context.Context, natsx.StreamMsg) error) {
	for ctx.Err() == nil {
		// The stream is the account service's and may not be there yet.
		c, err := s.deps.NATS.FollowConsumer(ctx, bus.EventStream, consumer, filter)
		if err == nil {
			err = natsx.Follow(ctx, c, handle)
		}
		if ctx.Err() != nil {
			return
		}
		s.deps.Logger.Debug("events cannot be followed yet", "consumer", consumer, obs.KeyError, err)
		sleep(ctx, followRetry)
	}
}

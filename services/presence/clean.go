package presence

import (
	"context"
	"time"

	"github.com/chappe-im/chappe/pkg/obs"
)

// cleanBatch is how many rows one transaction of the cleaner deletes, so that
// it never keeps other writers waiting for long.
const cleanBatch = 500

// clean frees the space of subscriptions that have ended, until ctx ends.
func (s *Service) clean(ctx context.Context) {
	tick := time.NewTicker(s.cfg.CleanEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for ctx.Err() == nil {
			n, err := s.store.clean(ctx, s.deps.Now().UnixMilli(), cleanBatch)
			if err != nil && ctx.Err() == nil {
				s.deps.Logger.Warn("ended subscriptions not deleted", obs.KeyError, err)
			}
			if err != nil || n < cleanBatch {
				break
			}
		}
	}
}

package measure

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/chappe-im/chappe/bench/internal/receiver"
	"github.com/chappe-im/chappe/bench/internal/target"
)

// connect logs users in and returns their connections once each has fetched
// what waited for it; of a failure it leaves none behind. set, unless nil, adds
// to the i-th user's settings.
func connect(ctx context.Context, t *target.Target, users, tokens []string, set func(i int, c *receiver.Config)) ([]*receiver.Receiver, error) {
	conns := make([]*receiver.Receiver, len(users))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(loginWorkers)
	for i, user := range users {
		g.Go(func() (err error) {
			c := receiver.Config{URL: t.WS(), AppKey: t.AppKey(), User: user, Token: tokens[i]}
			if set != nil {
				set(i, &c)
			}
			if conns[i], err = receiver.Login(gctx, c); err != nil {
				return err
			}
			select {
			case <-conns[i].Synced():
				return nil
			case <-conns[i].Done():
				return conns[i].Err()
			case <-gctx.Done():
				return gctx.Err()
			}
		})
	}
	if err := g.Wait(); err != nil {
		closeAll(conns)
		return nil, err
	}
	return conns, nil
}

// closeAll ends connections, of which some may not have been made.
func closeAll(conns []*receiver.Receiver) {
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}

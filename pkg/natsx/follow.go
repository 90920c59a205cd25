package natsx

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// followPause is the time before a message comes again.
	followPause = time.Second
	// followWait is how long the stream waits for word of a message before it
	// gives it out again: what a killed process was at holds the next one up for
	// so long. followSign is how often Follow sends word.
	followWait = 3 * time.Second
	followSign = followWait / 3
)

// FollowConsumer makes or opens the consumer with which Follow takes one
// subject of a stream, one message after the other.
func (c *Conn) FollowConsumer(ctx context.Context, stream, name, subject string) (Consumer, error) {
	cons, err := c.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable: name, FilterSubject: subject, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 1, AckWait: followWait,
	})
	if err != nil {
		return nil, unavailable("consumer "+name, err)
	}
	return cons, nil
}

// Follow calls handle with the messages of a consumer, one after the other,
// until ctx ends or the consumer fails for good. A message whose handling
// succeeds is acknowledged; one that fails comes again after a pause.
func Follow(ctx context.Context, c Consumer, handle func(context.Context, StreamMsg) error) error {
	it, err := c.Messages(jetstream.PullMaxMessages(16))
	if err != nil {
		return unavailable("consumer", err)
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
			return unavailable("consumer", err)
		}
		if err := handleWith(ctx, m, handle); err != nil {
			_ = m.NakWithDelay(followPause)
			continue
		}
		_ = m.Ack()
	}
}

// handleWith handles a message and meanwhile tells the stream that somebody is
// at it.
func handleWith(ctx context.Context, m StreamMsg, handle func(context.Context, StreamMsg) error) error {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(followSign)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				_ = m.InProgress()
			}
		}
	}()
	err := handle(ctx, m)
	close(done)
	<-ended
	return err
}

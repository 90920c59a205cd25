// Command push-worker shows how a push provider's worker takes Chappe's push
// events: it prints what it would send. Start the server with
// --push-events --nats-listen 127.0.0.1:4222, then
//
//	go run ./examples/push-worker -nats nats://127.0.0.1:4222 -token-file data/nats-token
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// event is what this worker reads of an event; docs/push.md lists all fields.
type event struct {
	App         string `json:"app"`
	User        string `json:"user"`
	MessageID   string `json:"message_id"`
	Title       string `json:"title"`
	Text        string `json:"text"`
	DeviceToken string `json:"device_token"`
}

func main() {
	url := flag.String("nats", nats.DefaultURL, "URL of the NATS servers")
	tokenFile := flag.String("token-file", "", "file with the token of the NATS servers; empty for none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := work(ctx, *url, *tokenFile); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "push-worker:", err)
		os.Exit(1)
	}
}

func work(ctx context.Context, url, tokenFile string) error {
	var opts []nats.Option
	if tokenFile != "" {
		token, err := os.ReadFile(tokenFile) //nolint:gosec // the file that the operator names
		if err != nil {
			return err
		}
		opts = append(opts, nats.Token(strings.TrimSpace(string(token))))
	}
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	// Durable: a worker that was away goes on where it was. Several processes
	// with the same name share the work.
	worker, err := js.CreateOrUpdateConsumer(ctx, "PUSH", jetstream.ConsumerConfig{
		Durable: "example", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 30 * time.Second, MaxDeliver: 5,
	})
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		m, err := worker.Next(jetstream.FetchMaxWait(5 * time.Second))
		if errors.Is(err, jetstream.ErrNoMessages) || errors.Is(err, nats.ErrTimeout) {
			continue
		}
		if err != nil {
			return err
		}
		var e event
		if err := json.Unmarshal(m.Data(), &e); err != nil {
			_ = m.Term() // will not get better
			continue
		}
		// Here a real worker calls the provider and acknowledges only what the
		// provider took; m.NakWithDelay gives the rest another try.
		fmt.Printf("push to %s of %s (token %q): %s %s\n", e.User, e.App, e.DeviceToken, e.Title, e.Text)
		if err := m.Ack(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

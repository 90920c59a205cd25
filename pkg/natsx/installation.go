package natsx

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// InstallationKey is where a stream's metadata holds the ID of the
// installation that it belongs to.
const InstallationKey = "chappe_installation"

// Installations lists the IDs of the installations that the server's streams
// belong to.
func (c *Conn) Installations(ctx context.Context) ([]string, error) {
	seen := map[string]bool{}
	err := c.eachStream(ctx, func(cfg jetstream.StreamConfig) error {
		if id := cfg.Metadata[InstallationKey]; id != "" {
			seen[id] = true
		}
		return nil
	})
	return slices.Sorted(maps.Keys(seen)), err
}

// SetInstallation writes the ID into those streams that carry another one.
// Those that carry none get it when they are made or opened by a connection of
// the installation.
func (c *Conn) SetInstallation(ctx context.Context, id string) error {
	return c.eachStream(ctx, func(cfg jetstream.StreamConfig) error {
		if was := cfg.Metadata[InstallationKey]; was == "" || was == id {
			return nil
		}
		return c.SetStreamMetadata(ctx, cfg.Name, InstallationKey, id)
	})
}

func (c *Conn) eachStream(ctx context.Context, f func(jetstream.StreamConfig) error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*flushTimeout)
	defer cancel()
	list := c.js.ListStreams(ctx)
	var err error
	for info := range list.Info() {
		err = errors.Join(err, f(info.Config))
	}
	if err = errors.Join(err, list.Err()); err != nil {
		return unavailable("nats", err)
	}
	return nil
}

package main

import (
	"context"
	"log/slog"

	"github.com/chappe-im/chappe/pkg/embed"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/natsx"
)

// embedded gives the run package the servers that this binary carries.
type embedded struct{}

// Etcd implements run.Embedded.
func (embedded) Etcd(ctx context.Context, dir string) (*etcdx.Client, func(), error) {
	e, err := embed.StartEtcd(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	return etcdx.Wrap(e.Client(), ""), e.Stop, nil
}

// NATS implements run.Embedded.
func (embedded) NATS(dir, listen string, syncAlways bool, logger *slog.Logger) (natsx.InProcessServer, func(), error) {
	n, err := embed.StartNATS(embed.NATSConfig{Dir: dir, Listen: listen, SyncAlways: syncAlways, Logger: logger})
	if err != nil {
		return nil, nil, err
	}
	return n, n.Stop, nil
}

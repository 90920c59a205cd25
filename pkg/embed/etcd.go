// Package embed runs an etcd server and a NATS server inside the process: the
// default for one node and for tests. Only the all-in-one main and the test
// kit import it, so that the node binary does not carry them.
package embed

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	etcdembed "go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
)

// Etcd is a running embedded etcd server with one member.
type Etcd struct {
	server *etcdembed.Etcd
	client *clientv3.Client
	unlock func()
}

// EtcdConfig sets up the embedded server.
type EtcdConfig struct {
	// Dir holds its data, in the folder "etcd".
	Dir string
	// Listen is a TCP address to serve other processes on, without any
	// authentication, port 0 for any; empty, as in production, opens no listener
	// at all and serves only this process.
	Listen string
}

// StartEtcd starts a server with one member and returns when it serves.
func StartEtcd(ctx context.Context, c EtcdConfig) (*Etcd, error) {
	cfg := etcdembed.NewConfig()
	cfg.Dir = filepath.Join(c.Dir, "etcd")
	unlock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}
	cfg.Name = "chappe"
	// A member must have addresses on paper. It has no peers, so that nobody
	// ever calls them.
	nowhere := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.AdvertisePeerUrls = []url.URL{nowhere}
	cfg.AdvertiseClientUrls = []url.URL{nowhere}
	cfg.ListenPeerUrls = []url.URL{}
	cfg.ListenClientUrls = []url.URL{}
	if c.Listen != "" {
		cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: c.Listen}}
	}
	// Its REST form would need a listener to call.
	cfg.EnableGRPCGateway = false
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ZapLoggerBuilder = etcdembed.NewZapLoggerBuilder(zap.NewNop())
	cfg.AutoCompactionMode = etcdembed.CompactorModePeriodic
	cfg.AutoCompactionRetention = "1h"
	// A single member elects itself: short timers make that quick and cost
	// nothing.
	cfg.TickMs = 50
	cfg.ElectionMs = 250
	server, err := etcdembed.StartEtcd(cfg)
	if err != nil {
		unlock()
		return nil, fmt.Errorf("start embedded etcd in %s: %w", cfg.Dir, err)
	}
	e := &Etcd{server: server, unlock: unlock}
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		e.Stop()
		return nil, fmt.Errorf("embedded etcd: %w", err)
	case <-ctx.Done():
		e.Stop()
		return nil, fmt.Errorf("embedded etcd did not get ready: %w", ctx.Err())
	case <-time.After(30 * time.Second):
		e.Stop()
		return nil, fmt.Errorf("embedded etcd did not get ready in 30 s")
	}
	e.client = v3client.New(server.Server)
	return e, nil
}

// Client talks to the server within the process. It is closed by Stop.
func (e *Etcd) Client() *clientv3.Client { return e.client }

// Endpoint returns where other processes reach the server; empty if it has no
// listener.
func (e *Etcd) Endpoint() string {
	if len(e.server.Clients) == 0 {
		return ""
	}
	return e.server.Clients[0].Addr().String()
}

// Stop shuts the server down and waits for it.
func (e *Etcd) Stop() {
	if e.client != nil {
		_ = e.client.Close()
	}
	e.server.Close()
	e.unlock()
}

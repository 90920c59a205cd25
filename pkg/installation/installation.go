// Package installation tells whether the places where a process keeps its
// state belong together. Each of them carries the ID of the installation that
// it was made for: etcd, the streams of NATS and each SQL schema. Apps are
// numbered in etcd and users and messages kept under those numbers, so state
// of two installations must not be mixed.
package installation

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/store"
)

// Part is a place that carries an installation's ID.
type Part struct {
	// Name tells an operator which place it is.
	Name string
	// Read returns the IDs found in it; none when it is new or older than IDs.
	Read func(ctx context.Context) ([]string, error)
	// Write gives it an ID, in place of any that it has.
	Write func(ctx context.Context, id string) error
	// Starts returns how often the part was started, 0 if it does not know;
	// SetStarts raises that number, for good when it returns. Both are nil in
	// parts that do not count.
	Starts    func(ctx context.Context) (int64, error)
	SetStarts func(ctx context.Context, n int64) error
}

// etcdKey is where etcd holds the ID.
const etcdKey = "/installation"

// InEtcd is etcd as a part.
func InEtcd(c *etcdx.Client) Part {
	return Part{
		Name: "etcd",
		Read: func(ctx context.Context) ([]string, error) {
			kv, err := c.Get(ctx, etcdKey)
			if err != nil || kv == nil {
				return nil, err
			}
			return []string{string(kv.Value)}, nil
		},
		Write: func(ctx context.Context, id string) error {
			_, _, err := c.Commit(ctx, nil, []etcdx.Write{{Key: etcdKey, Value: []byte(id)}})
			return err
		},
	}
}

// create writes the ID into an etcd that has none, or returns the one that
// another process wrote at the same moment.
func create(ctx context.Context, c *etcdx.Client, id string) (string, error) {
	ok, _, err := c.Commit(ctx, []etcdx.Condition{{Key: etcdKey}}, []etcdx.Write{{Key: etcdKey, Value: []byte(id)}})
	if err != nil || ok {
		return id, err
	}
	kv, err := c.Get(ctx, etcdKey)
	if err != nil || kv == nil {
		return "", fmt.Errorf("read the installation's ID: %w", err)
	}
	return string(kv.Value), nil
}

// InNATS is the streams of a NATS server as a part. Streams that are made
// later get the ID from the connection that makes them.
func InNATS(c *natsx.Conn) Part {
	return Part{Name: "NATS", Read: c.Installations, Write: c.SetInstallation}
}

// InSQL is a service's schema as a part.
func InSQL(service string, db *store.DB) Part {
	return Part{
		Name: "database of " + service,
		Read: func(ctx context.Context) ([]string, error) {
			id, err := db.Installation(ctx)
			if err != nil || id == "" {
				return nil, err
			}
			return []string{id}, nil
		},
		Write: db.SetInstallation, Starts: db.Starts, SetStarts: db.SetStarts,
	}
}

// Check returns the ID of the installation that etcd and the other parts belong
// to, after giving it to those that carry none: all of them at the first start
// and after an upgrade from a version without IDs. It refuses parts of
// different installations or moments, and an etcd without an ID beside parts
// that have one, unless accept says to make one of them, which etcd's ID wins.
func Check(ctx context.Context, etcd *etcdx.Client, others []Part, accept bool, logger *slog.Logger) (string, error) {
	parts := append([]Part{InEtcd(etcd)}, others...)
	found := make([][]string, len(parts))
	var all []string
	for i, p := range parts {
		ids, err := p.Read(ctx)
		if err != nil {
			return "", fmt.Errorf("installation of %s: %w", p.Name, err)
		}
		found[i] = ids
		for _, id := range ids {
			if !slices.Contains(all, id) {
				all = append(all, id)
			}
		}
	}
	if (len(all) > 1 || (len(all) == 1 && len(found[0]) == 0)) && !accept {
		return "", fmt.Errorf("the parts of this installation do not belong together: %s. "+
			"Put back the part that is wrong, from a backup of the same installation, or start once with --accept-installation to make them one", describe(parts, found))
	}
	id := uuid.NewString()
	if len(all) > 0 {
		id = all[0] // etcd's, if it has one
	}
	if len(found[0]) == 0 {
		var err error
		if id, err = create(ctx, etcd, id); err != nil {
			return "", err
		}
	}
	for i, p := range parts[1:] {
		ids := found[i+1]
		if len(ids) == 1 && ids[0] == id {
			continue
		}
		if err := p.Write(ctx, id); err != nil {
			return "", fmt.Errorf("installation of %s: %w", p.Name, err)
		}
		if len(ids) > 0 {
			logger.Warn("part of another installation is accepted", "part", p.Name, "was", strings.Join(ids, ", "), "installation", id)
		}
	}
	for _, p := range parts {
		if p.Starts == nil {
			continue
		}
		if err := countStart(ctx, etcd, p, accept, logger); err != nil {
			return "", fmt.Errorf("installation: %w", err)
		}
	}
	return id, nil
}

func describe(parts []Part, found [][]string) string {
	var out []string
	for i, p := range parts {
		ids := "no installation"
		if len(found[i]) > 0 {
			ids = strings.Join(found[i], " and ")
		}
		out = append(out, p.Name+" carries "+ids)
	}
	return strings.Join(out, ", ")
}

package measure

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/chappe-im/chappe/bench/internal/load"
	"github.com/chappe-im/chappe/bench/internal/rawhttp"
	"github.com/chappe-im/chappe/bench/internal/target"
)

// ReadsConfig sets up reads of single rows.
type ReadsConfig struct {
	Target *target.Target
	// PID of the server; 0 if not known.
	PID         int
	Connections int
	Duration    time.Duration
	Count       int64
	Warmup      time.Duration
	// Users that are read, one after the other.
	Users int
}

// Kinds of reads.
const (
	ReadUser       = "user"
	ReadAttributes = "attributes"
	ReadStatus     = "status"
)

// Reads measures REST reads of single rows.
type Reads struct {
	cfg      ReadsConfig
	requests map[string][]rawhttp.Request
}

// NewReads registers the users and gives them attributes.
func NewReads(ctx context.Context, cfg ReadsConfig) (*Reads, error) {
	if cfg.Connections < 1 || cfg.Users < 1 {
		return nil, errors.New("there must be a connection and a user")
	}
	users := names("b"+runID()+"-u", cfg.Users)
	if _, err := cfg.Target.CreateUsers(ctx, users); err != nil {
		return nil, err
	}
	err := cfg.Target.SetAttributes(ctx, users, map[string]string{"nickname": "Lena", "avatarurl": "https://example.com/lena.png"})
	if err != nil {
		return nil, err
	}
	r := &Reads{cfg: cfg, requests: map[string][]rawhttp.Request{}}
	for _, u := range users {
		for kind, path := range map[string][]string{
			ReadUser: {"users", u}, ReadAttributes: {"metadata", "user", u}, ReadStatus: {"users", u, "status"},
		} {
			r.requests[kind] = append(r.requests[kind], cfg.Target.Request(http.MethodGet, path...))
		}
	}
	return r, nil
}

// Run measures reads of one kind.
func (r *Reads) Run(ctx context.Context, kind string) (*Result, error) {
	requests := r.requests[kind]
	if len(requests) == 0 {
		return nil, errors.New("there is no such kind of reads")
	}
	conns, hangUp, err := dial(r.cfg.Target.Host(), r.cfg.Connections)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	l := loop{
		name: "read of a user's " + kind, pid: r.cfg.PID, connections: r.cfg.Connections,
		duration: r.cfg.Duration, count: r.cfg.Count, warmup: r.cfg.Warmup,
	}
	return l.run(ctx, func(_ context.Context, i, n int) (load.Outcome, error) {
		res, err := conns[i].Do(requests[(i*len(requests)/len(conns)+n)%len(requests)], nil)
		return answered(l.name, res, err)
	})
}

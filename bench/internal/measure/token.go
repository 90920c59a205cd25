package measure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/chappe-im/chappe/bench/internal/load"
	"github.com/chappe-im/chappe/bench/internal/target"
)

// TokenConfig sets up logins by password.
type TokenConfig struct {
	Target *target.Target
	// PID of the server; 0 if not known.
	PID         int
	Connections int
	Duration    time.Duration
	Count       int64
	// Users whose tokens are asked for, one after the other. Each has asked for
	// one before the measurement.
	Users int
}

const benchPassword = "correct horse battery staple"

// Token measures tokens by password, from credentials that were checked
// before.
func Token(ctx context.Context, cfg TokenConfig) (*Result, error) {
	if cfg.Connections < 1 || cfg.Users < 1 {
		return nil, errors.New("there must be a connection and a user")
	}
	users := names("b"+runID()+"-p", cfg.Users)
	if err := cfg.Target.Register(ctx, users, benchPassword); err != nil {
		return nil, err
	}
	conns, hangUp, err := dial(cfg.Target.Host(), cfg.Connections)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	req := cfg.Target.Request(http.MethodPost, "token")
	bodies := make([][]byte, len(users))
	for i, u := range users {
		bodies[i] = fmt.Appendf(nil, `{"grant_type":"password","username":%q,"password":%q}`, u, benchPassword)
		res, err := conns[0].Do(req, bodies[i])
		if _, err := answered("token", res, err); err != nil {
			return nil, err
		}
	}
	l := loop{name: "token by password, warm", pid: cfg.PID, connections: cfg.Connections, duration: cfg.Duration, count: cfg.Count}
	return l.run(ctx, func(_ context.Context, i, n int) (load.Outcome, error) {
		res, err := conns[i].Do(req, bodies[(i*len(bodies)/len(conns)+n)%len(bodies)])
		return answered(l.name, res, err)
	})
}

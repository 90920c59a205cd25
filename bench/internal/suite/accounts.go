package suite

import (
	"context"
	"errors"

	"github.com/chappe-im/chappe/bench/internal/child"
	"github.com/chappe-im/chappe/bench/internal/measure"
)

const (
	// readUsers are read in turn.
	readUsers = 256
	// tokenUsers ask for tokens in turn.
	tokenUsers = 32
)

// reads compares reads of single rows with the plain echo.
func (s *suite) reads(ctx context.Context) (err error) {
	srv, err := s.chappe(ctx, "reads")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.Stop()) }()
	echo, addr, err := child.Baseline(ctx, s.dir, "echo")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, echo.Stop()) }()
	t, _, err := s.app(ctx, srv)
	if err != nil {
		return err
	}
	defer t.Close()
	reads, err := measure.NewReads(ctx, measure.ReadsConfig{
		Target: t, PID: srv.PID(), Connections: s.cfg.Connections, Duration: s.cfg.Duration, Warmup: warmup, Users: readUsers,
	})
	if err != nil {
		return err
	}
	kinds := []struct {
		kind    string
		results *[]*measure.Result
	}{{measure.ReadUser, &s.fig.User}, {measure.ReadAttributes, &s.fig.Attributes}, {measure.ReadStatus, &s.fig.Status}}
	for range s.cfg.Rounds {
		r, err := measure.HTTP(ctx, s.plain("echo", addr, echo.PID()))
		if err != nil {
			return err
		}
		s.show(r)
		s.fig.ReadEcho = append(s.fig.ReadEcho, r)
		for _, k := range kinds {
			if r, err = reads.Run(ctx, k.kind); err != nil {
				return err
			}
			s.show(r)
			*k.results = append(*k.results, r)
		}
	}
	for _, k := range kinds {
		if err := s.profile(ctx, srv, "read-"+k.kind, func() error { _, err := reads.Run(ctx, k.kind); return err }); err != nil {
			return err
		}
	}
	return nil
}

// token measures logins by password on a server that has one core.
func (s *suite) token(ctx context.Context) (err error) {
	srv, err := s.chappe(ctx, "token", "GOMAXPROCS=1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.Stop()) }()
	t, _, err := s.app(ctx, srv)
	if err != nil {
		return err
	}
	defer t.Close()
	run := func() (*measure.Result, error) {
		return measure.Token(ctx, measure.TokenConfig{
			Target: t, PID: srv.PID(), Connections: s.cfg.Connections, Duration: s.cfg.Duration, Users: tokenUsers,
		})
	}
	for range s.cfg.Rounds {
		r, err := run()
		if err != nil {
			return err
		}
		s.show(r)
		s.fig.Token = append(s.fig.Token, r)
	}
	return s.profile(ctx, srv, "token", func() error { _, err := run(); return err })
}

// presence measures how soon subscribers are told of a change.
func (s *suite) presence(ctx context.Context) (err error) {
	srv, err := s.chappe(ctx, "presence")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.Stop()) }()
	t, _, err := s.app(ctx, srv)
	if err != nil {
		return err
	}
	defer t.Close()
	p, err := measure.NewPresence(ctx, measure.PresenceConfig{Target: t, PID: srv.PID(), Subscribers: s.cfg.Subscribers})
	if err != nil {
		return err
	}
	defer p.Close()
	rounds := measure.Rounds{Name: "presence", Count: s.cfg.Changes, Pause: pause}
	for range s.cfg.Rounds {
		r, err := p.Run(ctx, rounds)
		if err != nil {
			return err
		}
		s.show(r)
		s.fig.Presence = append(s.fig.Presence, r)
	}
	return s.profile(ctx, srv, "presence", func() error {
		_, err := p.Run(ctx, measure.Rounds{Name: "presence", Duration: s.cfg.Duration})
		return err
	})
}

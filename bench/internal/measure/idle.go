package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/chappe-im/chappe/bench/internal/proc"
	"github.com/chappe-im/chappe/bench/internal/receiver"
	"github.com/chappe-im/chappe/bench/internal/target"
)

// IdleConfig sets up idle connections.
type IdleConfig struct {
	Target *target.Target
	PID    int
	// Users and their Tokens: one connection each.
	Users, Tokens []string
	// Hold is how long the connections are kept before memory is read.
	Hold time.Duration
	// Ops is the base URL of the server's operations port; if given, memory is
	// read a second time after a garbage collection asked for there.
	Ops string
}

// warmLogins happen before the base is taken: what the first logins load once
// and for all is not part of a connection.
const warmLogins = 100

// heartbeat is the pause between signs of life of idle connections.
const heartbeat = 30 * time.Second

// PrepareIdle registers users for Idle.
func PrepareIdle(ctx context.Context, t *target.Target, n int) (users, tokens []string, err error) {
	users = names("b"+runID()+"-i", n)
	tokens, err = t.CreateUsers(ctx, users)
	return users, tokens, err
}

// Idle measures the server's memory for each idle connection.
func Idle(ctx context.Context, cfg IdleConfig) (*Result, error) {
	if cfg.PID == 0 || len(cfg.Users) == 0 {
		return nil, errors.New("memory can only be read of a known process, and with connections")
	}
	login := func(n int) ([]*receiver.Receiver, error) {
		return connect(ctx, cfg.Target, cfg.Users[:n], cfg.Tokens[:n], nil)
	}
	warm, err := login(min(warmLogins, len(cfg.Users)))
	if err != nil {
		return nil, err
	}
	closeAll(warm)
	base, err := readMemory(ctx, cfg)
	if err != nil {
		return nil, err
	}

	start := time.Now()
	cpu, err := proc.CPU(cfg.PID)
	if err != nil {
		return nil, err
	}
	conns, err := login(len(cfg.Users))
	if err != nil {
		return nil, err
	}
	defer closeAll(conns)
	took := time.Since(start)
	if err := hold(ctx, conns, cfg.Hold); err != nil {
		return nil, err
	}
	after, err := readMemory(ctx, cfg)
	if err != nil {
		return nil, err
	}
	cpuAfter, err := proc.CPU(cfg.PID)
	if err != nil {
		return nil, err
	}
	n := float64(len(conns))
	r := &Result{
		Name: "idle", Unit: "connection", Ops: int64(len(conns)), Seconds: took.Seconds(), PerSecond: n / took.Seconds(),
		ServerCPU: us(cpuAfter-cpu) / n, ServerPeakMiB: float64(after.plain.Peak) / (1 << 20),
		Extra: map[string]float64{
			"base_mib":           float64(base.plain.Resident) / (1 << 20),
			"with_all_mib":       float64(after.plain.Resident) / (1 << 20),
			"kib_per_connection": float64(after.plain.Resident-base.plain.Resident) / 1024 / n,
		},
	}
	if cfg.Ops != "" {
		r.Extra["kib_per_connection_collected"] = float64(after.collected.Resident-base.collected.Resident) / 1024 / n
	}
	return r, nil
}

// hold keeps connections alive for a while and fails if one ends.
func hold(ctx context.Context, conns []*receiver.Receiver, d time.Duration) error {
	end := time.NewTimer(d)
	defer end.Stop()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			for _, c := range conns {
				select {
				case <-c.Done():
					return fmt.Errorf("an idle connection ended: %w", c.Err())
				default:
				}
			}
			return nil
		case <-beat.C:
			for _, c := range conns {
				if err := c.Heartbeat(); err != nil {
					return fmt.Errorf("an idle connection ended: %w", err)
				}
			}
		}
	}
}

// memories before and after a garbage collection.
type memories struct{ plain, collected proc.Memory }

func readMemory(ctx context.Context, cfg IdleConfig) (m memories, err error) {
	if _, err := proc.Settle(ctx, cfg.PID, settleLimit); err != nil {
		return m, err
	}
	if m.plain, err = proc.ReadMemory(cfg.PID); err != nil || cfg.Ops == "" {
		return m, err
	}
	if err := collect(ctx, cfg.Ops); err != nil {
		return m, err
	}
	if _, err := proc.Settle(ctx, cfg.PID, settleLimit); err != nil {
		return m, err
	}
	m.collected, err = proc.ReadMemory(cfg.PID)
	return m, err
}

// collect asks a server for a garbage collection.
func collect(ctx context.Context, ops string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, ops+"/debug/pprof/heap?gc=1", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("garbage collection: status %d", res.StatusCode)
	}
	return nil
}

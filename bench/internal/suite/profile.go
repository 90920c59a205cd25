package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/chappe-im/chappe/bench/internal/child"
)

// profile runs f once more while the server records where its processor time
// goes. Without a directory it does nothing.
func (s *suite) profile(ctx context.Context, srv *child.Server, name string, f func() error) error {
	if s.cfg.ProfileDir == "" {
		return nil
	}
	seconds := max(int((s.cfg.Duration+warmup)/time.Second), 1)
	got := make(chan error, 1)
	go func() {
		got <- s.fetch(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", srv.Ops, seconds), name+".cpu.pprof")
	}()
	err := f()
	return errors.Join(err, <-got)
}

// heap keeps what is in the server's memory.
func (s *suite) heap(ctx context.Context, srv *child.Server, name string) error {
	if s.cfg.ProfileDir == "" {
		return nil
	}
	return s.fetch(ctx, srv.Ops+"/debug/pprof/heap?gc=1", name+".heap.pprof")
}

func (s *suite) fetch(ctx context.Context, url, name string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("profile %s: status %d", name, res.StatusCode)
	}
	if err := os.MkdirAll(s.cfg.ProfileDir, 0o750); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(s.cfg.ProfileDir, name))
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, res.Body); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

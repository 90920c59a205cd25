package suite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/chappe-im/chappe/bench/internal/child"
)

// profile runs f once more while the server records where its processor time
// goes. Without a directory it does nothing.
func (s *suite) profile(ctx context.Context, srv *child.Server, name string, f func() error) error {
	if s.cfg.ProfileDir == "" {
		return nil
	}
	raw, err := s.record(ctx, srv, f)
	if err != nil {
		return err
	}
	return s.keep(name+".cpu.pprof", raw)
}

// record runs f while the server records where its processor time goes.
func (s *suite) record(ctx context.Context, srv *child.Server, f func() error) (raw []byte, err error) {
	seconds := max(int((s.cfg.Duration+warmup)/time.Second), 1)
	got := make(chan error, 1)
	go func() {
		var err error
		raw, err = fetch(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", srv.Ops, seconds))
		got <- err
	}()
	err = f()
	return raw, errors.Join(err, <-got)
}

// admission is where the gateway asks the limiter.
const admission = "services/gateway/rest.(*call).admit"

// shareOf gives the part of a recorded processor time, in percent, that was
// spent in a function and in what it called.
func shareOf(raw []byte, function string) (float64, error) {
	p, err := profile.ParseData(raw)
	if err != nil {
		return 0, err
	}
	if len(p.SampleType) == 0 {
		return 0, errors.New("the profile has no samples")
	}
	time := len(p.SampleType) - 1 // the first is how often it was looked
	var in, all int64
	for _, sample := range p.Sample {
		all += sample.Value[time]
		if within(sample, function) {
			in += sample.Value[time]
		}
	}
	if all == 0 {
		return 0, errors.New("the profile is empty")
	}
	return 100 * float64(in) / float64(all), nil
}

func within(sample *profile.Sample, function string) bool {
	for _, l := range sample.Location {
		for _, line := range l.Line {
			if line.Function != nil && strings.HasSuffix(line.Function.Name, function) {
				return true
			}
		}
	}
	return false
}

// heap keeps what is in the server's memory.
func (s *suite) heap(ctx context.Context, srv *child.Server, name string) error {
	if s.cfg.ProfileDir == "" {
		return nil
	}
	raw, err := fetch(ctx, srv.Ops+"/debug/pprof/heap?gc=1")
	if err != nil {
		return err
	}
	return s.keep(name+".heap.pprof", raw)
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	var b bytes.Buffer
	if _, err := io.Copy(&b, res.Body); err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("profile %s: status %d", url, res.StatusCode)
	}
	return b.Bytes(), nil
}

func (s *suite) keep(name string, raw []byte) error {
	if err := os.MkdirAll(s.cfg.ProfileDir, 0o750); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.cfg.ProfileDir, name), raw, 0o600)
}

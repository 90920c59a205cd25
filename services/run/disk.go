package run

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe-im/chappe/pkg/obs"
)

// diskWatch looks at the free space of the disks that this process stores
// something on. Below the reserve, sends are refused: what stores the
// acknowledged ones then still has room to end what it is at, and a disk that
// is full to the last byte is not met under load.
type diskWatch struct {
	server  *Server
	dirs    []string
	reserve uint64
	free    func(dir string) (uint64, error)
	gauge   prometheus.Gauge
	// low is why sends are refused; nil while they are not.
	low    atomic.Pointer[string]
	cancel context.CancelFunc
	done   chan struct{}
}

const (
	// diskLook is how often free space is looked at.
	diskLook = time.Second
	// diskMargin is the part of the reserve that must be free on top of it before
	// sends are taken again.
	diskMargin = 16
)

// storedDirs lists the directories in which this process stores something.
func (c *Config) storedDirs() []string {
	var dirs []string
	if len(c.Etcd) == 0 || c.NATS == "" {
		dirs = append(dirs, c.Data)
	}
	if dir, ok := strings.CutPrefix(c.databaseURL(), "sqlite:"); ok && (len(dirs) == 0 || !within(dir, c.Data)) {
		dirs = append(dirs, dir)
	}
	return dirs
}

func within(dir, parent string) bool {
	rel, err := filepath.Rel(parent, dir)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

func (s *Server) startDiskWatch(ctx context.Context) (stopper, error) {
	w := &diskWatch{
		server: s, dirs: s.cfg.storedDirs(), reserve: uint64(s.cfg.DiskReserve), free: s.diskFree, // validated
		gauge: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "chappe_disk_free_bytes", Help: "Free space of the fullest disk that this process stores something on.",
		}),
		done: make(chan struct{}),
	}
	if err := obs.Register(s.registry, "the disk watch", w.gauge); err != nil {
		return nil, err
	}
	ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	w.look()
	s.disk.Store(w)
	go w.run(ctx)
	return w, nil
}

func (w *diskWatch) run(ctx context.Context) {
	defer close(w.done)
	t := time.NewTicker(diskLook)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			w.look()
		}
	}
}

// look compares the free space with the reserve and tells messaging.
func (w *diskWatch) look() {
	least, fullest, known := uint64(0), "", false
	for _, dir := range w.dirs {
		free, err := w.free(dir)
		if err != nil {
			continue // not every system can be asked
		}
		if !known || free < least {
			least, fullest, known = free, dir, true
		}
	}
	if !known {
		return
	}
	w.gauge.Set(float64(least))
	was := w.low.Load()
	enough := w.reserve
	if was != nil {
		enough += w.reserve / diskMargin
	}
	if least >= enough {
		if was != nil {
			w.low.Store(nil)
			w.server.logger.Info("there is room on the disk again: sends are taken", "dir", fullest, "free_bytes", least)
			w.tell("")
		}
		return
	}
	why := fmt.Sprintf("the disk of %s has %d MiB free, less than the reserve of %d MiB (disk-reserve)", fullest, least>>20, w.reserve>>20)
	w.low.Store(&why)
	if was == nil {
		w.server.logger.Error("the disk is nearly full: sends are refused until there is room", "dir", fullest, "free_bytes", least, "reserve_bytes", w.reserve)
	}
	w.tell(why)
}

func (w *diskWatch) tell(why string) {
	if m := w.server.messaging.Load(); m != nil {
		m.Refuse(why)
	}
}

// Stop ends the watch.
func (w *diskWatch) Stop(context.Context) error {
	w.cancel()
	<-w.done
	return nil
}

package members

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/lifecycle"
	"github.com/chappe-im/chappe/pkg/obs"
)

// retryPause is the time between attempts to register again.
const retryPause = 300 * time.Millisecond

// Registration keeps a member registered.
type Registration struct {
	etcd   *etcdx.Client
	kind   Kind
	id     string
	value  []byte
	logger *slog.Logger

	renewed chan struct{}
	cancel  context.CancelFunc
	done    chan struct{}
	once    sync.Once
	// session belongs to keep once that runs.
	session *etcdx.Session
	stopErr error
}

// Register enters a member, whose ID must be new at each start of the process
// and free of "/". It stays entered until Stop, under a new lease whenever the
// old one is lost.
func Register(ctx context.Context, etcd *etcdx.Client, logger *slog.Logger, kind Kind, m Member) (*Registration, error) {
	if m.ID == "" || strings.Contains(m.ID, "/") {
		return nil, fmt.Errorf("register among %s: the ID %q is empty or holds a slash", kind, m.ID)
	}
	value, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	r := &Registration{
		etcd: etcd, kind: kind, id: m.ID, value: value, logger: logger,
		renewed: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if r.session, err = r.enter(ctx); err != nil {
		return nil, fmt.Errorf("register among %s: %w", kind, err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	go r.keep(run)
	return r, nil
}

// Renewed is signalled when the member was registered again after its lease had
// been lost: others may have taken it for dead meanwhile.
func (r *Registration) Renewed() <-chan struct{} { return r.renewed }

// Stop takes the member off the list and waits. It may be called twice.
func (r *Registration) Stop() error {
	r.once.Do(func() {
		r.cancel()
		<-r.done
		if r.session != nil {
			r.stopErr = r.session.Close()
		}
	})
	return r.stopErr
}

func (r *Registration) enter(ctx context.Context) (*etcdx.Session, error) {
	s, err := r.etcd.NewSession(ctx, r.kind.TTL())
	if err != nil {
		return nil, err
	}
	if err := s.Put(ctx, r.kind.prefix()+r.id, r.value); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (r *Registration) keep(ctx context.Context) {
	defer close(r.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.session.Done():
		}
		r.logger.Warn("the lease in etcd is lost, registering again", "list", r.kind, "id", r.id)
		r.session = nil
		for r.session == nil {
			s, err := r.enter(ctx)
			if err == nil {
				r.session = s
				break
			}
			if ctx.Err() == nil {
				r.logger.Warn("cannot register in etcd, trying again", "list", r.kind, "id", r.id, obs.KeyError, err)
			}
			if lifecycle.Sleep(ctx, retryPause) != nil {
				return
			}
		}
		select {
		case r.renewed <- struct{}{}:
		default:
		}
	}
}

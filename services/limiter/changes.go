package limiter

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/etcdx"
	"github.com/chappe-im/chappe/pkg/obs"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

const (
	changesPrefix = "/changes/"
	// defaultChanges and maxChanges bound a page of the history.
	defaultChanges = 50
	maxChanges     = 1000
	// pruneEvery is how often the history is cut to its length.
	pruneEvery    = time.Hour
	maxActorBytes = 128
	// maxDetails bounds the lines of one change.
	maxDetails = 500
)

// Change is an entry of the history: who changed what, when.
type Change struct {
	// Timestamp is in Unix milliseconds.
	Timestamp int64    `json:"timestamp"`
	Actor     string   `json:"actor"`
	Subject   string   `json:"subject"`
	Details   []string `json:"details"`
}

func appSubject(org, app string) string { return "app/" + org + "/" + app }
func tierSubject(name string) string    { return "tier/" + name }

// change makes the write that enters a change into the history; it goes into
// the transaction of the change itself. Keys sort by time.
func (s *Service) change(actor, subject string, details []string) (etcdx.Write, error) {
	if actor == "" {
		actor = "unknown"
	}
	if len(actor) > maxActorBytes {
		actor = strings.ToValidUTF8(actor[:maxActorBytes], "")
	}
	if len(details) > maxDetails {
		details = append(details[:maxDetails:maxDetails], fmt.Sprintf("and %d more", len(details)-maxDetails))
	}
	now := s.deps.Now()
	value, err := json.Marshal(Change{Timestamp: now.UnixMilli(), Actor: actor, Subject: subject, Details: details})
	if err != nil {
		return etcdx.Write{}, errs.Internal(err)
	}
	var unique [4]byte
	_, _ = rand.Read(unique[:]) // never fails: the program ends instead
	return etcdx.Write{Key: fmt.Sprintf("%s%019d-%s", changesPrefix, now.UnixNano(), hex.EncodeToString(unique[:])), Value: value}, nil
}

// ListChanges returns the history, newest first: of one subject, or all of it.
func (s *Service) ListChanges(ctx context.Context, req *limiterv1.ListChangesRequest) (*limiterv1.ListChangesResponse, error) {
	if !validSubject(req.GetSubject()) {
		return nil, errs.Invalid("subject must be tier/NAME, app/ORG/APP or empty")
	}
	changes, err := s.changes(ctx, req.GetSubject(), int(req.GetLimit()))
	if err != nil {
		return nil, err
	}
	resp := &limiterv1.ListChangesResponse{}
	for _, c := range changes {
		resp.Changes = append(resp.Changes, &limiterv1.Change{
			Timestamp: c.Timestamp, Actor: c.Actor, Subject: c.Subject, Details: c.Details,
		})
	}
	return resp, nil
}

// changes reads the history, newest first; an empty subject reads all of it.
func (s *Service) changes(ctx context.Context, subject string, limit int) ([]Change, error) {
	if limit <= 0 {
		limit = defaultChanges
	}
	limit = min(limit, maxChanges)
	read := int64(limit)
	if subject != "" {
		// The subject is not in the key: the history is short, and nothing
		// else asks for it.
		read = int64(2 * s.cfg.KeepChanges)
	}
	kvs, err := s.deps.Etcd.ListLast(ctx, changesPrefix, read)
	if err != nil {
		return nil, err
	}
	var out []Change
	for _, kv := range kvs {
		var c Change
		if err := json.Unmarshal(kv.Value, &c); err != nil {
			s.deps.Logger.WarnContext(ctx, "unreadable entry in the history", "key", kv.Key, obs.KeyError, err)
			continue
		}
		if subject != "" && c.Subject != subject {
			continue
		}
		if out = append(out, c); len(out) == limit {
			break
		}
	}
	return out, nil
}

// pruneChanges cuts the history to its length now and then. Several limiters
// may do so at once: deleting twice does no harm.
func (s *Service) pruneChanges(ctx context.Context) {
	t := time.NewTicker(pruneEvery)
	defer t.Stop()
	for {
		if err := s.prune(ctx); err != nil && ctx.Err() == nil {
			s.deps.Logger.WarnContext(ctx, "cannot shorten the history", obs.KeyError, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (s *Service) prune(ctx context.Context) error {
	kvs, _, err := s.deps.Etcd.List(ctx, changesPrefix)
	if err != nil {
		return err
	}
	for len(kvs) > s.cfg.KeepChanges {
		// etcd takes at most 128 operations in a transaction.
		n := min(100, len(kvs)-s.cfg.KeepChanges)
		writes := make([]etcdx.Write, n)
		for i, kv := range kvs[:n] {
			writes[i] = etcdx.Write{Key: kv.Key, Delete: true}
		}
		if _, _, err := s.deps.Etcd.Commit(ctx, nil, writes); err != nil {
			return err
		}
		kvs = kvs[n:]
	}
	return nil
}

// validSubject reports whether a subject is empty or has one of the two forms.
func validSubject(subject string) bool {
	switch parts := strings.Split(subject, "/"); len(parts) {
	case 1:
		return subject == ""
	case 2:
		return parts[0] == "tier" && parts[1] != ""
	case 3:
		return parts[0] == "app" && parts[1] != "" && parts[2] != ""
	default:
		return false
	}
}

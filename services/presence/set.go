package presence

import (
	"context"
	"strconv"
	"strings"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/names"
)

// Bounds and texts of the wire contract.
const (
	maxExtBytes = 1024

	msgBadStatus   = "set presence failed"
	msgExtTooBig   = "ext is too big"
	msgBadResource = "resource not exist"
)

// setPresence stores what a device says of itself and tells the subscribers.
func (s *Service) setPresence(ctx context.Context, org, app, username, resource, status, ext string) error {
	status, ok := canonicalStatus(status)
	if !ok {
		return errs.Invalid(msgBadStatus)
	}
	if len(ext) > maxExtBytes {
		return errs.Invalid(msgExtTooBig)
	}
	if strings.IndexByte(ext, 0) >= 0 { // not every database takes it
		return errs.Invalid(errs.MessageInvalidRequest)
	}
	key := names.AppKey(org, app)
	connected := s.index.find(key, names.FoldUser(username), resource) != nil
	if !connected && !validResource(resource) {
		return errs.Invalid(msgBadResource)
	}
	_, user, err := s.knownUser(ctx, org, app, username)
	if err != nil {
		return err
	}
	// A millisecond later than it is, so that a login of this same millisecond,
	// which may be recorded only after this, comes first.
	at := s.deps.Now().UnixMilli() + 1
	if err := s.store.setStatus(ctx, key, user, resource, status, ext, connected, at); err != nil {
		return err
	}
	s.notices.changed(key, user)
	return nil
}

// canonicalStatus takes decimal numbers from 0 to 2147483647 and gives them
// without leading zeros.
func canonicalStatus(s string) (string, bool) {
	if len(s) > 10 || strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) >= 0 {
		return "", false
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return "", false
	}
	return strconv.FormatInt(n, 10), true
}

// validResource reports whether a device that is not connected may have the
// name: a kind of device, alone or with "_" and an ID.
func validResource(resource string) bool {
	if len(resource) > maxResourceBytes {
		return false
	}
	kind, id, hasID := strings.Cut(resource, "_")
	switch kind {
	case "android", "ios", "web", "webim":
	default:
		return false
	}
	if !hasID {
		return true
	}
	if id == "" {
		return false
	}
	for i := range len(id) {
		if !plain(id[i]) && id[i] != '.' {
			return false
		}
	}
	return true
}

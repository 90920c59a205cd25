package presence

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// Statuses with a meaning; all others are the app's own.
const (
	statusOffline = "0"
	statusOnline  = "1"
)

// Bounds and texts of the wire contract.
const (
	maxExtBytes = 1024

	msgBadStatus   = "set presence failed"
	msgExtTooBig   = "ext is too big"
	msgBadResource = "resource not exist"
	msgManyGets    = "too many get presences"
	msgNoUsers     = "usernames is empty"
)

// SetPresence stores what a device says of itself and tells the subscribers.
func (s *Service) SetPresence(ctx context.Context, req *presencev1.SetPresenceRequest) (*presencev1.SetPresenceResponse, error) {
	status, ok := canonicalStatus(req.GetStatus())
	if !ok {
		return nil, errs.Invalid(msgBadStatus)
	}
	if len(req.GetExt()) > maxExtBytes {
		return nil, errs.Invalid(msgExtTooBig)
	}
	if strings.IndexByte(req.GetExt(), 0) >= 0 { // not every database takes it
		return nil, invalid()
	}
	named := ident.User{App: ident.NewAppKey(req.GetOrg(), req.GetApp()), ID: ident.FoldUser(req.GetUsername())}
	connected := s.index.find(named.Device(req.GetResource())) != nil
	if !connected && !settableResource(req.GetResource()) {
		return nil, errs.Invalid(msgBadResource)
	}
	user, err := s.knownUser(ctx, req.GetOrg(), req.GetApp(), req.GetUsername())
	if err != nil {
		return nil, err
	}
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	// A millisecond later than it is, so that a login of this same millisecond,
	// which may be recorded only after this, comes first.
	at := s.deps.Now().UnixMilli() + 1
	device := deviceRow{status: status, loggedIn: connected, updated: at}
	if err := s.store.setStatus(ctx, app.Number, user.ID, req.GetResource(), device, req.GetExt()); err != nil {
		return nil, err
	}
	s.notices.changed(user)
	return &presencev1.SetPresenceResponse{}, nil
}

// canonicalStatus takes decimal numbers from 0 to 2147483647 and returns them
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

// settableResource reports whether a device that is not connected may have the
// name: a kind of device, alone or with "_" and an ID.
func settableResource(resource string) bool {
	if len(resource) > ident.MaxResource {
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

// GetPresence returns the presence of users, who need not exist, as the one who
// asks need not.
func (s *Service) GetPresence(ctx context.Context, req *presencev1.GetPresenceRequest) (*presencev1.GetPresenceResponse, error) {
	targets, err := foldTargets(req.GetUsernames(), msgNoUsers, msgManyGets)
	if err != nil {
		return nil, err
	}
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	result, err := s.presences(ctx, app, targets, 0)
	if err != nil {
		return nil, err
	}
	return &presencev1.GetPresenceResponse{Result: result}, nil
}

// foldTargets returns the stored form of the users a call names, or the error
// for none or too many.
func foldTargets(usernames []string, none, tooMany string) ([]ident.UserID, error) {
	if len(usernames) == 0 {
		return nil, errs.Invalid(none)
	}
	if len(usernames) > maxUsersPerCall {
		return nil, errs.Invalid(tooMany)
	}
	return ident.FoldUsers(usernames), nil
}

// distinct returns the values of a list without repetitions, in order.
func distinct(in []ident.UserID) []ident.UserID {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

// possible returns the users of a list who may exist, each once: databases need
// not look for the others, and some texts they do not even take.
func possible(users []ident.UserID) []ident.UserID {
	return slices.DeleteFunc(distinct(users), func(u ident.UserID) bool { return !u.Valid() })
}

// presences returns the presence of users in the order of the list. Those who
// cannot exist have an empty one.
func (s *Service) presences(ctx context.Context, app *catalog.App, users []ident.UserID, expiry int64) ([]*presencev1.Presence, error) {
	views, err := s.views(ctx, app, possible(users))
	if err != nil {
		return nil, err
	}
	out := make([]*presencev1.Presence, len(users))
	for i, u := range users {
		v := views[u]
		out[i] = &presencev1.Presence{Uid: string(u), LastTime: v.lastTime / 1000, Expiry: expiry, Ext: v.ext, Status: v.status}
	}
	return out, nil
}

// view is a user's presence as it is shown.
type view struct {
	// Unix milliseconds of the last login or logout, 0 for never.
	lastTime int64
	ext      string
	status   map[string]string
}

// views returns the presence of users, an empty one for those of whom nothing
// is known. It joins what is about to be stored, what is stored, and who is
// connected, in this order: what leaves one of them meanwhile is in the next.
func (s *Service) views(ctx context.Context, app *catalog.App, users []ident.UserID) (map[ident.UserID]view, error) {
	pending := make(map[ident.UserID][]deviceChange)
	for _, id := range users {
		if p := s.records.pending(ident.User{App: app.AppKey(), ID: id}); p != nil {
			pending[id] = p
		}
	}
	rows, err := s.store.statuses(ctx, app.Number, users)
	if err != nil {
		return nil, err
	}
	out := make(map[ident.UserID]view, len(users))
	for _, id := range users {
		row := rows[id]
		if row == nil {
			row = &statusRow{devices: make(map[string]deviceRow)}
		}
		for _, c := range pending[id] {
			row.apply(c)
		}
		out[id] = join(row, s.index.conns(ident.User{App: app.AppKey(), ID: id}))
	}
	return out, nil
}

// apply does to a row what recording a change does to what is stored.
func (row *statusRow) apply(c deviceChange) {
	row.lastTime = max(row.lastTime, c.at)
	if d, ok := row.devices[c.device.Resource]; ok && d.updated > c.at {
		return
	}
	d := deviceRow{status: statusOffline, loggedIn: true, updated: c.at}
	if c.online {
		d.status = statusOnline
	}
	row.devices[c.device.Resource] = d
}

func join(row *statusRow, conns []*conn) view {
	v := view{lastTime: row.lastTime, ext: row.ext, status: make(map[string]string, len(row.devices)+len(conns))}
	for resource, d := range row.devices {
		v.status[resource] = d.status
		if d.loggedIn {
			// Holds only while the device is connected; see below.
			v.status[resource] = statusOffline
		}
	}
	for _, c := range conns {
		v.lastTime = max(v.lastTime, c.since)
		v.status[c.device.Resource] = statusOnline
		if d, ok := row.devices[c.device.Resource]; ok && d.updated >= c.since {
			v.status[c.device.Resource] = d.status
		}
	}
	return v
}

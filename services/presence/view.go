package presence

import "context"

// Statuses with a meaning; all others are the app's own.
const (
	statusOffline = "0"
	statusOnline  = "1"
)

// view is a user's presence as it is shown.
type view struct {
	// Unix milliseconds of the last login or logout, 0 for never.
	lastTime int64
	ext      string
	status   map[string]string
}

// views gives the presence of users, an empty one for those of whom nothing is
// known. It joins what is about to be stored, what is stored, and who is
// connected, in this order: what leaves one of them meanwhile is in the next.
func (s *Service) views(ctx context.Context, app string, users []string) (map[string]view, error) {
	pending := make(map[string][]deviceChange)
	for _, user := range users {
		if p := s.records.pending(app, user); p != nil {
			pending[user] = p
		}
	}
	rows, err := s.store.statuses(ctx, app, users)
	if err != nil {
		return nil, err
	}
	out := make(map[string]view, len(users))
	for _, user := range users {
		row := rows[user]
		if row == nil {
			row = &statusRow{devices: make(map[string]deviceRow)}
		}
		for _, c := range pending[user] {
			row.apply(c)
		}
		out[user] = join(row, s.index.conns(app, user))
	}
	return out, nil
}

// apply does to a row what recording a change does to what is stored.
func (row *statusRow) apply(c deviceChange) {
	row.lastTime = max(row.lastTime, c.at)
	if d, ok := row.devices[c.resource]; ok && d.updated > c.at {
		return
	}
	d := deviceRow{status: statusOffline, loggedIn: true, updated: c.at}
	if c.online {
		d.status = statusOnline
	}
	row.devices[c.resource] = d
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
		v.status[c.resource] = statusOnline
		if d, ok := row.devices[c.resource]; ok && d.updated >= c.since {
			v.status[c.resource] = d.status
		}
	}
	return v
}

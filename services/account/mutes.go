package account

import (
	"context"
	"database/sql"
	"fmt"
	"math"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/store"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// muteKind is the kind of chat that a mute is for, as it is stored.
type muteKind int

const (
	muteChat      muteKind = 1
	muteGroupChat muteKind = 2
	muteChatRoom  muteKind = 3
)

func (k muteKind) String() string {
	switch k {
	case muteChat:
		return "chat"
	case muteGroupChat:
		return "groupchat"
	case muteChatRoom:
		return "chatroom"
	default:
		return fmt.Sprintf("muteKind(%d)", int(k))
	}
}

// forever is the end of a mute that has none, and its length in seconds.
const forever = -1

// Pages of mutes.
const maxMutePage = 50

// SetGlobalMute forbids a user to send, or allows it again, by kind of chat.
// A mute is stored as the instant at which it ends, so nothing has to run for
// it to end.
func (s *Service) SetGlobalMute(ctx context.Context, req *accountv1.SetGlobalMuteRequest) (*accountv1.SetGlobalMuteResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	changes := []struct {
		kind    muteKind
		seconds *int64
	}{{muteChat, req.Chat}, {muteGroupChat, req.Groupchat}, {muteChatRoom, req.Chatroom}}
	for _, c := range changes {
		if c.seconds != nil && (*c.seconds < forever || *c.seconds > math.MaxInt32) {
			return nil, invalid()
		}
	}
	id, err := s.findUserID(ctx, app.Number, req.GetUsername())
	if err != nil {
		return nil, noProperty(err)
	}
	err = s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		if err := s.holdUsers(ctx, tx, app.Number, id); err != nil {
			return noProperty(err)
		}
		now := s.now().UnixMilli()
		// Mutes that have ended go when another is set; until then they only
		// take up space.
		if _, err := store.Exec(ctx, tx, `DELETE FROM mutes WHERE app = $1 AND until >= 0 AND until <= $2`, app.Number, now); err != nil {
			return fmt.Errorf("mutes: %w", err)
		}
		for _, c := range changes {
			if c.seconds == nil {
				continue
			}
			if err := setMute(ctx, tx, app.Number, id, c.kind, *c.seconds, now); err != nil {
				return err
			}
		}
		ev.changed(id, busv1.UserEvent_CHANGE_MUTES)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.settle(ctx)
	return &accountv1.SetGlobalMuteResponse{}, nil
}

func setMute(ctx context.Context, tx *sql.Tx, app int64, id ident.UserID, kind muteKind, seconds, now int64) error {
	var err error
	if seconds == 0 {
		_, err = store.Exec(ctx, tx, `DELETE FROM mutes WHERE app = $1 AND username = $2 AND kind = $3`, app, id, int(kind))
	} else {
		until := int64(forever)
		if seconds > 0 {
			until = now + seconds*1000
		}
		_, err = store.Exec(ctx, tx, `INSERT INTO mutes (app, username, kind, until) VALUES ($1, $2, $3, $4)
			ON CONFLICT (app, username, kind) DO UPDATE SET until = excluded.until`, app, id, int(kind), until)
	}
	if err != nil {
		return fmt.Errorf("mutes: %w", err)
	}
	return nil
}

// left gives the seconds that a mute still has, rounded up.
func left(until, now int64) int64 {
	switch {
	case until == forever:
		return forever
	case until <= now:
		return 0
	default:
		return (until - now + 999) / 1000
	}
}

// GetGlobalMute tells how long a user is muted, by kind of chat.
func (s *Service) GetGlobalMute(ctx context.Context, req *accountv1.GetGlobalMuteRequest) (*accountv1.GetGlobalMuteResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	id, err := s.findUserID(ctx, app.Number, req.GetUsername())
	if err != nil {
		return nil, noProperty(err)
	}
	now := s.now()
	resp := &accountv1.GetGlobalMuteResponse{Username: string(id), Unixtime: now.Unix()}
	err = store.Each(ctx, s.db.Read(), `SELECT kind, until FROM mutes WHERE app = $1 AND username = $2`, []any{app.Number, id}, func(row store.Scanner) error {
		var kind muteKind
		var until int64
		if err := row.Scan(&kind, &until); err != nil {
			return err
		}
		seconds := left(until, now.UnixMilli())
		switch kind {
		case muteChat:
			resp.Chat = seconds
		case muteGroupChat:
			resp.Groupchat = seconds
		case muteChatRoom:
			resp.Chatroom = seconds
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListGlobalMutes pages through the mutes of the app that hold now, one entry
// for each user and kind, by user.
func (s *Service) ListGlobalMutes(ctx context.Context, req *accountv1.ListGlobalMutesRequest) (*accountv1.ListGlobalMutesResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	page, size := int64(1), int64(maxMutePage)
	if req.PageNum != nil {
		page = int64(req.GetPageNum())
	}
	if req.PageSize != nil {
		size = int64(req.GetPageSize())
	}
	if page < 1 || size < 1 || size > maxMutePage {
		return nil, invalid()
	}
	now := s.now()
	resp := &accountv1.ListGlobalMutesResponse{Unixtime: now.Unix()}
	err = store.Each(ctx, s.db.Read(), `SELECT username, kind, until FROM mutes
		WHERE app = $1 AND (until < 0 OR until > $2) ORDER BY username, kind LIMIT $3 OFFSET $4`,
		[]any{app.Number, now.UnixMilli(), size, (page - 1) * size}, func(row store.Scanner) error {
			var id string
			var kind muteKind
			var until int64
			if err := row.Scan(&id, &kind, &until); err != nil {
				return err
			}
			resp.Mutes = append(resp.Mutes, &accountv1.GlobalMute{Username: id, Kind: kind.String(), Seconds: left(until, now.UnixMilli())})
			return nil
		})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

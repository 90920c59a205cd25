package account

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/store"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// Kinds of conversations that a user has notification settings for.
const (
	kindUser  = 1
	kindGroup = 2
)

var (
	kindsByName = map[string]int{"user": kindUser, "chatgroup": kindGroup}
	kindNames   = map[int]string{kindUser: "user", kindGroup: "chatgroup"}
)

// Types of notification settings.
const (
	typeDefault = "DEFAULT"
	typeAll     = "ALL"
	typeAt      = "AT"
	typeNone    = "NONE"
)

const (
	// maxIgnoreDuration is a week.
	maxIgnoreDuration = 7 * 24 * time.Hour
	// maxNotifications bounds the conversations that a user has settings for.
	maxNotifications = 2000
	// maxAskedNotifications bounds those asked for at once.
	maxAskedNotifications = 100
	// maxNotificationPage bounds a page of those with a type of their own.
	maxNotificationPage = 50
)

// conversationKey is what a setting is about.
type conversationKey struct {
	kind   int
	target string
}

// parseConversation returns the key of a conversation that a call names.
func parseConversation(chatType, target string) (conversationKey, error) {
	k := conversationKey{kind: kindsByName[chatType], target: target}
	switch k.kind {
	case kindUser:
		k.target = string(ident.FoldUser(target))
		if !ident.ValidUser(target) {
			return k, invalid()
		}
	case kindGroup:
		if !validGroupID(target) {
			return k, invalid()
		}
	default:
		return k, invalid()
	}
	return k, nil
}

// setting is a notification setting as it is stored.
type setting struct {
	kind  string
	quiet string
	until int64
}

// proto returns the setting as it holds now.
func (n setting) proto(now time.Time) *accountv1.Notification {
	p := &accountv1.Notification{Type: n.kind, IgnoreInterval: n.quiet}
	if n.until > now.UnixMilli() {
		p.IgnoreUntil = n.until
	}
	return p
}

// unset is the setting of a conversation that has none, or of all
// conversations of a user who has none.
func unset(own bool) setting {
	if own {
		return setting{kind: typeAll}
	}
	return setting{kind: typeDefault}
}

// SetNotification implements accountv1.PushServiceServer.
func (s *Service) SetNotification(ctx context.Context, req *accountv1.SetNotificationRequest) (*accountv1.SetNotificationResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	key, err := parseConversation(req.GetChatType(), req.GetTarget())
	if err != nil {
		return nil, err
	}
	if err := checkNotification(req); err != nil {
		return nil, err
	}
	id, err := s.findUserID(ctx, app.Number, req.GetUsername())
	if err != nil {
		return nil, err
	}
	var after setting
	err = s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		if err := s.holdUsers(ctx, tx, app.Number, id); err != nil {
			return err
		}
		if after, err = s.storeNotification(ctx, tx, app.Number, id, key, req); err != nil {
			return err
		}
		ev.changed(id, busv1.UserEvent_CHANGE_PUSH_SETTINGS)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &accountv1.SetNotificationResponse{Notification: after.proto(s.now())}, nil
}

func checkNotification(req *accountv1.SetNotificationRequest) error {
	switch {
	case req.Type == nil && req.IgnoreInterval == nil && req.IgnoreDuration == nil:
		return invalid()
	case req.Type != nil && !validType(req.GetType()):
		return badParameter("type")
	case req.GetIgnoreInterval() != "" && !validInterval(req.GetIgnoreInterval()):
		return badParameter("ignoreInterval")
	case req.GetIgnoreDuration() < 0, req.GetIgnoreDuration() > maxIgnoreDuration.Milliseconds():
		return badParameter("ignoreDuration")
	default:
		return nil
	}
}

func validType(t string) bool {
	return t == typeDefault || t == typeAll || t == typeAt || t == typeNone
}

// validInterval reports whether a text is "HH:MM-HH:MM"; leading zeros may be
// missing.
func validInterval(text string) bool {
	from, to, ok := strings.Cut(text, "-")
	return ok && validMinute(from) && validMinute(to)
}

func validMinute(text string) bool {
	hour, minute, ok := strings.Cut(text, ":")
	return ok && validPart(hour, 23) && validPart(minute, 59)
}

func validPart(text string, highest int) bool {
	if text == "" || len(text) > 2 || strings.Trim(text, "0123456789") != "" {
		return false
	}
	n, err := strconv.Atoi(text)
	return err == nil && n <= highest
}

// storeNotification merges what a request has into a stored setting, of a user
// whom the transaction holds.
func (s *Service) storeNotification(ctx context.Context, tx *sql.Tx, app int64, id ident.UserID, key conversationKey, req *accountv1.SetNotificationRequest) (setting, error) {
	after := unset(key == conversationKey{kindUser, string(id)})
	found, err := store.Row(ctx, tx, `SELECT type, quiet, until FROM notifications WHERE app = $1 AND username = $2 AND kind = $3 AND target = $4`,
		[]any{app, id, key.kind, key.target}, &after.kind, &after.quiet, &after.until)
	if err != nil {
		return after, fmt.Errorf("notification settings: %w", err)
	}
	if req.Type != nil {
		after.kind = req.GetType()
	}
	if req.IgnoreInterval != nil {
		after.quiet = req.GetIgnoreInterval()
	}
	if req.IgnoreDuration != nil {
		if after.until = 0; req.GetIgnoreDuration() > 0 {
			after.until = s.now().UnixMilli() + req.GetIgnoreDuration()
		}
	}
	if _, err := store.Exec(ctx, tx, `INSERT INTO notifications (app, username, kind, target, type, quiet, until) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (app, username, kind, target) DO UPDATE SET type = excluded.type, quiet = excluded.quiet, until = excluded.until`,
		app, id, key.kind, key.target, after.kind, after.quiet, after.until); err != nil {
		return after, fmt.Errorf("notification settings: %w", err)
	}
	if found {
		return after, nil
	}
	n := 0
	if _, err := store.Row(ctx, tx, `SELECT COUNT(*) FROM notifications WHERE app = $1 AND username = $2`, []any{app, id}, &n); err != nil {
		return after, fmt.Errorf("notification settings: %w", err)
	}
	if n > maxNotifications {
		return after, errs.Forbidden(fmt.Sprintf("there are settings for %d conversations, which is as many as there may be", maxNotifications))
	}
	return after, nil
}

// GetNotification implements accountv1.PushServiceServer.
func (s *Service) GetNotification(ctx context.Context, req *accountv1.GetNotificationRequest) (*accountv1.GetNotificationResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	key, err := parseConversation(req.GetChatType(), req.GetTarget())
	if err != nil {
		return nil, err
	}
	id, err := s.findUserID(ctx, app.Number, req.GetUsername())
	if err != nil {
		return nil, err
	}
	all, err := s.notifications(ctx, app.Number, id, []conversationKey{key})
	if err != nil {
		return nil, err
	}
	return &accountv1.GetNotificationResponse{Notification: all[0].proto(s.now())}, nil
}

// notifications reads the settings of conversations, in their order.
func (s *Service) notifications(ctx context.Context, app int64, id ident.UserID, keys []conversationKey) ([]setting, error) {
	args := []any{app, id}
	for _, k := range keys {
		args = append(args, k.target)
	}
	found := make(map[conversationKey]setting, len(keys))
	err := store.Each(ctx, s.db.Read(), `SELECT kind, target, type, quiet, until FROM notifications
		WHERE app = $1 AND username = $2 AND target IN (`+store.In(3, len(keys))+`)`, args, func(row store.Scanner) error {
		var k conversationKey
		var n setting
		if err := row.Scan(&k.kind, &k.target, &n.kind, &n.quiet, &n.until); err != nil {
			return err
		}
		found[k] = n
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]setting, len(keys))
	for i, k := range keys {
		n, ok := found[k]
		if !ok {
			n = unset(k == conversationKey{kindUser, string(id)})
		}
		out[i] = n
	}
	return out, nil
}

// GetNotifications implements accountv1.PushServiceServer.
func (s *Service) GetNotifications(ctx context.Context, req *accountv1.GetNotificationsRequest) (*accountv1.GetNotificationsResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	var keys []conversationKey
	for _, list := range []struct{ chatType, ids string }{{kindNames[kindUser], req.GetUser()}, {kindNames[kindGroup], req.GetGroup()}} {
		for target := range strings.SplitSeq(list.ids, ",") {
			if target == "" {
				continue // an empty list, or a comma at its end
			}
			key, err := parseConversation(list.chatType, target)
			if err != nil {
				return nil, err
			}
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 || len(keys) > maxAskedNotifications {
		return nil, invalid()
	}
	id, err := s.findUserID(ctx, app.Number, req.GetUsername())
	if err != nil {
		return nil, err
	}
	all, err := s.notifications(ctx, app.Number, id, keys)
	if err != nil {
		return nil, err
	}
	resp, now := &accountv1.GetNotificationsResponse{}, s.now()
	for i, k := range keys {
		t := &accountv1.TargetNotification{Target: k.target, Notification: all[i].proto(now)}
		if k.kind == kindUser {
			resp.Users = append(resp.Users, t)
		} else {
			resp.Groups = append(resp.Groups, t)
		}
	}
	return resp, nil
}

// ListNotificationTypes implements accountv1.PushServiceServer.
func (s *Service) ListNotificationTypes(ctx context.Context, req *accountv1.ListNotificationTypesRequest) (*accountv1.ListNotificationTypesResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	limit, err := pageLimit(req.Limit)
	if err != nil {
		return nil, err
	}
	limit = min(limit, maxNotificationPage)
	// A cursor is that of a relation, with the kind in the place of an instant.
	after := relationPosition{}
	if req.GetCursor() != "" {
		if after, err = parseRelationCursor(req.GetCursor()); err != nil {
			return nil, err
		}
		if after.added < kindUser || after.added > kindGroup {
			return nil, invalid()
		}
	}
	id, err := s.findUserID(ctx, app.Number, req.GetUsername())
	if err != nil {
		return nil, err
	}
	resp := &accountv1.ListNotificationTypesResponse{}
	var last relationPosition
	err = store.Each(ctx, s.db.Read(), `SELECT kind, target, type FROM notifications WHERE app = $1 AND username = $2 AND type <> $3
		AND NOT (kind = $4 AND target = $5) AND (kind, target) > ($6, $7) ORDER BY kind, target LIMIT $8`,
		[]any{app.Number, id, typeDefault, kindUser, id, after.added, after.user, limit + 1}, func(row store.Scanner) error {
			var kind int
			n := &accountv1.NotificationType{}
			if err := row.Scan(&kind, &n.Target, &n.Type); err != nil {
				return err
			}
			if len(resp.GetTypes()) == limit {
				resp.Cursor = last.cursor()
				return nil
			}
			n.ChatType = kindNames[kind]
			last = relationPosition{added: int64(kind), user: n.GetTarget()}
			resp.Types = append(resp.Types, n)
			return nil
		})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// LookupPush implements accountv1.PushServiceServer. A user who does not exist
// has settings like one who has set nothing.
func (s *Service) LookupPush(ctx context.Context, req *accountv1.LookupPushRequest) (*accountv1.LookupPushResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	id, now := ident.FoldUser(req.GetUsername()), s.now()
	resp := &accountv1.LookupPushResponse{Own: unset(true).proto(now)}
	var language, template, title, text sql.NullString
	_, err = store.Row(ctx, s.db.Read(), `SELECT u.push_language, t.name, t.title_pattern, t.content_pattern FROM users u
		LEFT JOIN push_templates t ON t.app = u.app AND t.name = u.push_template WHERE u.app = $1 AND u.username = $2`,
		[]any{app.Number, id}, &language, &template, &title, &text)
	if err != nil {
		return nil, err
	}
	resp.Language = language.String
	if template.Valid {
		resp.Template = &accountv1.Template{Name: template.String, TitlePattern: title.String, ContentPattern: text.String}
	}
	err = store.Each(ctx, s.db.Read(), `SELECT kind, target, type, quiet, until FROM notifications WHERE app = $1 AND username = $2`,
		[]any{app.Number, id}, func(row store.Scanner) error {
			var k conversationKey
			var n setting
			if err := row.Scan(&k.kind, &k.target, &n.kind, &n.quiet, &n.until); err != nil {
				return err
			}
			p := n.proto(now)
			switch {
			case k == conversationKey{kindUser, string(id)}:
				resp.Own = p
			case k.kind == kindUser:
				resp.Users = append(resp.Users, &accountv1.TargetNotification{Target: k.target, Notification: p})
			default:
				resp.Groups = append(resp.Groups, &accountv1.TargetNotification{Target: k.target, Notification: p})
			}
			return nil
		})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

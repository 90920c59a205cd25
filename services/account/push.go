package account

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/store"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

const (
	// maxPushText bounds tokens and names of push services, in characters.
	maxPushText = 512
	// maxIgnoredGroups bounds the groups whose push a user has set.
	maxIgnoredGroups = 2000
	// maxGroupID bounds a group ID in bytes.
	maxGroupID = 32
)

// UpdatePushSettings merges the given settings into the user's.
func (s *Service) UpdatePushSettings(ctx context.Context, req *accountv1.UpdatePushSettingsRequest) (*accountv1.UpdatePushSettingsResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	set, args, err := pushChanges(req)
	if err != nil {
		return nil, err
	}
	id, err := s.findUserID(ctx, app.Number, req.GetUsername())
	if err != nil {
		return nil, noProperty(err)
	}
	set = append(set, fmt.Sprintf("modified = $%d", len(args)+1))
	args = append(args, s.now().UnixMilli(), app.Number, id)
	query := fmt.Sprintf(`UPDATE users SET %s WHERE app = $%d AND username = $%d RETURNING `,
		strings.Join(set, ", "), len(args)-1, len(args)) + userColumns

	var u *user
	err = s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		if u, err = readUser(ctx, tx, query, args...); err != nil {
			return err
		}
		if err := mergeIgnored(ctx, tx, app.Number, u, req.GetNotificationIgnore()); err != nil {
			return err
		}
		ev.changed(id, busv1.UserEvent_CHANGE_PUSH_SETTINGS)
		if req.DeviceToken != nil && req.NotifierName != nil {
			return bind(ctx, tx, app.Number, u, binding{req.GetDeviceId(), req.GetNotifierName(), req.GetDeviceToken()})
		}
		return nil
	})
	if err != nil {
		return nil, noProperty(err)
	}
	return &accountv1.UpdatePushSettingsResponse{User: u.proto()}, nil
}

// pushChanges gives the assignments of an UPDATE with their values.
func pushChanges(req *accountv1.UpdatePushSettingsRequest) (set []string, args []any, err error) {
	put := func(column string, value any) {
		args = append(args, value)
		set = append(set, fmt.Sprintf("%s = $%d", column, len(args)))
	}
	// An empty text clears the setting.
	putText := func(column, field string, value *string, fits bool) {
		if value == nil {
			return
		}
		if !fits {
			err = badParameter(field)
		}
		put(column, sql.NullString{String: *value, Valid: *value != ""})
	}
	putNumber := func(column, field string, value *int32, high int32) {
		if value == nil {
			return
		}
		if *value < 0 || *value > high {
			err = badParameter(field)
		}
		put(column, *value)
	}
	putText("nickname", "nickname", req.Nickname, fits(req.GetNickname(), maxNickname))
	if utf8.RuneCountInString(req.GetNickname()) > maxNickname {
		err = errs.Invalid(textLongNickname)
	}
	putNumber("display_style", "notification_display_style", req.NotificationDisplayStyle, 1)
	if req.NotificationNoDisturbing != nil {
		put("no_disturbing", req.GetNotificationNoDisturbing())
	}
	putNumber("no_disturbing_start", "notification_no_disturbing_start", req.NotificationNoDisturbingStart, 23)
	putNumber("no_disturbing_end", "notification_no_disturbing_end", req.NotificationNoDisturbingEnd, 23)
	putText("notifier_name", "notifier_name", req.NotifierName, fits(req.GetNotifierName(), maxPushText))
	putText("device_token", "device_token", req.DeviceToken, fits(req.GetDeviceToken(), maxPushText))
	putText("device_id", "device_id", req.DeviceId, fits(req.GetDeviceId(), maxPushText))
	for group := range req.GetNotificationIgnore() {
		if !validGroupID(group) {
			err = badParameter("notification_ignore_" + group)
		}
	}
	if len(set) == 0 && len(req.GetNotificationIgnore()) == 0 {
		err = invalid()
	}
	return set, args, err
}

// badParameter is the error of a push setting that does not fit.
func badParameter(field string) error { return errs.Invalid("parameters is invalid : " + field) }

func validGroupID(id string) bool {
	return id != "" && len(id) <= maxGroupID && strings.Trim(id, "0123456789") == ""
}

// mergeIgnored merges muted groups into u's, whose row the transaction has
// already changed and so holds.
func mergeIgnored(ctx context.Context, tx *sql.Tx, app int64, u *user, changes map[string]bool) error {
	if len(changes) == 0 {
		return nil
	}
	all := decodeIgnored(u.ignoredGroups.String)
	maps.Copy(all, changes)
	if len(all) > maxIgnoredGroups {
		return invalid()
	}
	doc, err := json.Marshal(all)
	if err != nil {
		return errs.Internal(err)
	}
	u.ignoredGroups = sql.NullString{String: string(doc), Valid: true}
	_, err = store.Exec(ctx, tx, `UPDATE users SET ignored_groups = $1 WHERE app = $2 AND username = $3`, u.ignoredGroups, app, u.username)
	if err != nil {
		return fmt.Errorf("muted groups: %w", err)
	}
	return nil
}

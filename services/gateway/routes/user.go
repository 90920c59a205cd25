package routes

import (
	"encoding/json"
	"strings"

	"google.golang.org/protobuf/proto"

	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	"github.com/chappe-im/chappe/services/gateway/restjson"
)

// user is one user as answers show them; settings that are not set are left
// out.
type user struct {
	userFields

	ignore map[string]bool `openapi:"additional"`
}

type userFields struct {
	UUID       string  `json:"uuid"`
	Type       string  `json:"type"`
	Created    int64   `json:"created"`
	Modified   int64   `json:"modified"`
	Username   string  `json:"username"`
	Activated  bool    `json:"activated"`
	Nickname   *string `json:"nickname,omitempty"`
	Style      *int32  `json:"notification_display_style,omitempty"`
	Disturbing *bool   `json:"notification_no_disturbing,omitempty"`
	Start      *int32  `json:"notification_no_disturbing_start,omitempty"`
	End        *int32  `json:"notification_no_disturbing_end,omitempty"`
	Notifier   *string `json:"notifier_name,omitempty"`
	Device     *string `json:"device_token,omitempty"`
}

func userOf(u *accountv1.User) user {
	if u == nil {
		u = &accountv1.User{}
	}
	return user{userFields{
		UUID: u.GetUuid(), Type: "user", Created: u.GetCreated(), Modified: u.GetModified(), Username: u.GetUsername(), Activated: u.GetActivated(),
		Nickname: u.Nickname, Style: u.NotificationDisplayStyle, Disturbing: u.NotificationNoDisturbing,
		Start: u.NotificationNoDisturbingStart, End: u.NotificationNoDisturbingEnd, Notifier: u.NotifierName, Device: u.DeviceToken,
	}, u.GetNotificationIgnore()}
}

// MarshalJSON adds the fields whose names depend on the user's groups.
func (u user) MarshalJSON() ([]byte, error) {
	raw, err := json.Marshal(u.userFields)
	if err != nil || len(u.ignore) == 0 {
		return raw, err
	}
	ignored := make(map[string]bool, len(u.ignore))
	for group, on := range u.ignore {
		ignored[ignorePrefix+group] = on
	}
	more, err := json.Marshal(ignored)
	if err != nil {
		return nil, err
	}
	return append(append(raw[:len(raw)-1], ','), more[1:]...), nil
}

// ignorePrefix begins the names of fields that mute push for one group each.
const ignorePrefix = "notification_ignore_"

// ignoreGroup reads such a field.
func ignoreGroup(req proto.Message, name string, value []byte) error {
	m, _ := req.(*accountv1.UpdatePushSettingsRequest)
	group, isIgnore := strings.CutPrefix(name, ignorePrefix)
	if !isIgnore || group == "" || restjson.IsNull(value) {
		return nil
	}
	on, ok := restjson.Bool(value)
	if !ok {
		return restjson.Invalid()
	}
	if m.NotificationIgnore == nil {
		m.NotificationIgnore = make(map[string]bool, 1)
	}
	m.NotificationIgnore[group] = on
	return nil
}

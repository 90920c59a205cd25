package routes

import (
	"encoding/json"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
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

	PushInfo []pushInfo `json:"pushInfo,omitempty"`
}

// pushInfo is a push token of one of the user's devices.
type pushInfo struct {
	DeviceID string `json:"device_Id"`
	Device   string `json:"device_token"`
	Notifier string `json:"notifier_name"`
}

func pushInfoOf(b *accountv1.PushBinding) pushInfo {
	return pushInfo{b.GetDeviceId(), b.GetDeviceToken(), b.GetNotifierName()}
}

func userOf(u *accountv1.User) user {
	if u == nil {
		u = &accountv1.User{}
	}
	return user{userFields{
		UUID: u.GetUuid(), Type: "user", Created: u.GetCreated(), Modified: u.GetModified(), Username: u.GetUsername(), Activated: u.GetActivated(),
		Nickname: u.Nickname, Style: u.NotificationDisplayStyle, Disturbing: u.NotificationNoDisturbing,
		Start: u.NotificationNoDisturbingStart, End: u.NotificationNoDisturbingEnd, Notifier: u.NotifierName, Device: u.DeviceToken,
		PushInfo: each(u.GetPushInfo(), pushInfoOf),
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

// pushBody is how push settings are read.
func pushBody() restjson.Body {
	return restjson.Body{
		Hidden: []string{"notification_ignore"}, Other: otherPushField,
		Error: func(field string, err error) error {
			if field == "" {
				return err
			}
			return badParameter(field)
		},
	}
}

// badParameter is the error of a push setting that does not fit.
func badParameter(name string) error { return errs.Invalid("parameters is invalid : " + name) }

// otherPushField reads the fields of push settings whose names no message has.
func otherPushField(req proto.Message, name string, value []byte) error {
	m, _ := req.(*accountv1.UpdatePushSettingsRequest)
	if list, ok := restjson.NewArray(value); ok && name == "entities" {
		// Old client SDKs send the settings as the entities of an answer.
		body := pushBody()
		for element, more := list.Next(); more; element, more = list.Next() {
			if err := body.Unmarshal(element, m); err != nil {
				return err
			}
		}
		return nil
	}
	group, isIgnore := strings.CutPrefix(name, ignorePrefix)
	if !isIgnore || group == "" || restjson.IsNull(value) {
		return nil
	}
	on, ok := restjson.Bool(value)
	if !ok {
		return badParameter(name)
	}
	if m.NotificationIgnore == nil {
		m.NotificationIgnore = make(map[string]bool, 1)
	}
	m.NotificationIgnore[group] = on
	return nil
}

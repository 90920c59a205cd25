package dialect

import (
	"bytes"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/chappe-im/chappe/pkg/errs"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// decodeRegisterUsers takes an object for one user and an array for a batch. A
// call without a body registers one user who lacks everything.
func decodeRegisterUsers(raw []byte, m *accountv1.RegisterUsersRequest) error {
	if a, ok := NewArray(raw); ok {
		m.Batch = true
		for {
			element, ok := a.Next()
			if !ok {
				return nil
			}
			user := &accountv1.NewUser{}
			if err := decodeMessage(element, user.ProtoReflect()); err != nil {
				return err
			}
			m.Users = append(m.Users, user)
		}
	}
	user := &accountv1.NewUser{}
	m.Users = []*accountv1.NewUser{user}
	if len(raw) == 0 {
		return nil
	}
	return decodeMessage(raw, user.ProtoReflect())
}

// decodeNicknames takes an array of objects.
func decodeNicknames(raw []byte, m *accountv1.SetPushNicknamesRequest) error {
	if len(raw) == 0 {
		return nil
	}
	if o, ok := NewObject(raw); ok {
		if _, _, more := o.Next(); !more {
			return nil // nobody, as without a body
		}
	}
	a, ok := NewArray(raw)
	if !ok {
		return invalid()
	}
	for {
		element, ok := a.Next()
		if !ok {
			return nil
		}
		n := &accountv1.PushNickname{}
		if err := decodeMessage(element, n.ProtoReflect()); err != nil {
			return err
		}
		m.Nicknames = append(m.Nicknames, n)
	}
}

// ignorePrefix begins the names of fields that mute push for one group each.
const ignorePrefix = "notification_ignore_"

func decodePushSettings(raw []byte, m *accountv1.UpdatePushSettingsRequest) error {
	if len(raw) == 0 {
		return nil
	}
	o, ok := NewObject(raw)
	if !ok {
		return invalid()
	}
	settings := m.ProtoReflect()
	for {
		name, value, ok := o.Next()
		if !ok {
			return nil
		}
		if list, isList := NewArray(value); isList && string(name) == "entities" {
			// Old client SDKs send the settings as the entities of an answer.
			for {
				element, more := list.Next()
				if !more {
					break
				}
				if err := decodePushSettings(element, m); err != nil {
					return err
				}
			}
			continue
		}
		group, isIgnore := strings.CutPrefix(string(name), ignorePrefix)
		if isIgnore && group != "" {
			if IsNull(value) {
				continue
			}
			on, ok := boolean(value)
			if !ok {
				return badParameter(string(name))
			}
			if m.NotificationIgnore == nil {
				m.NotificationIgnore = make(map[string]bool, 1)
			}
			m.NotificationIgnore[group] = on
			continue
		}
		if f := field(settings.Descriptor(), string(name)); f != nil && !f.IsMap() {
			if err := setField(settings, f, value); err != nil {
				return badParameter(string(name))
			}
		}
	}
}

// badParameter is the error of a push setting that does not fit.
func badParameter(name string) error { return errs.Invalid("parameters is invalid : " + name) }

// decodeUnsubscribe takes a bare array of user IDs, or an object that holds it
// as users or usernames.
func decodeUnsubscribe(raw []byte, m *presencev1.UnsubscribePresenceRequest) error {
	if o, ok := NewObject(raw); ok {
		raw = nil
		for {
			name, value, ok := o.Next()
			if !ok {
				break
			}
			if n := string(name); (n == "users" || n == "usernames") && !IsNull(value) {
				raw = value
			}
		}
	}
	if len(raw) == 0 {
		return nil
	}
	users, ok := strs(raw, m.Usernames)
	if !ok {
		return invalid()
	}
	m.Usernames = users
	return nil
}

// decodeAttributes takes a form, or a JSON object of strings. curl labels JSON
// as a form, so what looks like JSON is meant as such under either label: a
// form has a "=", and escapes what JSON begins with.
func decodeAttributes(body []byte, form bool, m *accountv1.SetUserAttributesRequest) error {
	raw := trim(body)
	if len(raw) == 0 {
		return nil
	}
	err := Check(body)
	o, isObject := NewObject(raw)
	switch {
	case err == nil && isObject:
		return decodeAttributesJSON(o, m)
	case form && bytes.IndexByte(raw, '=') >= 0 && bytes.IndexByte([]byte(`{["`), raw[0]) < 0:
		return decodeAttributesForm(raw, m)
	case err != nil:
		return ParseError(err)
	default:
		return invalid()
	}
}

func decodeAttributesJSON(o Object, m *accountv1.SetUserAttributesRequest) error {
	m.Attributes = make(map[string]string)
	for {
		name, value, ok := o.Next()
		if !ok {
			return nil
		}
		switch value[0] {
		case '{', '[', 'n':
			return invalid()
		default:
			m.Attributes[string(name)] = text(value)
		}
	}
}

func decodeAttributesForm(raw []byte, m *accountv1.SetUserAttributesRequest) error {
	pairs, err := url.ParseQuery(string(raw))
	if err != nil {
		return invalid()
	}
	m.Attributes = make(map[string]string, len(pairs))
	for name, values := range pairs {
		value := values[len(values)-1]
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return invalid()
		}
		m.Attributes[name] = value
	}
	return nil
}

// decodeSendToUsers is on the hottest path of all and therefore by hand.
func decodeSendToUsers(raw []byte, m *messagingv1.SendToUsersRequest) error {
	if len(raw) == 0 {
		return nil
	}
	o, ok := NewObject(raw)
	if !ok {
		return errs.InvalidBody()
	}
	for {
		name, value, more := o.Next()
		if !more {
			return nil
		}
		null := IsNull(value)
		ok := true
		switch string(name) {
		case "body":
			m.Body = append([]byte{}, value...)
			ok = null || value[0] == '{'
		case "ext":
			m.Ext = append([]byte{}, value...)
		case "to":
			if !null {
				m.To, ok = strs(value, m.To[:0])
			}
		case "from":
			if !null {
				var from string
				from, ok = str(value)
				m.From = &from
			}
		case "type":
			if !null {
				m.Type, ok = str(value)
			}
		case "routetype":
			if !null {
				m.Routetype, ok = str(value)
			}
		case "sync_device", "syncDevice":
			if !null {
				m.SyncDevice, ok = boolean(value)
			}
		case "msg_timestamp", "msgTimestamp":
			if !null {
				m.MsgTimestamp, ok = integer(value, 64)
			}
		}
		if !ok {
			return errs.InvalidBody()
		}
	}
}

// types are the message types, so that decoding one allocates nothing.
var types = [...]string{"txt", "img", "audio", "video", "file", "loc", "cmd", "custom"}

func str(raw []byte) (string, bool) {
	if !isString(raw) {
		return "", false
	}
	for _, t := range types {
		if string(raw[1:len(raw)-1]) == t {
			return t, true
		}
	}
	return Unquote(raw), true
}

// strs appends the elements of an array of strings.
func strs(raw []byte, list []string) ([]string, bool) {
	a, ok := NewArray(raw)
	if !ok {
		return nil, false
	}
	for {
		element, ok := a.Next()
		if !ok {
			return list, true
		}
		if !isString(element) {
			return nil, false
		}
		list = append(list, Unquote(element))
	}
}

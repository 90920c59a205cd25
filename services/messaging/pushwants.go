package messaging

import (
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

// Types of notification settings (wire contract).
const (
	wantsDefault = "DEFAULT"
	wantsAt      = "AT"
	wantsNone    = "NONE"
)

// extAt is the key of ext that names who is spoken to: a list of users, or the
// word "all".
const extAt = "em_at_list"

// unwanted reports whether a user does not want to be told of a message of
// another, by the settings of their conversation and of all conversations. now
// is of the zone in which times of day are meant.
func unwanted(wants *accountv1.LookupPushResponse, user, from string, ext gjson.Result, now time.Time) bool {
	conversation := &accountv1.Notification{Type: wantsDefault}
	for _, n := range wants.GetUsers() {
		if n.GetTarget() == from {
			conversation = n.GetNotification()
		}
	}
	kind := conversation.GetType()
	if kind == wantsDefault {
		kind = wants.GetOwn().GetType()
	}
	switch {
	case kind == wantsNone, kind == wantsAt && !spokenTo(user, ext.Get(extAt)):
		return true
	default:
		return ignored(conversation, now) || ignored(wants.GetOwn(), now)
	}
}

// spokenTo reports whether a list names a user, or everybody.
func spokenTo(user string, list gjson.Result) bool {
	if list.Type == gjson.String {
		return strings.EqualFold(list.Str, "all")
	}
	for _, name := range list.Array() {
		if strings.EqualFold(name.Str, user) {
			return true
		}
	}
	return false
}

// ignored reports whether a setting has nothing told at the moment.
func ignored(n *accountv1.Notification, now time.Time) bool {
	return n.GetIgnoreUntil() > now.UnixMilli() || within(n.GetIgnoreInterval(), now)
}

// within reports whether a time lies in "HH:MM-HH:MM" of its day. The same time
// twice is the whole day, an end before the start one of the next day.
func within(interval string, now time.Time) bool {
	from, to, ok := strings.Cut(interval, "-")
	if !ok {
		return false
	}
	start, end, minute := minuteOf(from), minuteOf(to), now.Hour()*60+now.Minute()
	switch {
	case start == end:
		return true
	case start < end:
		return minute >= start && minute < end
	default:
		return minute >= start || minute < end
	}
}

// minuteOf returns the minute of the day of "HH:MM", which account has checked.
func minuteOf(text string) int {
	hour, minute, _ := strings.Cut(text, ":")
	h, _ := strconv.Atoi(hour)
	m, _ := strconv.Atoi(minute)
	return h*60 + m
}

// Package entrytype says how entries of the log differ by their type: which are
// messages, who may list them, who gets copies. A new type is sorted in here and
// nowhere else.
package entrytype

import (
	"strconv"

	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

const (
	// firstOther is the first type that is no message; all types of messages are
	// below it.
	firstOther = busv1.EntryType_ENTRY_TYPE_DELIVERY_ACK
	// firstEvent is the first type that is an event; all after it are events.
	firstEvent = busv1.EntryType_ENTRY_TYPE_ROSTER
)

// IsMessage reports whether entries are messages: they count as unread, and
// mutes and size limits are for them. Receipts, recalls, edits and events are
// none.
func IsMessage(t busv1.EntryType) bool { return t < firstOther }

// SQLIsMessage returns IsMessage as an SQL condition on a column.
func SQLIsMessage(column string) string { return column + " < " + number(firstOther) }

// IsEvent reports whether entries tell of something that happened to users,
// with a body that is no MessageBody. Devices get them in a form of their own.
func IsEvent(t busv1.EntryType) bool { return t >= firstEvent }

// IsListed reports whether histories and subscriptions show entries: all but
// events.
func IsListed(t busv1.EntryType) bool { return !IsEvent(t) }

// SQLIsListed returns IsListed as an SQL condition on a column.
func SQLIsListed(column string) string {
	return column + " < " + number(firstEvent)
}

// CopiesToSender reports whether entries always go to their sender too, even if
// the sender's devices are not to show them: without them each of those would
// see a gap in the conversation. Of other types it depends on the entry.
func CopiesToSender(t busv1.EntryType) bool { return IsEvent(t) }

// HasContents reports whether entries have the contents of a message.
func HasContents(t busv1.EntryType) bool {
	return IsMessage(t) || t == busv1.EntryType_ENTRY_TYPE_EDIT
}

// IsNotified reports whether users who are not connected are notified of
// entries by push: of messages but commands, which are for programs.
func IsNotified(t busv1.EntryType) bool {
	return IsMessage(t) && t != busv1.EntryType_ENTRY_TYPE_CMD
}

func number(t busv1.EntryType) string { return strconv.Itoa(int(t)) }

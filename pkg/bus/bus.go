// Package bus names what travels over NATS: the subjects of the message log,
// of deliveries to connections and of domain events.
package bus

import (
	"strconv"

	"github.com/cespare/xxhash/v2"

	"github.com/chappe-im/chappe/pkg/ident"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// Log subjects: msg.<partition>.<kind>.<app>.<conversation>. A record with
// several targets of a partition travels under the conversation "_".

// LogSubject is where a record of the message log is published.
func LogSubject(partition int, kind busv1.Kind, app, conversation string) string {
	return "msg." + strconv.Itoa(partition) + "." + kindToken(kind) + "." + ident.Token(app) + "." + ident.Token(conversation)
}

// LogAppFilter matches all records of an app in a partition.
func LogAppFilter(partition int, app string) string {
	return "msg." + strconv.Itoa(partition) + ".*." + ident.Token(app) + ".>"
}

// LogStream names the stream of a partition, LogFilter what it takes.
func LogStream(partition int) string { return "MSG_" + strconv.Itoa(partition) }

// LogFilter matches all records of a partition.
func LogFilter(partition int) string { return "msg." + strconv.Itoa(partition) + ".>" }

// SpillStream names the stream that holds a partition's deliveries which wait
// for downstream budget.
func SpillStream(partition int) string { return "SPILL_" + strconv.Itoa(partition) }

// SpillSubject is where such a delivery of an app waits.
func SpillSubject(partition int, app string) string {
	return "spill." + strconv.Itoa(partition) + "." + ident.Token(app)
}

// HandOnSubject is where a gateway is asked by busv1.HandOn.
func HandOnSubject(gateway string) string { return "gw." + ident.Token(gateway) + ".handon" }

// DeliverySubject is where gateways listen for what a user is to be shown, or the
// members of a group, or the people in a room.
func DeliverySubject(app string, kind busv1.Kind, name string) string {
	return "dn." + ident.Token(app) + "." + kindToken(kind) + "." + ident.Token(name)
}

// UserSubject is the DeliverySubject of a user.
func UserSubject(app, user string) string {
	return DeliverySubject(app, busv1.Kind_KIND_USER, user)
}

// UserEventSubject carries busv1.UserEvent of a user.
func UserEventSubject(app, user string) string {
	return "ev.user." + ident.Token(app) + "." + ident.Token(user)
}

// UserEventFilter matches the UserEvents of all users of all apps.
const UserEventFilter = "ev.user.*.*"

// RosterEventSubject carries busv1.RosterEvent for a user.
func RosterEventSubject(app, user string) string {
	return "ev.roster." + ident.Token(app) + "." + ident.Token(user)
}

// RosterEventFilter matches the RosterEvents for all users of all apps.
const RosterEventFilter = "ev.roster.*.*"

// PresenceEventSubject carries busv1.PresenceEvent of a user.
func PresenceEventSubject(app, user string) string {
	return "ev.presence." + ident.Token(app) + "." + ident.Token(user)
}

// PresenceEventFilter matches the PresenceEvents of all users of all apps.
const PresenceEventFilter = "ev.presence.*.*"

// EventStream names the stream that keeps domain events, EventFilter what it
// takes.
const (
	EventStream = "EVENTS"
	EventFilter = "ev.>"
)

// Partition tells in which of n partitions a conversation lives.
func Partition(app, conversation string, n int) int {
	h := xxhash.New()
	_, _ = h.WriteString(app)
	_, _ = h.Write([]byte{0})
	_, _ = h.WriteString(conversation)
	return int(h.Sum64() % uint64(n))
}

// placeBits is how many bits of a place are the offset: 10,000 records a second
// use them up in three years, and then the epoch grows by one and order is kept.
const placeBits = 40

// LogPlace makes a place of a partition's log out of an offset in its stream and
// the epoch that the offset counts in. Places of one partition compare as they
// came: those of a later epoch are greater.
func LogPlace(epoch int64, offset uint64) uint64 {
	return uint64(epoch)<<placeBits | offset //nolint:gosec // never negative
}

// LogEpoch returns the epoch of a place.
func LogEpoch(place uint64) int64 { return int64(place >> placeBits) } //nolint:gosec // 24 bits

func kindToken(k busv1.Kind) string {
	switch k {
	case busv1.Kind_KIND_GROUP:
		return "g"
	case busv1.Kind_KIND_ROOM:
		return "r"
	default:
		return "u"
	}
}

// PushStream names the stream of events for push providers, PushFilter what it
// takes.
const (
	PushStream = "PUSH"
	PushFilter = "push.>"
)

// PushSubject carries the push events of a user.
func PushSubject(app, user string) string {
	return "push." + ident.Token(app) + "." + ident.Token(user)
}

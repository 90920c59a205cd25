package bus

import busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"

// FirstEvent is the first of the entry types that are events.
const FirstEvent = busv1.EntryType_ENTRY_TYPE_ROSTER

// IsMessage reports whether entries of a type are messages, and not receipts,
// changes or events.
func IsMessage(t busv1.EntryType) bool { return t < busv1.EntryType_ENTRY_TYPE_DELIVERY_ACK }

// IsEvent reports whether entries of a type tell what happened: lists,
// subscriptions, counts and push events leave them out.
func IsEvent(t busv1.EntryType) bool { return t >= FirstEvent }

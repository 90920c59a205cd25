package msync

import (
	"iter"

	"google.golang.org/protobuf/encoding/protowire"

	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// statusOK is an encoded Status of code 0 as field 1.
var statusOK = []byte{0x0a, 0x02, 0x08, 0x00}

// frameHead begins an MSync with a payload of n bytes.
func frameHead(b []byte, command msyncv1.MSync_Command, n int) []byte {
	b = append(b, 0x08, 0x00, 0x40, byte(command), 0x4a)
	return protowire.AppendVarint(b, uint64(n)) // a length
}

// AppendFrame appends an MSync.
func AppendFrame(b []byte, command msyncv1.MSync_Command, payload []byte) []byte {
	b = frameHead(b, command, len(payload))
	return append(b, payload...)
}

// AppendPage appends a SYNC frame with metas of a queue, each a field as
// EntryMeta returns it. Without a token it is one that nobody confirms.
func AppendPage(b []byte, metas iter.Seq[[]byte], token uint64, jid []byte, timestamp int64) []byte {
	n := len(statusOK) + sizeField(len(jid)) + 2 + 1 + protowire.SizeVarint(uint64(timestamp)) // never negative
	for m := range metas {
		n += len(m)
	}
	if token != 0 {
		n += 1 + protowire.SizeVarint(token)
	}
	b = frameHead(b, msyncv1.MSync_SYNC, n)
	b = append(b, statusOK...)
	for m := range metas {
		b = append(b, m...)
	}
	last := uint64(1)
	if token != 0 {
		b = appendUint(b, 5, token)
		last = 0
	}
	b = appendBytes(b, 6, jid)
	b = appendUint(b, 7, last)
	return appendUint(b, 8, uint64(timestamp)) // never negative
}

func none(func([]byte) bool) {}

// AppendEmpty appends the SYNC frame that ends a pull.
func AppendEmpty(b []byte, jid []byte, timestamp int64) []byte {
	return AppendPage(b, none, 0, jid, timestamp)
}

// AppendRoamEnd appends the SYNC frame that ends a pull of history.
func AppendRoamEnd(b []byte, jid []byte, timestamp int64) []byte {
	p := append(make([]byte, 0, 48+len(jid)), statusOK...)
	p = appendBytes(p, 6, jid)
	p = appendUint(p, 7, 1)
	p = appendUint(p, 8, uint64(timestamp)) // never negative
	p = appendUint(p, 9, 1)
	return AppendFrame(b, msyncv1.MSync_SYNC, p)
}

// AppendNotice appends a NOTICE frame.
func AppendNotice(b, jid []byte) []byte {
	b = frameHead(b, msyncv1.MSync_NOTICE, sizeField(len(jid)))
	return appendBytes(b, 1, jid)
}

// AppendStatus appends an encoded Status as a field 1.
func AppendStatus(b []byte, code msyncv1.Status_ErrorCode, reason string) []byte {
	s := appendUint(make([]byte, 0, 8+len(reason)), 1, uint64(code)) // an enum
	if reason != "" {
		s = appendString(s, 2, reason)
	}
	return appendBytes(b, 1, s)
}

// AppendAck appends the SYNC frame that answers a meta.
func AppendAck(b []byte, metaID, serverID uint64, timestamp int64) []byte {
	p := make([]byte, 0, 48)
	p = append(p, statusOK...)
	p = appendUint(p, 2, metaID)
	if serverID != 0 {
		p = appendUint(p, 3, serverID)
	}
	p = appendUint(p, 8, uint64(timestamp)) // never negative
	return AppendFrame(b, msyncv1.MSync_SYNC, p)
}

// AppendRefusal appends the SYNC frame that refuses a meta.
func AppendRefusal(b []byte, metaID uint64, code msyncv1.Status_ErrorCode, reason string, timestamp int64) []byte {
	p := AppendStatus(make([]byte, 0, 64), code, reason)
	p = appendUint(p, 2, metaID)
	p = appendUint(p, 8, uint64(timestamp)) // never negative
	return AppendFrame(b, msyncv1.MSync_SYNC, p)
}

// AppendUnreadQueue appends a queue with n unconfirmed entries to the list of an
// UNREAD frame.
func AppendUnreadQueue(list, jid []byte, n uint64) []byte {
	list = appendTag(list, 2, protowire.BytesType)
	list = protowire.AppendVarint(list, uint64(sizeField(len(jid))+1+protowire.SizeVarint(n))) // a length
	list = appendBytes(list, 1, jid)
	return appendUint(list, 2, n)
}

// AppendUnread appends the UNREAD frame with a list that AppendUnreadQueue made.
func AppendUnread(b, list []byte, timestamp int64) []byte {
	now := uint64(timestamp) // never negative
	b = frameHead(b, msyncv1.MSync_UNREAD, len(statusOK)+len(list)+1+protowire.SizeVarint(now))
	b = append(append(b, statusOK...), list...)
	return appendUint(b, 3, now)
}

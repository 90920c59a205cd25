package session

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/chappe-im/chappe/pkg/entrytype"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// Frames are encoded by appending: a delivery costs no message tree and no
// reflection, and what several devices get is encoded once. Field numbers are
// those of msync.proto; a test holds them against the generated code.

// Domains of JIDs.
const (
	domainUser  = "easemob.com"
	domainGroup = "conference.easemob.com"
)

// directQueue names the queue of what is pushed past the queues. No user, group
// or room can have this name, so that it never meets a queue being pulled.
const directQueue = "~push"

// statusOK is an encoded Status of code 0 as field 1.
var statusOK = []byte{0x0a, 0x02, 0x08, 0x00}

func appendTag(b []byte, field protowire.Number, t protowire.Type) []byte {
	return protowire.AppendTag(b, field, t)
}

func appendUint(b []byte, field protowire.Number, v uint64) []byte {
	b = appendTag(b, field, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

func appendString(b []byte, field protowire.Number, v string) []byte {
	b = appendTag(b, field, protowire.BytesType)
	return protowire.AppendString(b, v)
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	b = appendTag(b, field, protowire.BytesType)
	return protowire.AppendBytes(b, v)
}

// sizeField is the size of a length-delimited field below number 16.
func sizeField(n int) int { return 1 + protowire.SizeBytes(n) }

// appendJID appends a JID without its tag; empty parts are left out.
func appendJID(b []byte, appKey, name, domain, resource string) []byte {
	if appKey != "" {
		b = appendString(b, 1, appKey)
	}
	b = appendString(b, 2, name)
	if domain != "" {
		b = appendString(b, 3, domain)
	}
	if resource != "" {
		b = appendString(b, 4, resource)
	}
	return b
}

// queueJID is the encoded name of a queue.
func queueJID(appKey, name, domain string) []byte {
	return appendJID(make([]byte, 0, 8+len(appKey)+len(name)+len(domain)), appKey, name, domain, "")
}

func sizeJID(appKey, name, domain, resource string) int {
	n := sizeField(len(name))
	for _, s := range [...]string{appKey, domain, resource} {
		if s != "" {
			n += sizeField(len(s))
		}
	}
	return n
}

// frameHead begins an MSync with a payload of n bytes.
func frameHead(b []byte, command msyncv1.MSync_Command, n int) []byte {
	b = append(b, 0x08, 0x00, 0x40, byte(command), 0x4a)
	return protowire.AppendVarint(b, uint64(n)) //nolint:gosec // a length
}

// appendFrame appends an MSync.
func appendFrame(b []byte, command msyncv1.MSync_Command, payload []byte) []byte {
	b = frameHead(b, command, len(payload))
	return append(b, payload...)
}

func domainOf(kind busv1.Kind) string {
	if kind == busv1.Kind_KIND_GROUP || kind == busv1.Kind_KIND_ROOM {
		return domainGroup
	}
	return domainUser
}

// encodeMeta encodes a delivery as a field `metas` of a page.
func encodeMeta(appKey string, d *busv1.Delivery) []byte {
	if entrytype.IsEvent(d.GetType()) {
		return encodeEvent(appKey, int32(msyncv1.Meta_ROSTER), uint64(d.GetId()), d.GetFrom(), d.GetTo(), d.GetTimestamp(), d.GetBody()) //nolint:gosec // IDs are positive
	}
	return encodeMessage(appKey, d)
}

// encodeMessage encodes what is in the form of a message. The body comes
// without its fields `from` and `to`, from which devices take who wrote to whom,
// and the meta's own extensions ready made: both are joined in as they are.
func encodeMessage(appKey string, d *busv1.Delivery) []byte {
	toDomain := domainOf(d.GetKind())
	from := sizeJID(appKey, d.GetFrom(), domainUser, d.GetFromResource())
	to := sizeJID(appKey, d.GetTo(), toDomain, "")
	bodyFrom, bodyTo := sizeJID("", d.GetFrom(), "", ""), sizeJID("", d.GetTo(), "", "")
	payload := len(d.GetBody()) + sizeField(bodyFrom) + sizeField(bodyTo)
	id, timestamp := uint64(d.GetId()), uint64(d.GetTimestamp()) //nolint:gosec // never negative
	n := 1 + protowire.SizeVarint(id) + sizeField(from) + sizeField(to) + 1 + protowire.SizeVarint(timestamp) +
		2 + sizeField(payload) + len(d.GetMetaExt())

	b := make([]byte, 0, sizeField(n))
	b = appendTag(b, 4, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(n)) //nolint:gosec // a length
	b = appendUint(b, 1, id)
	b = appendTag(b, 2, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(from)) //nolint:gosec // a length
	b = appendJID(b, appKey, d.GetFrom(), domainUser, d.GetFromResource())
	b = appendTag(b, 3, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(to)) //nolint:gosec // a length
	b = appendJID(b, appKey, d.GetTo(), toDomain, "")
	b = appendUint(b, 4, timestamp)
	b = appendUint(b, 5, uint64(msyncv1.Meta_CHAT))
	b = appendTag(b, 6, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(payload)) //nolint:gosec // a length
	b = append(b, d.GetBody()...)
	b = appendTag(b, 2, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(bodyFrom)) //nolint:gosec // a length
	b = appendJID(b, "", d.GetFrom(), "", "")
	b = appendTag(b, 3, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(bodyTo)) //nolint:gosec // a length
	b = appendJID(b, "", d.GetTo(), "", "")
	return append(b, d.GetMetaExt()...)
}

// encodeEvent encodes any other meta as a field `metas`.
func encodeEvent(appKey string, ns int32, id uint64, from string, to string, timestamp int64, payload []byte) []byte {
	m := make([]byte, 0, 96+len(payload)+2*len(appKey))
	m = appendUint(m, 1, id)
	m = appendBytes(m, 2, queueJID(appKey, from, domainUser))
	m = appendBytes(m, 3, queueJID(appKey, to, domainUser))
	m = appendUint(m, 4, uint64(timestamp)) //nolint:gosec // never negative
	m = appendUint(m, 5, uint64(ns))        //nolint:gosec // an enum
	m = appendBytes(m, 6, payload)
	return appendBytes(make([]byte, 0, sizeField(len(m))), 4, m)
}

// appendPage appends a SYNC frame with metas of a queue. Without a token it is
// one that nobody confirms.
func appendPage(b []byte, metas []entry, token uint64, jid []byte, timestamp int64) []byte {
	n := len(statusOK) + sizeField(len(jid)) + 2 + 1 + protowire.SizeVarint(uint64(timestamp)) //nolint:gosec // never negative
	for _, m := range metas {
		n += len(m.meta)
	}
	if token != 0 {
		n += 1 + protowire.SizeVarint(token)
	}
	b = frameHead(b, msyncv1.MSync_SYNC, n)
	b = append(b, statusOK...)
	for _, m := range metas {
		b = append(b, m.meta...)
	}
	last := uint64(1)
	if token != 0 {
		b = appendUint(b, 5, token)
		last = 0
	}
	b = appendBytes(b, 6, jid)
	b = appendUint(b, 7, last)
	return appendUint(b, 8, uint64(timestamp)) //nolint:gosec // never negative
}

// appendEmpty appends the SYNC frame that ends a pull.
func appendEmpty(b []byte, jid []byte, timestamp int64) []byte {
	return appendPage(b, nil, 0, jid, timestamp)
}

// appendRoamEnd appends the SYNC frame that ends a pull of history.
func appendRoamEnd(b []byte, jid []byte, timestamp int64) []byte {
	p := append(make([]byte, 0, 48+len(jid)), statusOK...)
	p = appendBytes(p, 6, jid)
	p = appendUint(p, 7, 1)
	p = appendUint(p, 8, uint64(timestamp)) //nolint:gosec // never negative
	p = appendUint(p, 9, 1)
	return appendFrame(b, msyncv1.MSync_SYNC, p)
}

// appendNotice appends a NOTICE frame.
func appendNotice(b, jid []byte) []byte {
	b = frameHead(b, msyncv1.MSync_NOTICE, sizeField(len(jid)))
	return appendBytes(b, 1, jid)
}

// appendStatus appends an encoded Status as a field 1.
func appendStatus(b []byte, code msyncv1.Status_ErrorCode, reason string) []byte {
	s := appendUint(make([]byte, 0, 8+len(reason)), 1, uint64(code)) //nolint:gosec // an enum
	if reason != "" {
		s = appendString(s, 2, reason)
	}
	return appendBytes(b, 1, s)
}

// appendAck appends the SYNC frame that answers a meta.
func appendAck(b []byte, metaID, serverID uint64, timestamp int64) []byte {
	p := make([]byte, 0, 48)
	p = append(p, statusOK...)
	p = appendUint(p, 2, metaID)
	if serverID != 0 {
		p = appendUint(p, 3, serverID)
	}
	p = appendUint(p, 8, uint64(timestamp)) //nolint:gosec // never negative
	return appendFrame(b, msyncv1.MSync_SYNC, p)
}

// appendRefusal appends the SYNC frame that refuses a meta.
func appendRefusal(b []byte, metaID uint64, code msyncv1.Status_ErrorCode, reason string, timestamp int64) []byte {
	p := appendStatus(make([]byte, 0, 64), code, reason)
	p = appendUint(p, 2, metaID)
	p = appendUint(p, 8, uint64(timestamp)) //nolint:gosec // never negative
	return appendFrame(b, msyncv1.MSync_SYNC, p)
}

// syncUL is a CommSyncUL with its meta left as it came.
type syncUL struct {
	meta                   []byte
	hasMeta                bool
	key                    uint64
	queueName, queueDomain string
	// roam: it asks for history.
	roam bool
}

// parseSyncUL picks what is needed out of an encoded CommSyncUL. Slices point
// into b.
func parseSyncUL(b []byte) (s syncUL, ok bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return s, false
		}
		b = b[n:]
		switch {
		case num == 1 && typ == protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return s, false
			}
			s.meta, s.hasMeta, b = v, true, b[n:]
		case num == 2 && typ == protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return s, false
			}
			s.key, b = v, b[n:]
		case num == 4 && typ == protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return s, false
			}
			s.roam, b = s.roam || v != 0, b[n:]
		case num == 5:
			n := protowire.ConsumeFieldValue(num, typ, b)
			if n < 0 {
				return s, false
			}
			s.roam, b = true, b[n:]
		case num == 3 && typ == protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return s, false
			}
			name, ok := fieldBytes(v, 2)
			if !ok {
				return s, false
			}
			domain, ok := fieldBytes(v, 3)
			if !ok {
				return s, false
			}
			s.queueName, s.queueDomain, b = string(name), string(domain), b[n:]
		default:
			n := protowire.ConsumeFieldValue(num, typ, b)
			if n < 0 {
				return s, false
			}
			b = b[n:]
		}
	}
	return s, true
}

// fieldBytes gives the last length-delimited field of a number, or nil.
func fieldBytes(b []byte, field protowire.Number) (v []byte, ok bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, false
		}
		b = b[n:]
		n = protowire.ConsumeFieldValue(num, typ, b)
		if n < 0 {
			return nil, false
		}
		if num == field && typ == protowire.BytesType {
			v, _ = protowire.ConsumeBytes(b)
		}
		b = b[n:]
	}
	return v, true
}

// metaHead is what the gateway needs to know of a meta that a device sent.
type metaHead struct {
	id uint64
	ns msyncv1.Meta_NameSpace
	// receipt: it tells of a message that was delivered or read. What cannot be
	// read is none.
	receipt bool
}

func parseMetaHead(b []byte) (h metaHead, ok bool) {
	var payload []byte
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return h, false
		}
		b = b[n:]
		n = protowire.ConsumeFieldValue(num, typ, b)
		if n < 0 {
			return h, false
		}
		switch typ {
		case protowire.VarintType:
			v, _ := protowire.ConsumeVarint(b)
			switch num {
			case 1:
				h.id = v
			case 5:
				h.ns = msyncv1.Meta_NameSpace(v) //nolint:gosec // unknown ones are refused
			}
		case protowire.BytesType:
			if num == 6 {
				payload, _ = protowire.ConsumeBytes(b)
			}
		}
		b = b[n:]
	}
	h.receipt = h.ns == msyncv1.Meta_CHAT && isReceipt(payload)
	return h, true
}

// isReceipt reports whether an encoded MessageBody is a receipt. As where the
// whole of it is decoded, the last of several types counts.
func isReceipt(body []byte) bool {
	kind := msyncv1.MessageBody_NORMAL
	for len(body) > 0 {
		num, typ, n := protowire.ConsumeTag(body)
		if n < 0 {
			return false
		}
		body = body[n:]
		if n = protowire.ConsumeFieldValue(num, typ, body); n < 0 {
			return false
		}
		if num == 1 && typ == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(body)
			kind = msyncv1.MessageBody_Type(v) //nolint:gosec // as the generated code does
		}
		body = body[n:]
	}
	switch kind {
	case msyncv1.MessageBody_READ_ACK, msyncv1.MessageBody_DELIVER_ACK, msyncv1.MessageBody_CHANNEL_ACK:
		return true
	}
	return false
}

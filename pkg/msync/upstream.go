package msync

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// SplitFrame returns the command and the payload of an encoded MSync.
func SplitFrame(b []byte) (command msyncv1.MSync_Command, payload []byte, ok bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, nil, false
		}
		b = b[n:]
		n = protowire.ConsumeFieldValue(num, typ, b)
		if n < 0 {
			return 0, nil, false
		}
		switch {
		case num == 8 && typ == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(b)
			if v > 127 {
				return 0, nil, false
			}
			command = msyncv1.MSync_Command(v)
		case num == 9 && typ == protowire.BytesType:
			payload, _ = protowire.ConsumeBytes(b)
		}
		b = b[n:]
	}
	return command, payload, true
}

// SyncUL is a CommSyncUL with its meta left as it came.
type SyncUL struct {
	Meta                   []byte
	HasMeta                bool
	Key                    uint64
	QueueName, QueueDomain string
	// Roam: it asks for history.
	Roam bool
}

// ParseSyncUL picks what is needed out of an encoded CommSyncUL. Slices point
// into b.
func ParseSyncUL(b []byte) (s SyncUL, ok bool) {
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
			s.Meta, s.HasMeta, b = v, true, b[n:]
		case num == 2 && typ == protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return s, false
			}
			s.Key, b = v, b[n:]
		case num == 4 && typ == protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return s, false
			}
			s.Roam, b = s.Roam || v != 0, b[n:]
		case num == 5:
			n := protowire.ConsumeFieldValue(num, typ, b)
			if n < 0 {
				return s, false
			}
			s.Roam, b = true, b[n:]
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
			s.QueueName, s.QueueDomain, b = string(name), string(domain), b[n:]
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

// MetaHead is what the gateway needs to know of a meta that a device sent.
type MetaHead struct {
	ID uint64
	NS msyncv1.Meta_NameSpace
	// Receipt: it tells of a message that was delivered or read. What cannot be
	// read is none.
	Receipt bool
}

// ParseMetaHead returns the head of an encoded Meta; ok is false for what is
// malformed.
func ParseMetaHead(b []byte) (h MetaHead, ok bool) {
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
				h.ID = v
			case 5:
				h.NS = msyncv1.Meta_NameSpace(v) // unknown ones are refused
			}
		case protowire.BytesType:
			if num == 6 {
				payload, _ = protowire.ConsumeBytes(b)
			}
		}
		b = b[n:]
	}
	h.Receipt = h.NS == msyncv1.Meta_CHAT && isReceipt(payload)
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
			kind = msyncv1.MessageBody_Type(v)
		}
		body = body[n:]
	}
	switch kind {
	case msyncv1.MessageBody_READ_ACK, msyncv1.MessageBody_DELIVER_ACK, msyncv1.MessageBody_CHANNEL_ACK:
		return true
	}
	return false
}

// MUCName returns the name of the group or room that a MUC meta of a device is
// about, empty where it cannot be read.
func MUCName(meta []byte) string {
	var body msyncv1.MUCBody
	payload, _ := fieldBytes(meta, 6)
	if err := proto.Unmarshal(payload, &body); err != nil {
		return ""
	}
	return body.GetMucId().GetName()
}

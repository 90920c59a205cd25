package session

import (
	"google.golang.org/protobuf/encoding/protowire"

	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// deliveryOf gives the delivery of an encoded Push, or ok false for any other
// push and for what is malformed: those go the slow way. It takes the fields
// without reflection and leaves the body in b; a test holds it against the
// generated code.
func deliveryOf(b []byte) (d *busv1.Delivery, ok bool) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 || num != 1 || typ != protowire.BytesType {
		return nil, false
	}
	v, m := protowire.ConsumeBytes(b[n:])
	if m < 0 || n+m != len(b) {
		return nil, false
	}
	d = new(busv1.Delivery)
	for len(v) > 0 {
		num, typ, n := protowire.ConsumeTag(v)
		if n < 0 {
			return nil, false
		}
		v = v[n:]
		switch typ {
		case protowire.VarintType:
			x, n := protowire.ConsumeVarint(v)
			if n < 0 {
				return nil, false
			}
			v = v[n:]
			setNumber(d, num, x)
		case protowire.BytesType:
			x, n := protowire.ConsumeBytes(v)
			if n < 0 {
				return nil, false
			}
			v = v[n:]
			setBytes(d, num, x)
		default:
			n := protowire.ConsumeFieldValue(num, typ, v)
			if n < 0 {
				return nil, false
			}
			v = v[n:]
		}
	}
	return d, true
}

func setNumber(d *busv1.Delivery, num protowire.Number, x uint64) {
	switch num {
	case 1:
		d.Id = int64(x)
	case 2:
		d.Kind = busv1.Kind(x)
	case 3:
		d.Type = busv1.EntryType(x)
	case 5:
		d.Seq = int64(x)
	case 9:
		d.Timestamp = int64(x)
	case 12:
		d.OnlineOnly = x != 0
	case 13:
		d.SyncSender = x != 0
	case 14:
		d.LogPlace = x
	case 15:
		d.LogPrevious = x
	}
}

func setBytes(d *busv1.Delivery, num protowire.Number, x []byte) {
	switch num {
	case 4:
		d.Conversation = string(x)
	case 6:
		d.From = string(x)
	case 7:
		d.FromResource = string(x)
	case 8:
		d.To = string(x)
	case 10:
		d.Body = x
	case 11:
		d.MetaExt = x
	}
}

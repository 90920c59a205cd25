package partition

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/chappe-im/chappe/pkg/ident"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// Records and deliveries of one send differ in a few fields only. Those are
// appended to the marshalled rest, which protocol buffers allow: fields may
// come in any order. The numbers are those of bus.proto; a test holds them
// against the generated code.

// appendTarget appends a LogTarget to a marshalled LogRecord.
func appendTarget(b []byte, id int64, to string) []byte {
	n := protowire.SizeTag(1) + protowire.SizeVarint(uint64(id)) + protowire.SizeTag(2) + protowire.SizeBytes(len(to))
	b = protowire.AppendTag(b, 12, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(n))
	b = protowire.AppendTag(b, 1, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(id))
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendString(b, to)
}

// deliveryCommon marshals what all deliveries of a record share.
func deliveryCommon(r *busv1.LogRecord) []byte {
	b := make([]byte, 0, len(r.GetBody())+len(r.GetMetaExt())+len(r.GetFrom())+len(r.GetFromResource())+48)
	b = appendVarint(b, 2, uint64(r.GetKind()))
	b = appendVarint(b, 3, uint64(r.GetType()))
	b = appendVarint(b, 9, uint64(r.GetTimestamp()))
	b = appendText(b, 6, r.GetFrom())
	b = appendText(b, 7, r.GetFromResource())
	b = appendText(b, 10, string(r.GetBody()))
	b = appendText(b, 11, string(r.GetMetaExt()))
	if r.GetOnlineOnly() {
		b = appendVarint(b, 12, 1)
	}
	if r.GetSyncSender() {
		b = appendVarint(b, 13, 1)
	}
	return b
}

// appendPush marshals Push{delivery} of one target. It returns the push and,
// within it, the delivery alone, as the archive keeps it: without the place of
// the entry before it.
func appendPush(common []byte, id int64, conversation ident.ConversationID, seq int64, to string, place, previous uint64) (push, delivery []byte) {
	own := protowire.SizeTag(1) + protowire.SizeVarint(uint64(id)) +
		protowire.SizeTag(4) + protowire.SizeBytes(len(conversation)) +
		protowire.SizeTag(5) + protowire.SizeVarint(uint64(seq)) +
		protowire.SizeTag(8) + protowire.SizeBytes(len(to)) +
		protowire.SizeTag(14) + protowire.SizeVarint(place)
	n := own + len(common)
	if previous != 0 {
		n += protowire.SizeTag(15) + protowire.SizeVarint(previous)
	}
	b := make([]byte, 0, n+protowire.SizeTag(1)+protowire.SizeVarint(uint64(n)))
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(n))
	head := len(b)
	b = appendVarint(b, 1, uint64(id))
	b = appendText(b, 4, string(conversation))
	b = appendVarint(b, 5, uint64(seq))
	b = appendText(b, 8, to)
	b = append(b, common...)
	b = appendVarint(b, 14, place)
	end := len(b)
	if previous != 0 {
		b = appendVarint(b, 15, previous)
	}
	return b, b[head:end:end]
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	b = protowire.AppendTag(b, field, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

func appendText(b []byte, field protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return protowire.AppendString(b, v)
}

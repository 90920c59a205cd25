package msync

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/ident"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// EntryMeta returns an entry of a conversation as a field `metas` of a page, nil
// for an event that clients are not told of. viewer is the user whose devices
// are shown it; for a group or room, whose members all get the same, it is
// empty.
func EntryMeta(app ident.AppKey, viewer ident.UserID, d *busv1.Delivery) ([]byte, error) {
	switch d.GetType() {
	case busv1.EntryType_ENTRY_TYPE_EVENT:
		var e busv1.Event
		if err := proto.Unmarshal(d.GetBody(), &e); err != nil {
			return nil, fmt.Errorf("event %d: %w", d.GetId(), err)
		}
		return eventMeta(app, viewer, happening{
			id: d.GetId(), from: d.GetFrom(), to: d.GetTo(), timestamp: d.GetTimestamp(), event: &e,
		})
	case busv1.EntryType_ENTRY_TYPE_ROSTER:
		return meta{
			ns: msyncv1.Meta_ROSTER, id: d.GetId(), timestamp: d.GetTimestamp(), payload: d.GetBody(),
			from: JID(app, d.GetFrom(), DomainUser), to: JID(app, d.GetTo(), DomainUser),
		}.encode(), nil
	}
	return messageMeta(app, d), nil
}

// NoticeMeta returns a notice to a user's devices as a field `metas` of a page,
// nil for one that clients are not told of.
func NoticeMeta(app ident.AppKey, viewer ident.UserID, n *busv1.Notice) ([]byte, error) {
	if n.GetEvent() == nil {
		return meta{
			ns: msyncv1.Meta_NameSpace(n.GetNs()), id: n.GetId(), timestamp: n.GetTimestamp(), payload: n.GetPayload(),
			from: JID(app, n.GetFrom(), DomainUser), to: JID(app, string(viewer), DomainUser),
		}.encode(), nil
	}
	return eventMeta(app, viewer, happening{
		id: n.GetId(), from: n.GetFrom(), to: n.GetTo(), timestamp: n.GetTimestamp(), event: n.GetEvent(),
	})
}

// meta is any Meta but a message. from and to are encoded JIDs.
type meta struct {
	ns            msyncv1.Meta_NameSpace
	id, timestamp int64
	from, to      []byte
	payload       []byte
}

// encode returns the meta as a field `metas`.
func (m meta) encode() []byte {
	b := make([]byte, 0, 48+len(m.payload)+len(m.from)+len(m.to))
	b = appendUint(b, 1, uint64(m.id)) // IDs are positive
	b = appendBytes(b, 2, m.from)
	b = appendBytes(b, 3, m.to)
	b = appendUint(b, 4, uint64(m.timestamp)) // never negative
	b = appendUint(b, 5, uint64(m.ns))        // an enum
	b = appendBytes(b, 6, m.payload)
	return appendBytes(make([]byte, 0, sizeField(len(b))), 4, b)
}

// messageMeta encodes what is in the form of a message. The body comes
// without its fields `from` and `to`, from which devices take who wrote to whom,
// and the meta's own extensions ready made: both are joined in as they are.
func messageMeta(app ident.AppKey, d *busv1.Delivery) []byte {
	toDomain := Domain(d.GetKind())
	from := sizeJID(app, d.GetFrom(), DomainUser, d.GetFromResource())
	to := sizeJID(app, d.GetTo(), toDomain, "")
	bodyFrom, bodyTo := sizeJID("", d.GetFrom(), "", ""), sizeJID("", d.GetTo(), "", "")
	payload := len(d.GetBody()) + sizeField(bodyFrom) + sizeField(bodyTo)
	id, timestamp := uint64(d.GetId()), uint64(d.GetTimestamp()) // never negative
	n := 1 + protowire.SizeVarint(id) + sizeField(from) + sizeField(to) + 1 + protowire.SizeVarint(timestamp) +
		2 + sizeField(payload) + len(d.GetMetaExt())

	b := make([]byte, 0, sizeField(n))
	b = appendTag(b, 4, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(n)) // a length
	b = appendUint(b, 1, id)
	b = appendTag(b, 2, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(from)) // a length
	b = appendJID(b, app, d.GetFrom(), DomainUser, d.GetFromResource())
	b = appendTag(b, 3, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(to)) // a length
	b = appendJID(b, app, d.GetTo(), toDomain, "")
	b = appendUint(b, 4, timestamp)
	b = appendUint(b, 5, uint64(msyncv1.Meta_CHAT))
	b = appendTag(b, 6, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(payload)) // a length
	b = append(b, d.GetBody()...)
	b = appendTag(b, 2, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(bodyFrom)) // a length
	b = appendJID(b, "", d.GetFrom(), "", "")
	b = appendTag(b, 3, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(bodyTo)) // a length
	b = appendJID(b, "", d.GetTo(), "", "")
	return append(b, d.GetMetaExt()...)
}

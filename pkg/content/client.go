package content

import (
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// ContentType tells the type of a message by its first content. A text with an
// explicit combine sub-type, even at its zero value, is a combined message.
func ContentType(c *msyncv1.MessageBody_Content) busv1.EntryType {
	switch c.GetType() {
	case msyncv1.MessageBody_Content_TEXT:
		if c.SubType != nil && c.GetSubType() == msyncv1.MessageBody_Content_SUB_COMBINE {
			return busv1.EntryType_ENTRY_TYPE_COMBINE
		}
		return busv1.EntryType_ENTRY_TYPE_TXT
	case msyncv1.MessageBody_Content_IMAGE:
		return busv1.EntryType_ENTRY_TYPE_IMG
	case msyncv1.MessageBody_Content_VIDEO:
		return busv1.EntryType_ENTRY_TYPE_VIDEO
	case msyncv1.MessageBody_Content_LOCATION:
		return busv1.EntryType_ENTRY_TYPE_LOC
	case msyncv1.MessageBody_Content_VOICE:
		return busv1.EntryType_ENTRY_TYPE_AUDIO
	case msyncv1.MessageBody_Content_FILE:
		return busv1.EntryType_ENTRY_TYPE_FILE
	case msyncv1.MessageBody_Content_COMMAND:
		return busv1.EntryType_ENTRY_TYPE_CMD
	case msyncv1.MessageBody_Content_CUSTOM:
		return busv1.EntryType_ENTRY_TYPE_CUSTOM
	case msyncv1.MessageBody_Content_COMBINE:
		return busv1.EntryType_ENTRY_TYPE_COMBINE
	default:
		return busv1.EntryType_ENTRY_TYPE_UNSPECIFIED
	}
}

// FromClient takes the body a device sent. The contents pass through as they
// are, fields unknown here included; sender and recipient are removed, for the
// server sets them.
func FromClient(payload []byte) (Message, *msyncv1.MessageBody, error) {
	mb := &msyncv1.MessageBody{}
	if err := proto.Unmarshal(payload, mb); err != nil {
		return Message{}, nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	mb.From, mb.To = nil, nil
	m := Message{}
	switch mb.GetType() {
	case msyncv1.MessageBody_NORMAL, msyncv1.MessageBody_CHAT, msyncv1.MessageBody_GROUPCHAT, msyncv1.MessageBody_CHATROOM:
		if len(mb.GetContents()) == 0 {
			return Message{}, nil, errs.Invalid(errs.MessageInvalidRequest)
		}
		m.Type = ContentType(mb.GetContents()[0])
		if m.Type == busv1.EntryType_ENTRY_TYPE_UNSPECIFIED {
			return Message{}, nil, errs.Invalid(errs.MessageInvalidRequest)
		}
	case msyncv1.MessageBody_READ_ACK:
		m.Type = busv1.EntryType_ENTRY_TYPE_READ_ACK
	case msyncv1.MessageBody_DELIVER_ACK:
		m.Type = busv1.EntryType_ENTRY_TYPE_DELIVERY_ACK
	case msyncv1.MessageBody_CHANNEL_ACK:
		m.Type = busv1.EntryType_ENTRY_TYPE_CHANNEL_ACK
	case msyncv1.MessageBody_RECALL:
		m.Type = busv1.EntryType_ENTRY_TYPE_RECALL
	case msyncv1.MessageBody_EDIT:
		m.Type = busv1.EntryType_ENTRY_TYPE_EDIT
	default:
		return Message{}, nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	for _, c := range mb.GetContents() {
		m.Size += contentSize(c)
	}
	m.Size += pairsSize(mb.GetExt())
	raw, err := proto.Marshal(mb)
	if err != nil {
		return Message{}, nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	m.Body = raw
	return m, mb, nil
}

// contentSize counts the texts of a content, as FromREST does for its JSON.
func contentSize(c *msyncv1.MessageBody_Content) int {
	n := len(c.GetText()) + len(c.GetAddress()) + len(c.GetBuildingName()) + len(c.GetDisplayName()) +
		len(c.GetRemotePath()) + len(c.GetSecretKey()) + len(c.GetAction()) + len(c.GetThumbnailRemotePath()) +
		len(c.GetThumbnailSecretKey()) + len(c.GetThumbnailDisplayName()) + len(c.GetCustomEvent()) +
		len(c.GetTitle()) + len(c.GetSummary())
	return n + pairsSize(c.GetParams()) + pairsSize(c.GetCustomExts())
}

func pairsSize(pairs []*msyncv1.KeyValue) int {
	n := 0
	for _, kv := range pairs {
		n += len(kv.GetKey()) + len(kv.GetStringValue())
		switch kv.GetType() {
		case msyncv1.KeyValue_STRING, msyncv1.KeyValue_JSON_STRING:
		default:
			n += 8
		}
	}
	return n
}

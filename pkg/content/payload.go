package content

import (
	"encoding/json"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/entrytype"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// Payload writes content as JSON in the form of history records:
// {"bodies":[{…}],"ext":{…}}; receipts and recalls also have ack_message_id, or
// ack_message_ids.
func Payload(t busv1.EntryType, body []byte) ([]byte, error) {
	var mb msyncv1.MessageBody
	if err := proto.Unmarshal(body, &mb); err != nil {
		return nil, err
	}
	dst := make([]byte, 0, len(body)+64)
	dst = append(dst, `{"bodies":[`...)
	if entrytype.HasContents(t) {
		for i, c := range mb.GetContents() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendContent(dst, c)
		}
	}
	dst = append(dst, `],"ext":`...)
	dst = appendExt(dst, mb.GetExt())
	if id := mb.GetAckMessageId(); id != 0 {
		dst = append(dst, `,"ack_message_id":"`...)
		dst = strconv.AppendUint(dst, id, 10)
		dst = append(dst, '"')
	}
	for i, id := range mb.GetAckMessageIds() {
		dst = append(dst, [...]string{`,"ack_message_ids":["`, `","`}[min(i, 1)]...)
		dst = strconv.AppendUint(dst, id, 10)
	}
	if len(mb.GetAckMessageIds()) > 0 {
		dst = append(dst, `"]`...)
	}
	if id := mb.GetEditMessageId(); id != 0 {
		dst = append(dst, `,"edit_message_id":"`...)
		dst = strconv.AppendUint(dst, id, 10)
		dst = append(dst, '"')
	}
	return append(dst, '}'), nil
}

// object writes members of a JSON object, leaving out what is not there.
type object struct{ dst []byte }

func (o *object) key(name string) {
	if o.dst[len(o.dst)-1] != '{' {
		o.dst = append(o.dst, ',')
	}
	o.dst = append(o.dst, '"')
	o.dst = append(o.dst, name...)
	o.dst = append(o.dst, '"', ':')
}

func (o *object) text(name string, v *string) {
	if v != nil {
		o.key(name)
		o.dst = appendString(o.dst, *v)
	}
}

func (o *object) whole(name string, v *int32) {
	if v != nil {
		o.key(name)
		o.dst = strconv.AppendInt(o.dst, int64(*v), 10)
	}
}

func (o *object) number(name string, v *float64) {
	if v != nil {
		o.key(name)
		o.dst = appendNumber(o.dst, *v)
	}
}

func (o *object) dimensions(name string, v *msyncv1.MessageBody_Content_Size) {
	if v == nil {
		return
	}
	o.key(name)
	o.dst = append(o.dst, '{')
	o.number("width", v.Width)
	o.number("height", v.Height)
	o.dst = append(o.dst, '}')
}

func appendContent(dst []byte, c *msyncv1.MessageBody_Content) []byte {
	o := &object{dst: append(dst, '{')}
	name := TypeName(ContentType(c))
	o.text("type", &name)
	switch c.GetType() {
	case msyncv1.MessageBody_Content_TEXT, msyncv1.MessageBody_Content_COMBINE:
		o.text("msg", c.Text)
		o.text("title", c.Title)
		o.text("summary", c.Summary)
	case msyncv1.MessageBody_Content_COMMAND:
		o.text("action", c.Action)
		if len(c.GetParams()) > 0 {
			o.key("param")
			o.dst = appendExt(o.dst, c.GetParams())
		}
	case msyncv1.MessageBody_Content_CUSTOM:
		o.text("customEvent", c.CustomEvent)
		o.key("customExts")
		o.dst = appendExt(o.dst, c.GetCustomExts())
	case msyncv1.MessageBody_Content_LOCATION:
		o.number("lat", c.Latitude)
		o.number("lng", c.Longitude)
		o.text("addr", c.Address)
	}
	o.whole("file_length", c.FileLength)
	o.text("filename", c.DisplayName)
	o.whole("length", c.Duration)
	o.text("secret", c.SecretKey)
	o.dimensions("size", c.Size)
	o.text("thumb", c.ThumbnailRemotePath)
	o.text("thumb_secret", c.ThumbnailSecretKey)
	o.text("url", c.RemotePath)
	return append(o.dst, '}')
}

// appendString writes a JSON string. encoding/json replaces invalid UTF-8,
// which a client could have sent.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x80 {
			quoted, err := json.Marshal(s)
			if err != nil { // a string always marshals
				return append(dst, `""`...)
			}
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

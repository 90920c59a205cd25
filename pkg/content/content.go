// Package content turns the content of messages from the REST API's JSON into
// the client protocol's form and back. Inside Chappe, content is a serialized
// msync MessageBody, so that what one official SDK sends another receives
// unchanged; JSON exists only at the REST and gRPC borders.
package content

import (
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/tidwall/gjson"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// Message is content ready to be committed.
type Message struct {
	Type busv1.EntryType
	// Body is a serialized msync MessageBody without `from` and `to`.
	Body []byte
	// Size in bytes as the limits count it: UTF-8 text of the body's values
	// and the JSON text of ext.
	Size int
}

// Types of messages by their REST names.
var types = map[string]busv1.EntryType{
	"txt":    busv1.EntryType_ENTRY_TYPE_TXT,
	"img":    busv1.EntryType_ENTRY_TYPE_IMG,
	"audio":  busv1.EntryType_ENTRY_TYPE_AUDIO,
	"video":  busv1.EntryType_ENTRY_TYPE_VIDEO,
	"file":   busv1.EntryType_ENTRY_TYPE_FILE,
	"loc":    busv1.EntryType_ENTRY_TYPE_LOC,
	"cmd":    busv1.EntryType_ENTRY_TYPE_CMD,
	"custom": busv1.EntryType_ENTRY_TYPE_CUSTOM,
}

// TypeName gives the name of an entry's type as REST and gRPC show it.
func TypeName(t busv1.EntryType) string {
	switch t {
	case busv1.EntryType_ENTRY_TYPE_TXT, busv1.EntryType_ENTRY_TYPE_COMBINE:
		return "txt"
	case busv1.EntryType_ENTRY_TYPE_IMG:
		return "img"
	case busv1.EntryType_ENTRY_TYPE_AUDIO:
		return "audio"
	case busv1.EntryType_ENTRY_TYPE_VIDEO:
		return "video"
	case busv1.EntryType_ENTRY_TYPE_FILE:
		return "file"
	case busv1.EntryType_ENTRY_TYPE_LOC:
		return "loc"
	case busv1.EntryType_ENTRY_TYPE_CMD:
		return "cmd"
	case busv1.EntryType_ENTRY_TYPE_CUSTOM:
		return "custom"
	case busv1.EntryType_ENTRY_TYPE_DELIVERY_ACK:
		return "delivery_ack"
	case busv1.EntryType_ENTRY_TYPE_READ_ACK:
		return "read_ack"
	case busv1.EntryType_ENTRY_TYPE_CHANNEL_ACK:
		return "channel_ack"
	case busv1.EntryType_ENTRY_TYPE_RECALL:
		return "recall"
	case busv1.EntryType_ENTRY_TYPE_EDIT:
		return "edit"
	default:
		return "unknown"
	}
}

// FromREST reads a message as the REST API takes it: its type, its body object
// and its ext object (nil for none). Errors are the wire contract's 400s and
// name the field.
func FromREST(kind busv1.Kind, typ string, body, ext []byte) (Message, error) {
	t, ok := types[typ]
	if !ok {
		return Message{}, illegal("type")
	}
	body, ok = Normal(body)
	b := gjson.ParseBytes(body)
	if !ok || !b.IsObject() {
		return Message{}, illegal("body")
	}
	c := &msyncv1.MessageBody_Content{}
	size, err := readBody(c, t, b)
	if err != nil {
		return Message{}, err
	}
	mb := &msyncv1.MessageBody{Type: bodyType(kind).Enum(), Contents: []*msyncv1.MessageBody_Content{c}}
	if ext != nil {
		ext, ok := Normal(ext)
		e := gjson.ParseBytes(ext)
		if !ok || !e.IsObject() {
			return Message{}, illegal("ext")
		}
		size += len(ext)
		if len(ext) == 2 {
			size -= 2 // an empty object says nothing
		}
		mb.Ext = extFromJSON(e)
	}
	raw, err := proto.MarshalOptions{}.Marshal(mb)
	if err != nil {
		return Message{}, illegal("body")
	}
	return Message{Type: t, Body: raw, Size: size}, nil
}

// illegal is the error of a field of a send that does not fit.
func illegal(field string) error { return errs.MessageRefused("param " + field + " is illegal") }

func bodyType(kind busv1.Kind) msyncv1.MessageBody_Type {
	switch kind {
	case busv1.Kind_KIND_GROUP:
		return msyncv1.MessageBody_GROUPCHAT
	case busv1.Kind_KIND_ROOM:
		return msyncv1.MessageBody_CHATROOM
	default:
		return msyncv1.MessageBody_CHAT
	}
}

// reader takes typed values out of a body object, adds up the bytes of its
// texts and remembers what does not fit: that a field has a wrong type, and
// the first that is missing or has an impossible value. An optional field that
// is null counts as absent.
type reader struct {
	obj      gjson.Result
	size     int
	mistyped bool
	bad      string
}

// misfit notes a field that is missing or has an impossible value.
func (r *reader) misfit(name string) {
	if r.bad == "" {
		r.bad = name
	}
}

// err returns the error of what does not fit, or nil. Types come first.
func (r *reader) err() error {
	switch {
	case r.mistyped:
		return errs.InvalidBody()
	case r.bad != "":
		return illegal("body." + r.bad)
	default:
		return nil
	}
}

// get returns a field; it does not exist if it is null.
func (r *reader) get(name string) gjson.Result {
	v := r.obj.Get(name)
	if v.Type == gjson.Null {
		return gjson.Result{}
	}
	return v
}

func (r *reader) text(name string, required bool) *string {
	v := r.get(name)
	switch {
	case !v.Exists() && !required:
		return nil
	case !v.Exists():
		r.misfit(name)
		return nil
	case v.Type != gjson.String || !utf8.ValidString(v.Str):
		r.mistyped = true
		return nil
	}
	r.size += len(v.Str)
	return &v.Str
}

// number takes a JSON number or a numeric string, as samples of the vendor
// show both.
func (r *reader) number(name string, required bool) *float64 {
	v := r.get(name)
	switch {
	case !v.Exists() && !required:
		return nil
	case v.Type == gjson.Number:
		return &v.Num
	case v.Type == gjson.String:
		if f, err := strconv.ParseFloat(v.Str, 64); err == nil {
			return &f
		}
		r.misfit(name)
	case !v.Exists():
		r.misfit(name)
	default:
		r.mistyped = true
	}
	return nil
}

// whole takes a number that is not negative. One that the client protocol's
// field does not hold is left out: clients do without it.
func (r *reader) whole(name string) *int32 {
	f := r.number(name, false)
	switch {
	case f == nil:
		return nil
	case *f < 0 || math.IsNaN(*f):
		r.misfit(name)
		return nil
	case *f > math.MaxInt32:
		return nil
	}
	n := int32(*f)
	return &n
}

func (r *reader) dimensions(name string) *msyncv1.MessageBody_Content_Size {
	v := r.get(name)
	if !v.Exists() {
		return nil
	}
	if !v.IsObject() {
		r.mistyped = true
		return nil
	}
	in := reader{obj: v}
	s := &msyncv1.MessageBody_Content_Size{Width: in.number("width", false), Height: in.number("height", false)}
	r.mistyped = r.mistyped || in.mistyped
	if in.bad != "" {
		r.misfit(name + "." + in.bad)
	}
	return s
}

func readBody(c *msyncv1.MessageBody_Content, t busv1.EntryType, b gjson.Result) (int, error) {
	r := &reader{obj: b}
	switch t {
	case busv1.EntryType_ENTRY_TYPE_TXT:
		c.Type = msyncv1.MessageBody_Content_TEXT.Enum()
		c.Text = r.text("msg", true)
	case busv1.EntryType_ENTRY_TYPE_CMD:
		c.Type = msyncv1.MessageBody_Content_COMMAND.Enum()
		c.Action = r.text("action", true)
		switch p := r.get("param"); {
		case p.IsObject():
			c.Params = extFromJSON(p)
			r.size += len(p.Raw)
		case p.Exists():
			r.mistyped = true
		}
	case busv1.EntryType_ENTRY_TYPE_CUSTOM:
		c.Type = msyncv1.MessageBody_Content_CUSTOM.Enum()
		readCustom(r, c)
	case busv1.EntryType_ENTRY_TYPE_LOC:
		c.Type = msyncv1.MessageBody_Content_LOCATION.Enum()
		c.Latitude = r.number("lat", true)
		c.Longitude = r.number("lng", true)
		c.Address = r.text("addr", true)
	case busv1.EntryType_ENTRY_TYPE_IMG:
		c.Type = msyncv1.MessageBody_Content_IMAGE.Enum()
		readFile(r, c)
		c.Size = r.dimensions("size")
	case busv1.EntryType_ENTRY_TYPE_AUDIO:
		c.Type = msyncv1.MessageBody_Content_VOICE.Enum()
		readFile(r, c)
		// One table of the vendor spells it with a capital.
		if c.Duration = r.whole("length"); c.Duration == nil {
			c.Duration = r.whole("Length")
		}
	case busv1.EntryType_ENTRY_TYPE_VIDEO:
		c.Type = msyncv1.MessageBody_Content_VIDEO.Enum()
		readFile(r, c)
		c.Duration = r.whole("length")
		c.ThumbnailRemotePath = r.text("thumb", false)
		c.ThumbnailSecretKey = r.text("thumb_secret", false)
		c.Size = r.dimensions("size")
	case busv1.EntryType_ENTRY_TYPE_FILE:
		c.Type = msyncv1.MessageBody_Content_FILE.Enum()
		readFile(r, c)
	}
	return r.size, r.err()
}

// readFile takes what all media have: of them only the url must be there.
func readFile(r *reader, c *msyncv1.MessageBody_Content) {
	c.DisplayName = r.text("filename", false)
	c.RemotePath = r.text("url", true)
	c.SecretKey = r.text("secret", false)
	c.FileLength = r.whole("file_length")
}

// maxCustomExts bounds customExts (wire contract, sizes).
const maxCustomExts = 16

func readCustom(r *reader, c *msyncv1.MessageBody_Content) {
	if c.CustomEvent = r.text("customEvent", false); c.CustomEvent != nil && !validCustomEvent(*c.CustomEvent) {
		r.misfit("customEvent")
	}
	exts := r.get("customExts")
	if !exts.Exists() {
		return
	}
	if !exts.IsObject() {
		r.mistyped = true
		return
	}
	exts.ForEach(func(k, v gjson.Result) bool {
		// Values are strings; a number or truth value is kept by its text.
		text := v.Str
		switch {
		case v.Type == gjson.Null:
			return true
		case v.IsObject() || v.IsArray():
			r.mistyped = true
			return false
		case v.Type != gjson.String:
			text = v.Raw
		}
		c.CustomExts = append(c.CustomExts, &msyncv1.KeyValue{
			Key: &k.Str, Type: msyncv1.KeyValue_STRING.Enum(), Value: &msyncv1.KeyValue_StringValue{StringValue: text},
		})
		r.size += len(k.Str) + len(text)
		return true
	})
	if len(c.CustomExts) > maxCustomExts {
		r.misfit("customExts")
	}
}

// validCustomEvent: 1 to 32 of letters, digits, "-", "_", "/" and "." (wire
// contract, sizes).
func validCustomEvent(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '/', c == '.':
		default:
			return false
		}
	}
	return true
}

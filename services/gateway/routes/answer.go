package routes

import (
	"reflect"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/catalog"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	"github.com/chappe-im/chappe/services/gateway/restjson"
)

// Answer says what the answer to a call holds. One function writes them all
// (Append), and the API document describes them from the same entries. Every
// answer but a Plain one has timestamp and duration.
type Answer struct {
	// Action is the text of "action"; Verb is the call's HTTP method.
	Action string
	// Status is the text of "status".
	Status string
	// App adds the three fields that name the app, Params the query.
	App, Params bool
	// Path is "path". URI says what "uri" is the full address of; At is the path
	// within the app that OfPath stands for, where it is another.
	Path, At *Value
	URI      URI
	// Entities, Data and Count are the fields of these names. Cursor is there
	// only while there is a further page.
	Entities, Data, Cursor, Count *Value
	// Plain is the whole answer, in the place of all that.
	Plain *Value
}

// Verb stands for the HTTP method in lower case as the action of an answer.
const Verb = "{method}"

// URI says what the field "uri" is the full address of.
type URI uint8

// The addresses. Without one of them there is no field.
const (
	// Self is the call's own path, as it was sent.
	Self URI = iota + 1
	// OfPath is the answer's Path, or At, within the app.
	OfPath
	// OfApp is the app itself.
	OfApp
)

// Value is a part of an answer.
type Value struct {
	// Type is the Go type of what is written, with the json tags of its fields.
	Type reflect.Type

	of func(req, resp proto.Message) any
}

// value returns the part of an answer that f makes of request and response. A
// list or map that is nil is written as an empty one; a nil pointer leaves the
// field out.
func value[Req, Resp proto.Message, T any](f func(Req, Resp) T) *Value {
	t := reflect.TypeFor[T]()
	mayBeNil := t.Kind() == reflect.Slice || t.Kind() == reflect.Map || t.Kind() == reflect.Pointer
	if t.Implements(reflect.TypeFor[restjson.Appender]()) {
		mayBeNil = false // it knows what to write
	}
	return &Value{Type: t, of: func(req, resp proto.Message) any {
		v := f(req.(Req), resp.(Resp)) // both belong to the RPC of the entry; a test makes the answer of each
		if mayBeNil && reflect.ValueOf(v).IsNil() {
			return empty(t)
		}
		return v
	}}
}

// empty returns what is written for nil of a type.
func empty(t reflect.Type) any {
	switch t.Kind() {
	case reflect.Slice:
		return reflect.MakeSlice(t, 0, 0).Interface()
	case reflect.Map:
		return reflect.MakeMap(t).Interface()
	default:
		return nil
	}
}

// of is value for parts that only the response decides.
func of[Resp proto.Message, T any](f func(Resp) T) *Value {
	return value(func(_ proto.Message, resp Resp) T { return f(resp) })
}

// always is a part that is the same in every answer.
func always(v any) *Value {
	return &Value{Type: reflect.TypeOf(v), of: func(proto.Message, proto.Message) any { return v }}
}

// Parts that many answers share.
var (
	// none is the empty list of entities that answers with data have.
	none = always([]string{})
	zero = always(0)
	one  = always(1)
	done = always(result[bool]{true})
)

// result is an object with one field.
type result[T any] struct {
	Result T `json:"result"`
}

// users returns the entities of the users that f finds in a response.
func users[Resp proto.Message](f func(Resp) []*accountv1.User) *Value {
	return of(func(resp Resp) []user { return each(f(resp), userOf) })
}

// oneUser is users for a single one.
func oneUser[Resp proto.Message](f func(Resp) *accountv1.User) *Value {
	return of(func(resp Resp) []user { return []user{userOf(f(resp))} })
}

// size returns the length of a list of a response.
func size[Resp proto.Message, T any](f func(Resp) []T) *Value {
	return of(func(resp Resp) int { return len(f(resp)) })
}

// each makes a list of another.
func each[From, To any](list []From, f func(From) To) []To {
	out := make([]To, len(list))
	for i, x := range list {
		out[i] = f(x)
	}
	return out
}

// Envelope is what an answer tells of its call, and the buffer it is written
// to.
type Envelope struct {
	Buf []byte

	App *catalog.App
	// Action is the call's HTTP method in lower case.
	Action string
	// Scheme and Host are what the caller used.
	Scheme, Host string
	// Path is the call's path as it was sent, Query its query without "?".
	Path, Query string
	Began       time.Time
	Now         time.Time
}

// Append writes the answer to a request and its response.
func (a *Answer) Append(e *Envelope, req, resp proto.Message) error {
	if a.Plain != nil {
		return e.append(a.Plain.of(req, resp))
	}
	e.Buf = append(e.Buf, '{')
	switch a.Action {
	case "":
	case Verb:
		e.str("action", e.Action)
	default:
		e.str("action", a.Action)
	}
	if a.App {
		e.str("application", e.App.UUID)
		e.str("organization", e.App.Org)
		e.str("applicationName", e.App.Name)
	}
	if a.Params {
		if err := e.params(); err != nil {
			return err
		}
	}
	if a.Status != "" {
		e.str("status", a.Status)
	}
	path := ""
	if a.Path != nil {
		path, _ = a.Path.of(req, resp).(string)
		e.str("path", path)
	}
	if a.At != nil {
		path, _ = a.At.of(req, resp).(string)
	}
	switch a.URI {
	case Self:
		e.uri(e.Path)
	case OfPath, OfApp:
		e.uri("/", e.App.Org, "/", e.App.Name, path)
	}
	for _, f := range [...]struct {
		name string
		v    *Value
	}{{"entities", a.Entities}, {"data", a.Data}} {
		if f.v == nil {
			continue
		}
		if v := f.v.of(req, resp); v != nil {
			e.name(f.name)
			if err := e.append(v); err != nil {
				return err
			}
		}
	}
	e.int("timestamp", e.Now.UnixMilli())
	e.int("duration", e.Now.Sub(e.Began).Milliseconds())
	if a.Cursor != nil {
		if cursor, _ := a.Cursor.of(req, resp).(string); cursor != "" {
			e.str("cursor", cursor)
		}
	}
	if a.Count != nil {
		e.name("count")
		if err := e.append(a.Count.of(req, resp)); err != nil {
			return err
		}
	}
	e.Buf = append(e.Buf, '}')
	return nil
}

func (e *Envelope) append(v any) (err error) {
	e.Buf, err = restjson.Append(e.Buf, v)
	return err
}

// name begins a field.
func (e *Envelope) name(name string) {
	if e.Buf[len(e.Buf)-1] != '{' {
		e.Buf = append(e.Buf, ',')
	}
	e.Buf = append(e.Buf, '"')
	e.Buf = append(e.Buf, name...)
	e.Buf = append(e.Buf, '"', ':')
}

func (e *Envelope) str(name, value string) {
	e.name(name)
	e.Buf = restjson.AppendString(e.Buf, value)
}

func (e *Envelope) int(name string, value int64) {
	e.name(name)
	e.Buf = strconv.AppendInt(e.Buf, value, 10)
}

// uri writes a full address, its path in parts.
func (e *Envelope) uri(parts ...string) {
	e.name("uri")
	e.Buf = append(e.Buf, '"')
	e.Buf = append(e.Buf, e.Scheme...)
	e.Buf = append(e.Buf, "://"...)
	e.Buf = appendInner(e.Buf, e.Host)
	for _, p := range parts {
		e.Buf = appendInner(e.Buf, p)
	}
	e.Buf = append(e.Buf, '"')
}

// appendInner appends a part of a JSON string.
func appendInner(dst []byte, s string) []byte {
	at := len(dst)
	dst = restjson.AppendString(dst, s)
	copy(dst[at:], dst[at+1:])
	return dst[:len(dst)-2]
}

// params repeats the query, if there was one: every value as an array.
func (e *Envelope) params() error {
	values, err := ParseForm(e.Query)
	if err != nil || len(values) == 0 {
		return nil //nolint:nilerr // what cannot be read is not repeated
	}
	e.name("params")
	return e.append(map[string][]string(values))
}

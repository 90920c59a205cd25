package restjson

import (
	"bytes"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/chappe-im/chappe/pkg/errs"
)

// Invalid returns the error of a body that is JSON but does not fit.
func Invalid() error { return errs.Invalid(errs.MessageInvalidRequest) }

// ParseError returns the error of a body that is no JSON.
func ParseError(err error) error { return errs.InvalidReason(errs.ReasonJSON, err.Error()) }

// byteOrderMark may stand before any body.
var byteOrderMark = []byte("\xef\xbb\xbf")

// Body says how the body of a call stands for its request where it is not the
// plain JSON of the message. The zero value is that.
type Body struct {
	// Aliases are further names of fields.
	Aliases map[string]string
	// Hidden names fields that a body cannot set, by their proto names.
	Hidden []string
	// Array names the field that a bare array stands for.
	Array string
	// Null holds the texts of the errors of fields that must not be null, by
	// their proto names.
	Null map[string]string
	// Other takes the fields of the body that the message does not have.
	Other func(m proto.Message, name string, value []byte) error
	// Error takes the place of the error of a field that does not fit, or of the
	// whole body: field is empty.
	Error func(field string, err error) error
	// Decode takes the place of all that. body has not been looked at; form
	// reports that it is labelled as a form. Nothing that it puts into m may
	// share memory with body.
	Decode func(body []byte, form bool, m proto.Message) error
	// Schema tells readers of the API document what Decode takes: an OpenAPI
	// schema in JSON.
	Schema string
	// Form reports that Decode takes forms, not only JSON labelled as such.
	Form bool
}

// Into fills a request from the body of a call. form reports that it is
// labelled as a form. Nothing of m shares memory with the body. An empty body
// leaves m as it is. Errors are *errs.Error.
//
// Fields are found by their JSON and their proto names; unknown ones are
// ignored, and so is null. Fields of type bytes take the raw value, including
// null: their meaning is the service's business. The app is part of every path
// and cannot be set.
func (b *Body) Into(m proto.Message, body []byte, form bool) error {
	body = bytes.TrimPrefix(body, byteOrderMark)
	if b.Decode != nil {
		return b.failed("", b.Decode(body, form, m))
	}
	raw, err := Parse(body)
	if err != nil || len(raw) == 0 {
		return b.failed("", err)
	}
	return b.unmarshal(raw, m.ProtoReflect())
}

// failed returns the error of a field or of the whole body.
func (b *Body) failed(field string, err error) error {
	if err == nil || b.Error == nil {
		return err
	}
	return b.Error(field, err)
}

// Parse checks that body is JSON, or empty, and cuts the white space around it.
func Parse(body []byte) ([]byte, error) {
	raw := trim(body)
	if len(raw) == 0 {
		return nil, nil
	}
	if err := Check(body); err != nil {
		return nil, ParseError(err)
	}
	return raw, nil
}

// Unmarshal fills a message from the raw text of an object.
func Unmarshal(raw []byte, m proto.Message) error { return new(Body).Unmarshal(raw, m) }

// Unmarshal fills a message from the raw text of an object, within a body.
func (b *Body) Unmarshal(raw []byte, m proto.Message) error {
	return b.unmarshal(raw, m.ProtoReflect())
}

func (b *Body) unmarshal(raw []byte, m protoreflect.Message) error {
	fields := m.Descriptor().Fields()
	if b.Array != "" && len(raw) > 0 && raw[0] == '[' {
		return b.failed("", setField(m, fields.ByName(protoreflect.Name(b.Array)), raw))
	}
	o, ok := NewObject(raw)
	if !ok {
		return b.failed("", Invalid())
	}
	for _, g := range b.given(&o, fields) {
		var err error
		if text := b.null(g); text != "" {
			err = errs.Invalid(text)
		} else if g.field != nil {
			err = b.failed(g.name, setField(m, g.field, g.raw))
		} else {
			err = b.Other(m.Interface(), g.name, g.raw)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// given is a field of a body; field is nil if the message has none of its name.
type given struct {
	name  string
	field protoreflect.FieldDescriptor
	raw   []byte
}

// given returns the fields of a body that mean something: of several of one
// name the last, whatever the others are.
func (b *Body) given(o *Object, fields protoreflect.FieldDescriptors) []given {
	var all []given
	var others map[string]int
	for {
		name, value, ok := o.Next()
		if !ok {
			return all
		}
		g := given{name: string(name), field: b.field(fields, string(name)), raw: value}
		place := -1
		switch {
		case g.field != nil:
			place = slices.IndexFunc(all, func(x given) bool { return x.field == g.field })
		case b.Other == nil:
			continue
		default:
			if i, seen := others[g.name]; seen {
				place = i
			} else if others == nil {
				others = make(map[string]int)
			}
			if place < 0 {
				others[g.name] = len(all)
			}
		}
		if place < 0 {
			all = append(all, g)
		} else {
			all[place] = g
		}
	}
}

// null returns the text of the error of a field that must not be null.
func (b *Body) null(g given) string {
	if g.field == nil || !IsNull(g.raw) {
		return ""
	}
	return b.Null[string(g.field.Name())]
}

// field finds a field that a body may set.
func (b *Body) field(fields protoreflect.FieldDescriptors, name string) protoreflect.FieldDescriptor {
	if alias, ok := b.Aliases[name]; ok {
		name = alias
	}
	f := fields.ByName(protoreflect.Name(name))
	if f == nil {
		f = fields.ByJSONName(name)
	}
	if f == nil || !b.Settable(f) {
		return nil
	}
	return f
}

// Settable reports whether a body may set a field.
func (b *Body) Settable(f protoreflect.FieldDescriptor) bool {
	return f.Name() != "org" && f.Name() != "app" && !slices.Contains(b.Hidden, string(f.Name()))
}

func setField(m protoreflect.Message, f protoreflect.FieldDescriptor, raw []byte) error {
	if f.Kind() == protoreflect.BytesKind && !f.IsList() && !f.IsMap() {
		m.Set(f, protoreflect.ValueOfBytes(append([]byte{}, raw...)))
		return nil
	}
	if IsNull(raw) {
		return nil
	}
	switch {
	case f.IsMap():
		return setMap(m, f, raw)
	case f.IsList():
		return setList(m, f, raw)
	}
	v, ok, err := value(f, raw, m.NewField)
	if err != nil {
		return err
	}
	if !ok {
		return Invalid()
	}
	m.Set(f, v)
	return nil
}

func setList(m protoreflect.Message, f protoreflect.FieldDescriptor, raw []byte) error {
	a, ok := NewArray(raw)
	if !ok {
		return Invalid()
	}
	list := m.Mutable(f).List()
	for {
		raw, ok := a.Next()
		if !ok {
			return nil
		}
		v, ok, err := value(f, raw, func(protoreflect.FieldDescriptor) protoreflect.Value { return list.NewElement() })
		if err != nil {
			return err
		}
		if !ok {
			return Invalid()
		}
		list.Append(v)
	}
}

func setMap(m protoreflect.Message, f protoreflect.FieldDescriptor, raw []byte) error {
	o, ok := NewObject(raw)
	if !ok || f.MapKey().Kind() != protoreflect.StringKind {
		return Invalid()
	}
	entries := m.Mutable(f).Map()
	for {
		name, raw, ok := o.Next()
		if !ok {
			return nil
		}
		v, ok, err := value(f.MapValue(), raw, func(protoreflect.FieldDescriptor) protoreflect.Value { return entries.NewValue() })
		if err != nil {
			return err
		}
		if !ok {
			return Invalid()
		}
		entries.Set(protoreflect.ValueOfString(string(name)).MapKey(), v)
	}
}

// value reads one value of a field's kind; ok is false if it does not fit.
func value(f protoreflect.FieldDescriptor, raw []byte, fresh func(protoreflect.FieldDescriptor) protoreflect.Value) (v protoreflect.Value, ok bool, err error) {
	switch f.Kind() {
	case protoreflect.StringKind:
		s, ok := String(raw)
		return protoreflect.ValueOfString(s), ok, nil
	case protoreflect.BoolKind:
		b, ok := Bool(raw)
		return protoreflect.ValueOfBool(b), ok, nil
	case protoreflect.Int32Kind:
		n, ok := Integer(raw, 32)
		return protoreflect.ValueOfInt32(int32(n)), ok, nil
	case protoreflect.Int64Kind:
		n, ok := Integer(raw, 64)
		return protoreflect.ValueOfInt64(n), ok, nil
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(append([]byte{}, raw...)), true, nil
	case protoreflect.MessageKind:
		v = fresh(f)
		return v, true, new(Body).unmarshal(raw, v.Message())
	default:
		// No other kind is part of the API.
		return v, false, nil
	}
}

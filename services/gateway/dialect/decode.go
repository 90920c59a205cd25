package dialect

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/chappe-im/chappe/pkg/errs"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

// invalid is the error of a body that is JSON but does not fit.
func invalid() error { return errs.Invalid(errs.MessageInvalidRequest) }

// ParseError is the error of a body that is no JSON.
func ParseError(err error) error { return errs.InvalidReason(errs.ReasonJSON, err.Error()) }

// AcceptsForm reports whether a request may come as a real form, not only as
// JSON under a form's label.
func AcceptsForm(m proto.Message) bool {
	_, ok := m.(*accountv1.SetUserAttributesRequest)
	return ok
}

// Decode fills a request from a JSON body. form says that it is labelled as a
// form. Nothing of m shares memory with the body. An empty body leaves m
// as it is. Errors are *errs.Error.
//
// Fields are found by their JSON and their proto names; unknown ones are
// ignored, and so is null. Fields of type bytes take the raw value, including
// null: their meaning is the service's business. What only the gateway may say
// of a call cannot be set.
func Decode(body []byte, form bool, m proto.Message) error {
	if attributes, ok := m.(*accountv1.SetUserAttributesRequest); ok {
		return decodeAttributes(body, form, attributes)
	}
	raw := trim(body)
	if len(raw) > 0 {
		if err := Check(body); err != nil {
			if aboutMessages(m) {
				return errs.InvalidBody()
			}
			return ParseError(err)
		}
	}
	switch m := m.(type) {
	case *messagingv1.SendToUsersRequest:
		return decodeSendToUsers(raw, m)
	case *messagingv1.SendMessageRequest:
		if len(raw) == 0 {
			return nil
		}
		if err := decodeMessage(raw, m.ProtoReflect()); err != nil {
			return errs.InvalidBody()
		}
		return nil
	case *accountv1.RegisterUsersRequest:
		return decodeRegisterUsers(raw, m)
	case *accountv1.UpdatePushSettingsRequest:
		return decodePushSettings(raw, m)
	case *presencev1.UnsubscribePresenceRequest:
		return decodeUnsubscribe(raw, m)
	case *accountv1.SetPushNicknamesRequest:
		return decodeNicknames(raw, m)
	}
	if len(raw) == 0 {
		return nil
	}
	return decodeMessage(raw, m.ProtoReflect())
}

// aboutMessages reports whether a call answers to bodies that do not fit as
// calls about messages do.
func aboutMessages(m proto.Message) bool {
	switch m.(type) {
	case *messagingv1.SendToUsersRequest, *messagingv1.SendMessageRequest:
		return true
	default:
		return false
	}
}

func decodeMessage(raw []byte, m protoreflect.Message) error {
	o, ok := NewObject(raw)
	if !ok {
		return invalid()
	}
	for {
		name, value, ok := o.Next()
		if !ok {
			return nil
		}
		if f := field(m.Descriptor(), string(name)); f != nil {
			if err := setField(m, f, value); err != nil {
				return err
			}
		}
	}
}

// field finds a field that a body may set.
func field(d protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	f := d.Fields().ByName(protoreflect.Name(name))
	if f == nil {
		f = d.Fields().ByJSONName(name)
	}
	if f == nil && d.FullName() == "chappe.account.v1.ChangePasswordRequest" && name == "oldPassword" {
		f = d.Fields().ByName("oldpassword")
	}
	if f == nil || reserved(f) {
		return nil
	}
	return f
}

// reserved reports whether only the gateway may set a field. The app is part
// of every path.
func reserved(f protoreflect.FieldDescriptor) bool {
	switch f.Name() {
	case "org", "app":
		return true
	case "check_old":
		return f.Parent().FullName() == "chappe.account.v1.ChangePasswordRequest"
	default:
		return false
	}
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
		return invalid()
	}
	m.Set(f, v)
	return nil
}

func setList(m protoreflect.Message, f protoreflect.FieldDescriptor, raw []byte) error {
	a, ok := NewArray(raw)
	if !ok {
		return invalid()
	}
	m.Clear(f) // the last of several fields of one name counts
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
			return invalid()
		}
		list.Append(v)
	}
}

func setMap(m protoreflect.Message, f protoreflect.FieldDescriptor, raw []byte) error {
	o, ok := NewObject(raw)
	if !ok || f.MapKey().Kind() != protoreflect.StringKind {
		return invalid()
	}
	m.Clear(f)
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
			return invalid()
		}
		entries.Set(protoreflect.ValueOfString(string(name)).MapKey(), v)
	}
}

// value reads one value of a field's kind; ok is false if it does not fit.
func value(f protoreflect.FieldDescriptor, raw []byte, fresh func(protoreflect.FieldDescriptor) protoreflect.Value) (v protoreflect.Value, ok bool, err error) {
	switch f.Kind() {
	case protoreflect.StringKind:
		if !isString(raw) {
			return v, false, nil
		}
		return protoreflect.ValueOfString(Unquote(raw)), true, nil
	case protoreflect.BoolKind:
		b, ok := boolean(raw)
		return protoreflect.ValueOfBool(b), ok, nil
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		n, ok := integer(raw, 32)
		return protoreflect.ValueOfInt32(int32(n)), ok, nil //nolint:gosec // integer checks the bits
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		n, ok := integer(raw, 64)
		return protoreflect.ValueOfInt64(n), ok, nil
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		n, ok := unsigned(raw, 32)
		return protoreflect.ValueOfUint32(uint32(n)), ok, nil //nolint:gosec // unsigned checks the bits
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		n, ok := unsigned(raw, 64)
		return protoreflect.ValueOfUint64(n), ok, nil
	case protoreflect.DoubleKind:
		n, ok := float(raw)
		return protoreflect.ValueOfFloat64(n), ok, nil
	case protoreflect.FloatKind:
		n, ok := float(raw)
		return protoreflect.ValueOfFloat32(float32(n)), ok, nil
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(append([]byte{}, raw...)), true, nil
	case protoreflect.MessageKind:
		v = fresh(f)
		return v, true, decodeMessage(raw, v.Message())
	default:
		// Enumerations and groups are not part of the API.
		return v, false, nil
	}
}

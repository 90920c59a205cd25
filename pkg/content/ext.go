package content

import (
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// extFromJSON makes the client protocol's typed pairs of a JSON object: whole
// numbers, fractions, booleans and strings keep their type, objects and arrays
// travel as JSON text.
func extFromJSON(obj gjson.Result) []*msyncv1.KeyValue {
	var out []*msyncv1.KeyValue
	obj.ForEach(func(k, v gjson.Result) bool {
		key := k.Str
		kv := &msyncv1.KeyValue{Key: &key}
		switch v.Type {
		case gjson.String:
			kv.Type, kv.Value = msyncv1.KeyValue_STRING.Enum(), &msyncv1.KeyValue_StringValue{StringValue: v.Str}
		case gjson.True, gjson.False:
			n := int64(0)
			if v.Type == gjson.True {
				n = 1
			}
			kv.Type, kv.Value = msyncv1.KeyValue_BOOL.Enum(), &msyncv1.KeyValue_VarintValue{VarintValue: n}
		case gjson.Number:
			if n, err := strconv.ParseInt(v.Raw, 10, 64); err == nil {
				kv.Type, kv.Value = msyncv1.KeyValue_INT.Enum(), &msyncv1.KeyValue_VarintValue{VarintValue: n}
			} else if u, err := strconv.ParseUint(v.Raw, 10, 64); err == nil {
				// The wire carries unsigned values so.
				kv.Type, kv.Value = msyncv1.KeyValue_UINT.Enum(), &msyncv1.KeyValue_VarintValue{VarintValue: int64(u)}
			} else {
				kv.Type, kv.Value = msyncv1.KeyValue_DOUBLE.Enum(), &msyncv1.KeyValue_DoubleValue{DoubleValue: v.Num}
			}
		default:
			kv.Type, kv.Value = msyncv1.KeyValue_JSON_STRING.Enum(), &msyncv1.KeyValue_StringValue{StringValue: v.Raw}
		}
		out = append(out, kv)
		return true
	})
	return out
}

// appendExt writes pairs as a JSON object.
func appendExt(dst []byte, pairs []*msyncv1.KeyValue) []byte {
	dst = append(dst, '{')
	for i, kv := range pairs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, kv.GetKey())
		dst = append(dst, ':')
		dst = appendValue(dst, kv)
	}
	return append(dst, '}')
}

func appendValue(dst []byte, kv *msyncv1.KeyValue) []byte {
	switch kv.GetType() {
	case msyncv1.KeyValue_BOOL:
		return strconv.AppendBool(dst, kv.GetVarintValue() != 0)
	case msyncv1.KeyValue_INT, msyncv1.KeyValue_LLINT:
		return strconv.AppendInt(dst, kv.GetVarintValue(), 10)
	case msyncv1.KeyValue_UINT:
		return strconv.AppendUint(dst, uint64(kv.GetVarintValue()), 10) // the wire carries unsigned values so
	case msyncv1.KeyValue_FLOAT:
		return appendNumber(dst, float64(kv.GetFloatValue()))
	case msyncv1.KeyValue_DOUBLE:
		return appendFraction(dst, kv.GetDoubleValue())
	case msyncv1.KeyValue_JSON_STRING:
		if s := kv.GetStringValue(); gjson.Valid(s) {
			return append(dst, s...)
		}
		return appendString(dst, kv.GetStringValue())
	default:
		return appendString(dst, kv.GetStringValue())
	}
}

// appendFraction writes a number so that it reads back as a fraction.
func appendFraction(dst []byte, f float64) []byte {
	at := len(dst)
	dst = appendNumber(dst, f)
	if !strings.ContainsAny(string(dst[at:]), ".en") {
		dst = append(dst, '.', '0')
	}
	return dst
}

// appendNumber writes a number; JSON has none for infinities and NaN, which
// become null.
func appendNumber(dst []byte, f float64) []byte {
	if f != f || f > 1.7976931348623157e308 || f < -1.7976931348623157e308 {
		return append(dst, "null"...)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

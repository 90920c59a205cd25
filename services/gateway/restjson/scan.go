package restjson

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
)

// Object iterates over the fields of a JSON object that has passed Check.
type Object struct {
	data []byte
	pos  int
}

// NewObject begins at a raw value; ok is false if that is no object.
func NewObject(raw []byte) (o Object, ok bool) {
	if len(raw) == 0 || raw[0] != '{' {
		return Object{}, false
	}
	return Object{data: raw, pos: 1}, true
}

// Next returns the next field: its name, unescaped, and its raw value. The
// slices belong to the object's text.
func (o *Object) Next() (name, value []byte, ok bool) {
	pos := skipTo(o.data, o.pos)
	if o.data[pos] == '}' {
		return nil, nil, false
	}
	end := skipString(o.data, pos)
	name = o.data[pos+1 : end-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		name = []byte(unquote(o.data[pos:end]))
	}
	pos = skipTo(o.data, end)
	end = skipValue(o.data, pos)
	o.pos = end
	return name, o.data[pos:end], true
}

// Array iterates over the elements of a JSON array that has passed Check.
type Array struct {
	data []byte
	pos  int
}

// NewArray begins at a raw value; ok is false if that is no array.
func NewArray(raw []byte) (a Array, ok bool) {
	if len(raw) == 0 || raw[0] != '[' {
		return Array{}, false
	}
	return Array{data: raw, pos: 1}, true
}

// Next returns the next raw element.
func (a *Array) Next() (value []byte, ok bool) {
	pos := skipTo(a.data, a.pos)
	if a.data[pos] == ']' {
		return nil, false
	}
	a.pos = skipValue(a.data, pos)
	return a.data[pos:a.pos], true
}

// skipTo gives the place of the next byte that is neither white space nor a
// separator.
func skipTo(data []byte, pos int) int {
	for {
		switch data[pos] {
		case ' ', '\t', '\n', '\r', ',', ':':
			pos++
		default:
			return pos
		}
	}
}

func skipString(data []byte, pos int) int {
	for pos++; ; pos++ {
		switch data[pos] {
		case '"':
			return pos + 1
		case '\\':
			pos++
		}
	}
}

func skipValue(data []byte, pos int) int {
	switch data[pos] {
	case '"':
		return skipString(data, pos)
	case '{', '[':
		depth := 0
		for {
			switch data[pos] {
			case '"':
				pos = skipString(data, pos)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
				if depth == 0 {
					return pos + 1
				}
			}
			pos++
		}
	default:
		for pos++; pos < len(data); pos++ {
			switch data[pos] {
			case ' ', '\t', '\n', '\r', ',', '}', ']':
				return pos
			}
		}
		return pos
	}
}

// trim cuts white space off both ends.
func trim(data []byte) []byte { return bytes.Trim(data, " \t\r\n") }

// IsNull reports whether a raw value is null.
func IsNull(raw []byte) bool { return len(raw) > 0 && raw[0] == 'n' }

// isString reports whether a raw value is a string.
func isString(raw []byte) bool { return len(raw) > 0 && raw[0] == '"' }

// String returns the text of a raw value; ok is false if that is no string.
func String(raw []byte) (s string, ok bool) {
	if !isString(raw) {
		return "", false
	}
	return unquote(raw), true
}

// Strings appends the elements of an array of strings to list; ok is false if
// the raw value is something else.
func Strings(raw []byte, list []string) (_ []string, ok bool) {
	a, ok := NewArray(raw)
	if !ok {
		return nil, false
	}
	for {
		element, more := a.Next()
		if !more {
			return list, true
		}
		s, ok := String(element)
		if !ok {
			return nil, false
		}
		list = append(list, s)
	}
}

// unquote returns the text of a raw string. The result shares no memory with it.
func unquote(raw []byte) string {
	inner := raw[1 : len(raw)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var s string
	// What has passed Check always unmarshals.
	_ = json.Unmarshal(raw, &s)
	return s
}

// Text returns a raw number, or the text of a raw string.
func Text(raw []byte) string {
	if isString(raw) {
		return unquote(raw)
	}
	return string(raw)
}

// Integer reads a whole number, also one written as a string, with a fraction
// of zero or with an exponent.
func Integer(raw []byte, bits int) (int64, bool) {
	if c := raw[0]; c != '"' && c != '-' && (c < '0' || c > '9') {
		return 0, false
	}
	s := Text(raw)
	n, err := strconv.ParseInt(s, 10, bits)
	if err == nil {
		return n, true
	}
	if Check([]byte(s)) != nil {
		return 0, false
	}
	// Beyond 2^53 a float has lost the number.
	const exact = 1 << 53
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > exact {
		return 0, false
	}
	if n = int64(f); bits == 32 && n != int64(int32(n)) {
		return 0, false
	}
	return n, true
}

// Bool reads a truth value, also one written as a string.
func Bool(raw []byte) (v, ok bool) {
	switch Text(raw) {
	case "true":
		return true, true
	case "false":
		return false, true
	default:
		return false, false
	}
}

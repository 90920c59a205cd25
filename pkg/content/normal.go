package content

import (
	"bytes"
	"encoding/json"

	"github.com/tidwall/gjson"
)

// maxDepth bounds how deep objects and arrays of a message nest.
const maxDepth = 512

// Normal returns a JSON value as it is measured and kept: without white space,
// without escapes that JSON does not ask for, and with the last of several
// fields of one name. Numbers stay as they are spelled. ok is false if raw is
// no JSON, or nests too deep.
func Normal(raw []byte) (_ []byte, ok bool) {
	if !gjson.ValidBytes(raw) {
		return nil, false
	}
	n := normalizer{src: raw, dst: make([]byte, 0, len(raw))}
	ok = n.value(0)
	return n.dst, ok
}

// normalizer copies valid JSON. It looks at each byte once, whatever the depth.
type normalizer struct {
	src, dst []byte
	pos      int
}

func (n *normalizer) space() {
	for n.pos < len(n.src) {
		switch n.src[n.pos] {
		case ' ', '\t', '\n', '\r':
			n.pos++
		default:
			return
		}
	}
}

// take copies a byte that is known to come next.
func (n *normalizer) take() {
	n.dst = append(n.dst, n.src[n.pos])
	n.pos++
}

func (n *normalizer) value(depth int) bool {
	n.space()
	switch n.src[n.pos] {
	case '{':
		return n.object(depth + 1)
	case '[':
		return n.array(depth + 1)
	case '"':
		n.text()
	default:
		for n.pos < len(n.src) && bytes.IndexByte([]byte(" \t\r\n,]}"), n.src[n.pos]) < 0 {
			n.take()
		}
	}
	return true
}

// text copies a string and returns what it says.
func (n *normalizer) text() []byte {
	begin := n.pos
	for n.pos++; n.src[n.pos] != '"'; n.pos++ {
		if n.src[n.pos] == '\\' {
			n.pos++
		}
	}
	n.pos++
	raw := n.src[begin:n.pos]
	if bytes.IndexByte(raw, '\\') < 0 {
		n.dst = append(n.dst, raw...)
		return raw[1 : len(raw)-1]
	}
	var s string
	_ = json.Unmarshal(raw, &s) // valid JSON always unmarshals
	n.dst = appendText(n.dst, s)
	return []byte(s)
}

func (n *normalizer) array(depth int) bool {
	if depth > maxDepth {
		return false
	}
	n.take()
	for first := true; ; first = false {
		if n.space(); n.src[n.pos] == ']' {
			n.take()
			return true
		}
		if !first {
			n.take() // the comma
		}
		if !n.value(depth) {
			return false
		}
	}
}

// member is where a field of an object stands in the copy.
type member struct {
	name       []byte
	begin, end int
	gone       bool
}

// fewMembers are compared one by one, without a map of their names.
const fewMembers = 12

func (n *normalizer) object(depth int) bool {
	if depth > maxDepth {
		return false
	}
	n.take()
	begin, twice := len(n.dst), false
	var members []member
	var places map[string]int
	for {
		if n.space(); n.src[n.pos] == '}' {
			break
		}
		if n.src[n.pos] == ',' {
			n.pos++
			n.space()
		}
		m := member{begin: len(n.dst)}
		m.name = n.text()
		if i := find(members, &places, m.name); i >= 0 {
			members[i].gone, twice = true, true
		}
		n.space()
		n.take() // the colon
		if !n.value(depth) {
			return false
		}
		n.dst = append(n.dst, ',')
		m.end = len(n.dst)
		members = append(members, m)
	}
	if twice {
		kept := begin
		for _, m := range members {
			if !m.gone {
				kept += copy(n.dst[kept:], n.dst[m.begin:m.end])
			}
		}
		n.dst = n.dst[:kept]
	}
	if len(members) > 0 {
		n.dst = n.dst[:len(n.dst)-1] // the comma after the last
	}
	n.take()
	return true
}

// find returns the place of the last member of a name, -1 if there is none. The
// name is that of the member that comes next; places holds them all once they
// are many.
func find(members []member, places *map[string]int, name []byte) int {
	if len(members) < fewMembers {
		for i := len(members) - 1; i >= 0; i-- {
			if bytes.Equal(members[i].name, name) {
				return i
			}
		}
		return -1
	}
	if *places == nil {
		*places = make(map[string]int, 2*len(members))
		for i, m := range members {
			(*places)[string(m.name)] = i
		}
	}
	i, ok := (*places)[string(name)]
	(*places)[string(name)] = len(members)
	if !ok {
		return -1
	}
	return i
}

// appendText appends s as a JSON string with the escapes that JSON asks for
// and no others, which encoding/json does not do.
func appendText(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			if c < ' ' {
				dst = append(dst, `\u00`...)
				dst = append(dst, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
			} else {
				dst = append(dst, c)
			}
		}
	}
	return append(dst, '"')
}

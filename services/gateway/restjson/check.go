// Package restjson is the JSON of the REST API: what callers may send for a
// request message, which is more than protobuf's own JSON allows, and how values
// are written in answers. It decodes with its own scanner, which knows where a
// body stops being JSON and allocates nothing for what it skips.
package restjson

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// MaxDepth bounds how deep objects and arrays may nest, so that no body can
// exhaust a stack, here or in whoever reads the raw parts.
const MaxDepth = 512

// SyntaxError tells where and why a text is no JSON.
type SyntaxError struct {
	Message      string
	Line, Column int
}

// Error gives the text that the caller of the API sees.
func (e *SyntaxError) Error() string {
	return e.Message + " at [line " + strconv.Itoa(e.Line) + ", column " + strconv.Itoa(e.Column) + "]"
}

// Check reports a *SyntaxError if data is not exactly one JSON value in valid
// UTF-8. The other functions of this package take only what has passed it.
func Check(data []byte) error {
	c := checker{data: data}
	pos, ok := c.value(c.space(0), 0)
	if ok {
		if pos = c.space(pos); pos == len(data) {
			return nil
		}
		c.unexpected(pos, "was expecting the end of the document")
	}
	return c.failure()
}

type checker struct {
	data    []byte
	at      int
	message string
}

const (
	wantValue = "was expecting a value (string, number, object, array, true, false or null)"
	wantName  = "was expecting double-quote to start field name"
	wantColon = "was expecting a colon to separate field name and value"
	wantDigit = "was expecting a digit in a number"
)

func (c *checker) space(pos int) int {
	for pos < len(c.data) {
		switch c.data[pos] {
		case ' ', '\t', '\n', '\r':
			pos++
		default:
			return pos
		}
	}
	return pos
}

// value checks one value that begins at pos and gives the place after it.
func (c *checker) value(pos, depth int) (int, bool) {
	if pos >= len(c.data) {
		return c.end()
	}
	switch b := c.data[pos]; {
	case b == '"':
		return c.str(pos)
	case b == '{':
		return c.object(pos, depth+1)
	case b == '[':
		return c.array(pos, depth+1)
	case b == 't':
		return c.word(pos, "true")
	case b == 'f':
		return c.word(pos, "false")
	case b == 'n':
		return c.word(pos, "null")
	case b == '-' || b >= '0' && b <= '9':
		return c.number(pos)
	default:
		return c.unexpected(pos, wantValue)
	}
}

func (c *checker) object(pos, depth int) (int, bool) {
	if depth > MaxDepth {
		return c.tooDeep(pos)
	}
	pos = c.space(pos + 1)
	if pos < len(c.data) && c.data[pos] == '}' {
		return pos + 1, true
	}
	for {
		if pos >= len(c.data) {
			return c.end()
		}
		if c.data[pos] != '"' {
			return c.unexpected(pos, wantName)
		}
		var ok bool
		if pos, ok = c.str(pos); !ok {
			return pos, false
		}
		if pos = c.space(pos); pos >= len(c.data) {
			return c.end()
		}
		if c.data[pos] != ':' {
			return c.unexpected(pos, wantColon)
		}
		if pos, ok = c.value(c.space(pos+1), depth); !ok {
			return pos, false
		}
		if pos = c.space(pos); pos >= len(c.data) {
			return c.end()
		}
		switch c.data[pos] {
		case '}':
			return pos + 1, true
		case ',':
			pos = c.space(pos + 1)
		default:
			return c.unexpected(pos, "was expecting comma to separate Object entries")
		}
	}
}

func (c *checker) array(pos, depth int) (int, bool) {
	if depth > MaxDepth {
		return c.tooDeep(pos)
	}
	pos = c.space(pos + 1)
	if pos < len(c.data) && c.data[pos] == ']' {
		return pos + 1, true
	}
	for {
		var ok bool
		if pos, ok = c.value(pos, depth); !ok {
			return pos, false
		}
		if pos = c.space(pos); pos >= len(c.data) {
			return c.end()
		}
		switch c.data[pos] {
		case ']':
			return pos + 1, true
		case ',':
			pos = c.space(pos + 1)
		default:
			return c.unexpected(pos, "was expecting comma to separate Array entries")
		}
	}
}

func (c *checker) str(pos int) (int, bool) {
	for pos++; pos < len(c.data); {
		switch b := c.data[pos]; {
		case b == '"':
			return pos + 1, true
		case b == '\\':
			var ok bool
			if pos, ok = c.escape(pos + 1); !ok {
				return pos, false
			}
		case b < ' ':
			return c.fail(pos, "Illegal unquoted character (control character, code "+strconv.Itoa(int(b))+
				"): has to be escaped using backslash to be included in a string")
		case b < utf8.RuneSelf:
			pos++
		default:
			r, n := utf8.DecodeRune(c.data[pos:])
			if r == utf8.RuneError && n == 1 {
				return c.fail(pos, "Invalid UTF-8 byte 0x"+strconv.FormatUint(uint64(b), 16))
			}
			pos += n
		}
	}
	return c.end()
}

// escape checks what follows a backslash.
func (c *checker) escape(pos int) (int, bool) {
	if pos >= len(c.data) {
		return c.end()
	}
	switch c.data[pos] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return pos + 1, true
	case 'u':
		for i := pos + 1; i < pos+5; i++ {
			if i >= len(c.data) {
				return c.end()
			}
			if !hexDigit(c.data[i]) {
				return c.unexpected(i, "was expecting a hex-digit for character escape sequence")
			}
		}
		return pos + 5, true
	default:
		return c.fail(pos, "Unrecognized character escape "+c.quote(pos))
	}
}

func hexDigit(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F'
}

func (c *checker) word(pos int, word string) (int, bool) {
	for i := range len(word) {
		if pos+i >= len(c.data) {
			return c.end()
		}
		if c.data[pos+i] != word[i] {
			return c.unexpected(pos+i, "was expecting the token '"+word+"'")
		}
	}
	return pos + len(word), true
}

func (c *checker) number(begin int) (int, bool) {
	pos := begin
	if c.data[pos] == '-' {
		pos++
	}
	var ok bool
	if pos < len(c.data) && c.data[pos] == '0' {
		pos++
	} else if pos, ok = c.digits(pos); !ok {
		return pos, false
	}
	if pos < len(c.data) && c.data[pos] == '.' {
		if pos, ok = c.digits(pos + 1); !ok {
			return pos, false
		}
	}
	exponent := pos < len(c.data) && (c.data[pos] == 'e' || c.data[pos] == 'E')
	if exponent {
		pos++
		if pos < len(c.data) && (c.data[pos] == '+' || c.data[pos] == '-') {
			pos++
		}
		if pos, ok = c.digits(pos); !ok {
			return pos, false
		}
	}
	if exponent || pos-begin > surelyFinite {
		if f, err := strconv.ParseFloat(string(c.data[begin:pos]), 64); err != nil && math.IsInf(f, 0) {
			return c.fail(begin, "Numeric value out of range of double")
		}
	}
	return pos, true
}

// surelyFinite is a length of numbers that are within the range of a double
// unless they have an exponent.
const surelyFinite = 300

// digits checks that there is at least one.
func (c *checker) digits(pos int) (int, bool) {
	begin := pos
	for pos < len(c.data) && c.data[pos] >= '0' && c.data[pos] <= '9' {
		pos++
	}
	switch {
	case pos > begin:
		return pos, true
	case pos >= len(c.data):
		return c.end()
	default:
		return c.unexpected(pos, wantDigit)
	}
}

func (c *checker) fail(pos int, message string) (int, bool) {
	c.at, c.message = pos, message
	return pos, false
}

func (c *checker) end() (int, bool) { return c.fail(len(c.data), "Unexpected end-of-input") }

func (c *checker) tooDeep(pos int) (int, bool) {
	return c.fail(pos, "Document nesting depth exceeds the maximum allowed ("+strconv.Itoa(MaxDepth)+")")
}

func (c *checker) unexpected(pos int, wanted string) (int, bool) {
	return c.fail(pos, "Unexpected character ("+c.quote(pos)+"): "+wanted)
}

// quote shows a character as "'x' (code 120)".
func (c *checker) quote(pos int) string {
	r, _ := utf8.DecodeRune(c.data[pos:])
	return "'" + string(r) + "' (code " + strconv.Itoa(int(r)) + ")"
}

func (c *checker) failure() *SyntaxError {
	e := &SyntaxError{Message: c.message, Line: 1, Column: 1}
	for _, b := range c.data[:c.at] {
		e.Column++
		if b == '\n' {
			e.Line++
			e.Column = 1
		}
	}
	return e
}

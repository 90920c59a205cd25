package restjson_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/services/gateway/restjson"
)

func TestCheckMessages(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		``:                    "Unexpected end-of-input at [line 1, column 1]",
		`{`:                   "Unexpected end-of-input at [line 1, column 2]",
		`{"a":1`:              "Unexpected end-of-input at [line 1, column 7]",
		`{"a":"x`:             "Unexpected end-of-input at [line 1, column 8]",
		`{username:"x"}`:      "Unexpected character ('u' (code 117)): was expecting double-quote to start field name at [line 1, column 2]",
		"{\n  \"a\": nope\n}": "Unexpected character ('o' (code 111)): was expecting the token 'null' at [line 2, column 9]",
		`{"a":}`:              "Unexpected character ('}' (code 125)): was expecting a value (string, number, object, array, true, false or null) at [line 1, column 6]",
		`{"a" 1}`:             "Unexpected character ('1' (code 49)): was expecting a colon to separate field name and value at [line 1, column 6]",
		`{"a":1 "b":2}`:       "Unexpected character ('\"' (code 34)): was expecting comma to separate Object entries at [line 1, column 8]",
		`[1 2]`:               "Unexpected character ('2' (code 50)): was expecting comma to separate Array entries at [line 1, column 4]",
		`{"a":1,}`:            "Unexpected character ('}' (code 125)): was expecting double-quote to start field name at [line 1, column 8]",
		`{} x`:                "Unexpected character ('x' (code 120)): was expecting the end of the document at [line 1, column 4]",
		"{\"a\":\"x\ny\"}":    "Illegal unquoted character (control character, code 10): has to be escaped using backslash to be included in a string at [line 1, column 8]",
		`{"a":"\x"}`:          "Unrecognized character escape 'x' (code 120) at [line 1, column 8]",
		`{"a":"\u12g4"}`:      "Unexpected character ('g' (code 103)): was expecting a hex-digit for character escape sequence at [line 1, column 11]",
		`{"a":-}`:             "Unexpected character ('}' (code 125)): was expecting a digit in a number at [line 1, column 7]",
		`{"a":1.}`:            "Unexpected character ('}' (code 125)): was expecting a digit in a number at [line 1, column 8]",
		`{"a":1e999}`:         "Numeric value out of range of double at [line 1, column 6]",
		`[-1E+400]`:           "Numeric value out of range of double at [line 1, column 2]",
		`{"a":01}`:            "Unexpected character ('1' (code 49)): was expecting comma to separate Object entries at [line 1, column 7]",
		`é`:                   "Unexpected character ('é' (code 233)): was expecting a value (string, number, object, array, true, false or null) at [line 1, column 1]",
		"\"\xff\"":            "Invalid UTF-8 byte 0xff at [line 1, column 2]",
	} {
		err := restjson.Check([]byte(body))
		require.EqualError(t, err, want, body)
		var syntax *restjson.SyntaxError
		require.ErrorAs(t, err, &syntax)
	}
}

func TestCheckDepth(t *testing.T) {
	t.Parallel()
	nested := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	require.NoError(t, restjson.Check(nested(restjson.MaxDepth)))
	require.ErrorContains(t, restjson.Check(nested(restjson.MaxDepth+1)), "nesting depth")
	require.ErrorContains(t, restjson.Check([]byte(strings.Repeat(`{"a":`, 1<<20))), "nesting depth")
}

// FuzzCheck compares with encoding/json, which differs in three points: it lets
// bytes pass that are no UTF-8 and numbers beyond a double, and nests deeper. What passes is walked over.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{
		`{"to":["a","b"],"body":{"msg":"\u00e9\ud83d\ude00"},"n":-1.5e+10,"t":true,"f":false,"z":null}`, `[]`, `{}`, ` 0 `, `"\\"`, `{"a\"b":1}`,
		`[1,2,`, `{"a":1,}`, `nul`, `-`, `1e`, `"\u12`, `[[[]]]`, "\"\x00\"", `{"a":{"b":[{"c":"}"}]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := restjson.Check(data)
		if !utf8.Valid(data) || strings.Count(string(data), "[")+strings.Count(string(data), "{") > restjson.MaxDepth {
			if err == nil {
				require.True(t, json.Valid(data))
			}
			return
		}
		if err != nil && strings.HasPrefix(err.Error(), "Numeric value out of range") {
			require.True(t, json.Valid(data))
			return
		}
		require.Equal(t, json.Valid(data), err == nil, "%v", err)
		if err != nil {
			return
		}
		raw := []byte(strings.Trim(string(data), " \t\r\n"))
		if o, ok := restjson.NewObject(raw); ok {
			var want map[string]json.RawMessage
			require.NoError(t, json.Unmarshal(raw, &want))
			got := make(map[string]json.RawMessage)
			for {
				name, value, ok := o.Next()
				if !ok {
					break
				}
				got[string(name)] = value
			}
			require.Equal(t, want, got)
		}
		if a, ok := restjson.NewArray(raw); ok {
			var want []json.RawMessage
			require.NoError(t, json.Unmarshal(raw, &want))
			for _, w := range want {
				value, ok := a.Next()
				require.True(t, ok)
				require.Equal(t, string(w), string(value))
			}
			_, ok := a.Next()
			require.False(t, ok)
		}
	})
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", "<a href=\"x\">&\\", "\x00\x1f\n\r\t\u2028é😀", "\xff\xfeok"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := restjson.AppendString([]byte("x"), s)
		require.NoError(t, restjson.Check(b[1:]))
		var got string
		require.NoError(t, json.Unmarshal(b[1:], &got))
		require.Equal(t, string([]rune(s)), got)
	})
}

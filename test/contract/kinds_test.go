package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

const byteOrderMark = "\xef\xbb\xbf"

// maxRespelled bounds the bodies that are spelled otherwise: they grow, and
// must stay below the largest body.
const maxRespelled = 100_000

// respelled adds to cases with a JSON body the same ones with the body spelled
// otherwise. The answer is the same: what counts is what a body says. Refused
// cases of guarded calls are left out, because wrong credentials are delayed
// when they become many.
func respelled(cases []probe, guarded bool) []probe {
	all := slices.Clone(cases)
	for _, p := range cases {
		if guarded && p.want != taken || registersAnew(p) {
			continue
		}
		if p.body != "" && p.label == "" && len(p.body) <= maxRespelled && utf8.ValidString(p.body) && json.Valid([]byte(p.body)) {
			p.name, p.respelled = p.name+", spelled otherwise", true
			all = append(all, p)
		}
	}
	return all
}

// registersAnew reports whether a case registers a user of a fixed name, which
// is possible only once.
func registersAnew(p probe) bool {
	return p.want == taken && p.method == "POST" && p.path == "/users" && !strings.Contains(p.body, "#")
}

// respell returns JSON that says the same: behind a byte order mark, with every
// character of a text escaped, with white space wherever it may be, and with
// every name of an object once more before all others, for a value that fits
// nowhere.
func respell(t *testing.T, body string) string {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(body))
	dec.UseNumber()
	out := bytes.NewBufferString(byteOrderMark)
	respellValue(t, dec, out)
	return out.String()
}

const respelledSpace = " \t\r\n  "

func respellValue(t *testing.T, dec *json.Decoder, out *bytes.Buffer) {
	t.Helper()
	token, err := dec.Token()
	require.NoError(t, err)
	out.WriteString(respelledSpace)
	switch token := token.(type) {
	case json.Delim:
		var names []string
		var values []string
		for dec.More() {
			if token == '{' {
				name, err := dec.Token()
				require.NoError(t, err)
				names = append(names, escaped(name.(string)))
			}
			var value bytes.Buffer
			respellValue(t, dec, &value)
			values = append(values, value.String())
		}
		end, err := dec.Token()
		require.NoError(t, err)
		var parts []string
		for _, name := range names {
			parts = append(parts, respelledSpace+name+" : [{}, null, 7]")
		}
		for i, value := range values {
			if token == '{' {
				value = respelledSpace + names[i] + respelledSpace + ":" + value
			}
			parts = append(parts, value)
		}
		fmt.Fprintf(out, "%v%s%s%v", token, strings.Join(parts, respelledSpace+","), respelledSpace, end)
	case string:
		out.WriteString(escaped(token))
	case json.Number:
		out.WriteString(token.String())
	case bool:
		fmt.Fprint(out, token)
	case nil:
		out.WriteString("null")
	}
	out.WriteString(respelledSpace)
}

// escaped writes a JSON string with every character escaped.
func escaped(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, unit := range utf16.Encode([]rune(s)) {
		fmt.Fprintf(&b, `\u%04x`, unit)
	}
	b.WriteByte('"')
	return b.String()
}

// slashes are the paths that differ from a call's by a slash. One at the end is
// ignored where something is read, and only there; one that belongs to a
// segment makes it the path of nothing.
func (tb *table) slashes(f *fixture, good string) []probe {
	var all []probe
	add := func(name, path string, want refusal) {
		all = append(all, probe{name: name + " " + path, method: tb.method, path: path, body: tb.sent(tb.body), token: f.Token, want: want})
	}
	atEnd := gone
	if tb.method == "GET" {
		atEnd = taken
	}
	if !tb.once || atEnd == gone {
		add("a slash at the end", good+"/", atEnd)
	}
	add("two slashes at the end", good+"//", gone)
	for _, slash := range []string{"%2F", "%2f"} {
		add("an escaped slash at the end", good+slash, gone)
		for i := 1; i < len(good); i++ {
			if good[i] == '/' {
				add("an escaped slash", good[:i]+slash+good[i+1:], gone)
				add("a segment that begins with a slash", good[:i+1]+slash+good[i+1:], gone)
			}
		}
	}
	return all
}

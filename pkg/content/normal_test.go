package content_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/content"
)

func TestNormal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ raw, want string }{
		"white space":                  {" {\n\t\"a\" : [ 1 , 2 ] } ", `{"a":[1,2]}`},
		"escapes that nobody needs":    {`{"\u0061":"\u4e2d\/\u2028\ud83d\ude00"}`, "{\"a\":\"中/\u2028😀\"}"},
		"escapes that are needed":      {`["\u0022\u005c\u0000\u000a\n\b\f\r\t\u001f"]`, `["\"\\\u0000\n\n\b\f\r\t\u001f"]`},
		"numbers as they are":          {`[1.0,1e3,-0,18446744073709551615,0.10]`, `[1.0,1e3,-0,18446744073709551615,0.10]`},
		"words":                        {`[true,false,null]`, `[true,false,null]`},
		"a name twice":                 {`{"a":1,"b":2,"a":{"x":3}}`, `{"b":2,"a":{"x":3}}`},
		"a name twice, once escaped":   {`{"a":1,"\u0061":2}`, `{"a":2}`},
		"a name three times, and deep": {`[{"a":{"k":1,"k":2},"a":3,"a":{"k":4,"k":5}}]`, `[{"a":{"k":5}}]`},
		"nothing inside":               {`{ "a" : { } , "b" : [ ] }`, `{"a":{},"b":[]}`},
		"quotes and braces in texts":   {`{"a":"}\"]","b":1}`, `{"a":"}\"]","b":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := content.Normal([]byte(c.raw))
			require.True(t, ok)
			require.Equal(t, c.want, string(got))
		})
	}
	for _, raw := range []string{``, `{`, `{"a":1,}`, `nul`, `1 2`, strings.Repeat("[", 600) + strings.Repeat("]", 600)} {
		_, ok := content.Normal([]byte(raw))
		require.False(t, ok, raw)
	}
	many := "{" + strings.Repeat(`"a":0,"b":0,`, 1000)
	for i := range 40 {
		many += `"k` + strconv.Itoa(i) + `":0,`
	}
	got, ok := content.Normal([]byte(many + `"a":1}`))
	require.True(t, ok)
	require.Equal(t, 1, strings.Count(string(got), `"a":`))
	require.Equal(t, 1, strings.Count(string(got), `"b":`))
	require.True(t, strings.HasSuffix(string(got), `"a":1}`))
}

// FuzzNormal compares with encoding/json: what it reads from the copy is what
// it reads from the text, and the copy is its own copy.
func FuzzNormal(f *testing.F) {
	for _, s := range []string{`{"a":1,"a":[{"b":"\u00e9"},{}]}`, ` [ ] `, `"\ud800"`, `{"\u0061":{"a":0,"a":1}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, ok := content.Normal(raw)
		if !ok {
			return
		}
		var want, have any
		if json.Unmarshal(raw, &want) != nil {
			return // numbers that no float holds
		}
		require.NoError(t, json.Unmarshal(got, &have), "%s", got)
		require.Equal(t, want, have)
		again, ok := content.Normal(got)
		require.True(t, ok)
		require.Equal(t, string(got), string(again))
	})
}

package content_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/content"
	"github.com/chappe-im/chappe/pkg/errs"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

func TestRESTRoundTrip(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		typ, body, ext string
		size           int
		want           string
	}{
		"text":           {"txt", `{"msg":"see you"}`, "", 7, `{"bodies":[{"type":"txt","msg":"see you"}],"ext":{}}`},
		"unicode":        {"txt", `{"msg":"您好 \u0041 \"q\""}`, "", len(`您好 A "q"`), `{"bodies":[{"type":"txt","msg":"您好 A \"q\""}],"ext":{}}`},
		"type repeated":  {"txt", `{"type":"txt","msg":"x"}`, "{}", 1, `{"bodies":[{"type":"txt","msg":"x"}],"ext":{}}`},
		"ext, all kinds": {"txt", `{"msg":""}`, `{"s":"x","i":9007199254740993,"f":1.5,"g":2.0,"t":true,"o":{"a":[1,{}]},"l":[1],"n":null,"neg":-3}`, -1, `{"bodies":[{"type":"txt","msg":""}],"ext":{"s":"x","i":9007199254740993,"f":1.5,"g":2.0,"t":true,"o":{"a":[1,{}]},"l":[1],"n":null,"neg":-3}}`},
		"the largest whole numbers": {
			"txt", `{"msg":""}`, `{"u":18446744073709551615,"v":9223372036854775808,"i":9223372036854775807,"n":-9223372036854775808,"o":{"u":18446744073709551615}}`, -1,
			`{"bodies":[{"type":"txt","msg":""}],"ext":{"u":18446744073709551615,"v":9223372036854775808,"i":9223372036854775807,"n":-9223372036854775808,"o":{"u":18446744073709551615}}}`,
		},
		"a number beyond them":                   {"txt", `{"msg":""}`, `{"u":18446744073709551616}`, -1, `{"bodies":[{"type":"txt","msg":""}],"ext":{"u":1.8446744073709552e+19}}`},
		"the largest whole numbers of a command": {"cmd", `{"action":"","param":{"u":18446744073709551615}}`, "", 26, `{"bodies":[{"type":"cmd","action":"","param":{"u":18446744073709551615}}],"ext":{}}`},
		"ext spelled otherwise":                  {"txt", `{"msg":""}`, " { \"\\u006b\" : { \"a\" :\t[ \"\\u4e2d\" ] } , \"k\" : { \"a\" : [ \"\\u4e2d\" ] } } ", len(`{"k":{"a":["中"]}}`), `{"bodies":[{"type":"txt","msg":""}],"ext":{"k":{"a":["中"]}}}`},
		"names twice":                            {"custom", `{"customExts":7,"customEvent":"a b","customEvent":"ab","customExts":{"n":[],"n":"1"}}`, "", 4, `{"bodies":[{"type":"custom","customEvent":"ab","customExts":{"n":"1"}}],"ext":{}}`},
		"param spelled otherwise":                {"cmd", `{"action":"","param":{ "p" : "\u00e9", "p" : "\u00e9" }}`, "", len(`{"p":"é"}`), `{"bodies":[{"type":"cmd","action":"","param":{"p":"é"}}],"ext":{}}`},
		"command":                                {"cmd", `{"action":"refresh","param":{"page":2}}`, "", 17, `{"bodies":[{"type":"cmd","action":"refresh","param":{"page":2}}],"ext":{}}`},
		"custom":                                 {"custom", `{"customEvent":"order/paid","customExts":{"order":"A-17","n":1}}`, "", 21, `{"bodies":[{"type":"custom","customEvent":"order/paid","customExts":{"order":"A-17","n":"1"}}],"ext":{}}`},
		"custom, empty":                          {"custom", `{}`, "", 0, `{"bodies":[{"type":"custom","customExts":{}}],"ext":{}}`},
		"place as text":                          {"loc", `{"lat":"52.5163","lng":"13.3777","addr":"Platz"}`, "", 5, `{"bodies":[{"type":"loc","lat":52.5163,"lng":13.3777,"addr":"Platz"}],"ext":{}}`},
		"place":                                  {"loc", `{"lat":52.5,"lng":-13,"addr":""}`, "", 0, `{"bodies":[{"type":"loc","lat":52.5,"lng":-13,"addr":""}],"ext":{}}`},
		"image":                                  {"img", `{"filename":"c.jpg","url":"u","secret":"s","size":{"width":640.0,"height":480},"file_length":7}`, "", 7, `{"bodies":[{"type":"img","file_length":7,"filename":"c.jpg","secret":"s","size":{"width":640,"height":480},"url":"u"}],"ext":{}}`},
		"voice":                                  {"audio", `{"filename":"n","url":"u","Length":7}`, "", 2, `{"bodies":[{"type":"audio","filename":"n","length":7,"url":"u"}],"ext":{}}`},
		"film":                                   {"video", `{"url":"u","length":"12","thumb":"t","thumb_secret":"d"}`, "", 3, `{"bodies":[{"type":"video","length":12,"thumb":"t","thumb_secret":"d","url":"u"}],"ext":{}}`},
		"bare image":                             {"img", `{"url":"u"}`, "", 1, `{"bodies":[{"type":"img","url":"u"}],"ext":{}}`},
		"bare voice":                             {"audio", `{"url":"u"}`, "", 1, `{"bodies":[{"type":"audio","url":"u"}],"ext":{}}`},
		"bare film":                              {"video", `{"url":"u"}`, "", 1, `{"bodies":[{"type":"video","url":"u"}],"ext":{}}`},
		"nulls":                                  {"img", `{"url":"u","filename":null,"secret":null,"size":null,"file_length":null}`, "", 1, `{"bodies":[{"type":"img","url":"u"}],"ext":{}}`},
		"nulls in size":                          {"img", `{"url":"u","size":{"width":null,"height":2}}`, "", 1, `{"bodies":[{"type":"img","size":{"height":2},"url":"u"}],"ext":{}}`},
		"null param":                             {"cmd", `{"action":"a","param":null}`, "", 1, `{"bodies":[{"type":"cmd","action":"a"}],"ext":{}}`},
		"null in exts":                           {"custom", `{"customEvent":null,"customExts":{"a":null,"b":"c"}}`, "", 2, `{"bodies":[{"type":"custom","customExts":{"b":"c"}}],"ext":{}}`},
		"a large file":                           {"video", `{"url":"u","length":1,"file_length":3000000000}`, "", 1, `{"bodies":[{"type":"video","length":1,"url":"u"}],"ext":{}}`},
		"a file of 2 GB":                         {"video", `{"url":"u","file_length":2147483647}`, "", 1, `{"bodies":[{"type":"video","file_length":2147483647,"url":"u"}],"ext":{}}`},
		"file":                                   {"file", `{"filename":"p.pdf","url":"u","length":3}`, "", 6, `{"bodies":[{"type":"file","filename":"p.pdf","url":"u"}],"ext":{}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ext []byte
			if c.ext != "" {
				ext = []byte(c.ext)
			}
			m, err := content.FromREST(busv1.Kind_KIND_USER, c.typ, []byte(c.body), ext)
			require.NoError(t, err)
			size := c.size
			if size < 0 {
				size = len(c.ext)
			}
			require.Equal(t, size, m.Size)
			got, err := content.Payload(m.Type, m.Body)
			require.NoError(t, err)
			require.Equal(t, strings.ReplaceAll(c.want, " ", ""), strings.ReplaceAll(string(got), " ", ""))
		})
	}
}

func TestRESTRefusals(t *testing.T) {
	t.Parallel()
	var exts strings.Builder
	for i := range 17 {
		if i > 0 {
			exts.WriteByte(',')
		}
		exts.WriteString(`"k` + strconv.Itoa(i) + `":"v"`)
	}
	for name, c := range map[string]struct{ typ, body, want string }{
		"unknown type":        {"smell", `{"msg":"x"}`, "type"},
		"no message":          {"txt", `{}`, "body.msg"},
		"message null":        {"txt", `{"msg":null}`, "body.msg"},
		"message of a number": {"txt", `{"msg":1}`, ""},
		"not an object":       {"txt", `"x"`, "body"},
		"no action":           {"cmd", `{}`, "body.action"},
		"param of a list":     {"cmd", `{"action":"a","param":[]}`, ""},
		"event too long":      {"custom", `{"customEvent":"` + strings.Repeat("x", 33) + `"}`, "body.customEvent"},
		"event of a number":   {"custom", `{"customEvent":7}`, ""},
		"empty event":         {"custom", `{"customEvent":""}`, "body.customEvent"},
		"nested exts":         {"custom", `{"customExts":{"a":{}}}`, ""},
		"exts of a list":      {"custom", `{"customExts":[]}`, ""},
		"17 exts":             {"custom", `{"customExts":{` + exts.String() + `}}`, "body.customExts"},
		"no address":          {"loc", `{"lat":1,"lng":1}`, "body.addr"},
		"no latitude":         {"loc", `{"lng":1,"addr":""}`, "body.lat"},
		"no longitude":        {"loc", `{"lat":1,"addr":""}`, "body.lng"},
		"latitude of letters": {"loc", `{"lat":"north","lng":1,"addr":""}`, "body.lat"},
		"latitude of a list":  {"loc", `{"lat":[1],"lng":1,"addr":""}`, ""},
		"image without url":   {"img", `{"filename":"x"}`, "body.url"},
		"voice without url":   {"audio", `{"length":1}`, "body.url"},
		"video without url":   {"video", `{"length":1}`, "body.url"},
		"file without url":    {"file", `{"filename":"x"}`, "body.url"},
		"negative length":     {"audio", `{"filename":"n","url":"u","length":-1}`, "body.length"},
		"size of a number":    {"img", `{"filename":"x","url":"u","size":3}`, ""},
		"width of letters":    {"img", `{"url":"u","size":{"width":"wide"}}`, "body.size.width"},
		"width of a list":     {"img", `{"url":"u","size":{"width":[]}}`, ""},
		"types come first":    {"loc", `{"lng":1,"addr":7}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := content.FromREST(busv1.Kind_KIND_USER, c.typ, []byte(c.body), nil)
			want := errs.MessageRefused("param " + c.want + " is illegal")
			if c.want == "" {
				want = errs.InvalidBody()
			}
			require.Equal(t, want, err)
		})
	}
}

func TestClientContentPassesThrough(t *testing.T) {
	t.Parallel()
	in := &msyncv1.MessageBody{
		Type: msyncv1.MessageBody_CHAT.Enum(), From: &msyncv1.JID{Name: proto.String("forged")}, To: &msyncv1.JID{Name: proto.String("omar")},
		Contents: []*msyncv1.MessageBody_Content{{
			Type: msyncv1.MessageBody_Content_TEXT.Enum(), Text: proto.String("fallback"),
			SubType: msyncv1.MessageBody_Content_SUB_COMBINE.Enum(), Title: proto.String("t"),
		}},
		Ext: []*msyncv1.KeyValue{{Key: proto.String("k"), Type: msyncv1.KeyValue_STRING.Enum(), Value: &msyncv1.KeyValue_StringValue{StringValue: "vv"}}},
	}
	// A field that this schema does not know yet.
	in.Contents[0].ProtoReflect().SetUnknown([]byte{0xc8, 0x3e, 0x05})
	raw, err := proto.Marshal(in)
	require.NoError(t, err)
	m, _, err := content.FromClient(raw)
	require.NoError(t, err)
	require.Equal(t, busv1.EntryType_ENTRY_TYPE_COMBINE, m.Type)
	require.Equal(t, len("fallback")+len("t")+len("kvv"), m.Size)
	var out msyncv1.MessageBody
	require.NoError(t, proto.Unmarshal(m.Body, &out))
	in.From, in.To = nil, nil
	require.True(t, proto.Equal(in, &out), "%v", &out)

	for name, bad := range map[string]*msyncv1.MessageBody{
		"nothing in it": {Type: msyncv1.MessageBody_CHAT.Enum()},
	} {
		raw, err := proto.Marshal(bad)
		require.NoError(t, err)
		_, _, err = content.FromClient(raw)
		require.Error(t, err, name)
	}
	_, _, err = content.FromClient([]byte{0xff})
	require.Error(t, err)
}

func FuzzFromREST(f *testing.F) {
	f.Add("txt", []byte(`{"msg":"x"}`), []byte(`{"a":1}`))
	f.Add("loc", []byte(`{"lat":"1","lng":2,"addr":"x"}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, typ string, body, ext []byte) {
		m, err := content.FromREST(busv1.Kind_KIND_USER, typ, body, ext)
		if err != nil {
			return
		}
		if _, err := content.Payload(m.Type, m.Body); err != nil {
			t.Fatal(err)
		}
	})
}

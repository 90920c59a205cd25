package routes

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/chappe-im/chappe/pkg/catalog"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	"github.com/chappe-im/chappe/services/gateway/dialect"
)

// Envelope writes the JSON object of an answer, field by field, into a buffer.
type Envelope struct {
	Buf []byte

	App *catalog.App
	// Action is the call's HTTP method in lower case.
	Action string
	// Scheme and Host are what the caller used.
	Scheme, Host string
	// Path is the call's path as it was sent, Query its query without "?".
	Path, Query string
	Began       time.Time
	Now         time.Time
}

// Open begins the object, Close ends it.
func (e *Envelope) Open() { e.Buf = append(e.Buf, '{') }

// Close ends the object.
func (e *Envelope) Close() { e.Buf = append(e.Buf, '}') }

// name begins a field.
func (e *Envelope) name(name string) {
	if e.Buf[len(e.Buf)-1] != '{' {
		e.Buf = append(e.Buf, ',')
	}
	e.Buf = append(e.Buf, '"')
	e.Buf = append(e.Buf, name...)
	e.Buf = append(e.Buf, '"', ':')
}

func (e *Envelope) str(name, value string) {
	e.name(name)
	e.Buf = dialect.AppendString(e.Buf, value)
}

func (e *Envelope) int(name string, value int64) {
	e.name(name)
	e.Buf = strconv.AppendInt(e.Buf, value, 10)
}

func (e *Envelope) bool(name string, value bool) {
	e.name(name)
	e.Buf = strconv.AppendBool(e.Buf, value)
}

// raw writes a value that is JSON already.
func (e *Envelope) raw(name, value string) {
	e.name(name)
	e.Buf = append(e.Buf, value...)
}

// begin starts a field that holds an object or array, opened by bracket.
func (e *Envelope) begin(name string, bracket byte) {
	e.name(name)
	e.Buf = append(e.Buf, bracket)
}

func (e *Envelope) end(bracket byte) { e.Buf = append(e.Buf, bracket) }

// comma separates the elements of an array.
func (e *Envelope) comma(i int) {
	if i > 0 {
		e.Buf = append(e.Buf, ',')
	}
}

// key begins an entry of a map whose keys are the caller's.
func (e *Envelope) key(i int, key string) {
	e.comma(i)
	e.Buf = dialect.AppendString(e.Buf, key)
	e.Buf = append(e.Buf, ':')
}

// action writes the HTTP method.
func (e *Envelope) action() { e.str("action", e.Action) }

// app writes the three fields that name the app.
func (e *Envelope) app() {
	e.str("application", e.App.UUID)
	e.str("organization", e.App.Org)
	e.str("applicationName", e.App.Name)
}

// at writes the path of a collection, and as uri its full address.
func (e *Envelope) at(path string) {
	e.str("path", path)
	e.uri(path)
}

// uri writes the full address of a path within the app.
func (e *Envelope) uri(path string) {
	e.base()
	e.Buf = appendInner(e.Buf, "/")
	e.Buf = appendInner(e.Buf, e.App.Org)
	e.Buf = append(e.Buf, '/')
	e.Buf = appendInner(e.Buf, e.App.Name)
	e.Buf = appendInner(e.Buf, path)
	e.Buf = append(e.Buf, '"')
}

// selfURI writes the full address of the call itself, without its query.
func (e *Envelope) selfURI() {
	e.base()
	e.Buf = appendInner(e.Buf, e.Path)
	e.Buf = append(e.Buf, '"')
}

func (e *Envelope) base() {
	e.name("uri")
	e.Buf = append(e.Buf, '"')
	e.Buf = append(e.Buf, e.Scheme...)
	e.Buf = append(e.Buf, "://"...)
	e.Buf = appendInner(e.Buf, e.Host)
}

// appendInner appends a part of a JSON string.
func appendInner(dst []byte, s string) []byte {
	at := len(dst)
	dst = dialect.AppendString(dst, s)
	copy(dst[at:], dst[at+1:])
	return dst[:len(dst)-2]
}

// times ends most answers.
func (e *Envelope) times() {
	e.int("timestamp", e.Now.UnixMilli())
	e.int("duration", e.Now.Sub(e.Began).Milliseconds())
}

// params repeats the query, if there was one: every value as an array.
func (e *Envelope) params() {
	if e.Query == "" {
		return
	}
	values, err := url.ParseQuery(e.Query)
	if err != nil || len(values) == 0 {
		return
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	e.begin("params", '{')
	for i, name := range names {
		e.key(i, name)
		e.Buf = append(e.Buf, '[')
		for j, v := range values[name] {
			e.comma(j)
			e.Buf = dialect.AppendString(e.Buf, v)
		}
		e.end(']')
	}
	e.end('}')
}

// queryIs reports whether a query parameter has a value, ignoring case.
func (e *Envelope) queryIs(name, value string) bool {
	if e.Query == "" {
		return false
	}
	values, err := url.ParseQuery(e.Query)
	return err == nil && strings.EqualFold(values.Get(name), value)
}

// inApp returns the call's path within its app.
func (e *Envelope) inApp() string {
	path := e.Path
	for range 2 {
		if i := strings.IndexByte(path[1:], '/'); i >= 0 {
			path = path[i+1:]
		}
	}
	return path
}

// noEntities is the empty list that answers with data carry.
func (e *Envelope) noEntities() { e.raw("entities", "[]") }

// strings writes a list of strings.
func (e *Envelope) strings(name string, values []string) {
	e.begin(name, '[')
	for i, v := range values {
		e.comma(i)
		e.Buf = dialect.AppendString(e.Buf, v)
	}
	e.end(']')
}

// stringMap writes a map with sorted keys.
func (e *Envelope) stringMap(m map[string]string) {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	e.Buf = append(e.Buf, '{')
	for i, k := range keys {
		e.key(i, k)
		e.Buf = dialect.AppendString(e.Buf, m[k])
	}
	e.Buf = append(e.Buf, '}')
}

// users writes the entities of users.
func (e *Envelope) users(users ...*accountv1.User) {
	e.begin("entities", '[')
	for i, u := range users {
		e.comma(i)
		e.user(u)
	}
	e.end(']')
}

// user writes one user as an object; settings that are not set are left out.
func (e *Envelope) user(u *accountv1.User) {
	e.Open()
	e.str("uuid", u.GetUuid())
	e.raw("type", `"user"`)
	e.int("created", u.GetCreated())
	e.int("modified", u.GetModified())
	e.str("username", u.GetUsername())
	e.bool("activated", u.GetActivated())
	if u.Nickname != nil {
		e.str("nickname", u.GetNickname())
	}
	if u.NotificationDisplayStyle != nil {
		e.int("notification_display_style", int64(u.GetNotificationDisplayStyle()))
	}
	if u.NotificationNoDisturbing != nil {
		e.bool("notification_no_disturbing", u.GetNotificationNoDisturbing())
	}
	if u.NotificationNoDisturbingStart != nil {
		e.int("notification_no_disturbing_start", int64(u.GetNotificationNoDisturbingStart()))
	}
	if u.NotificationNoDisturbingEnd != nil {
		e.int("notification_no_disturbing_end", int64(u.GetNotificationNoDisturbingEnd()))
	}
	if groups := u.GetNotificationIgnore(); len(groups) > 0 {
		names := make([]string, 0, len(groups))
		for g := range groups {
			names = append(names, g)
		}
		slices.Sort(names)
		for _, g := range names {
			e.key(1, "notification_ignore_"+g)
			e.Buf = strconv.AppendBool(e.Buf, groups[g])
		}
	}
	if len(u.GetPushInfo()) > 0 {
		e.begin("pushInfo", '[')
		for i, b := range u.GetPushInfo() {
			e.comma(i)
			e.Open()
			e.str("device_Id", b.GetDeviceId())
			e.str("device_token", b.GetDeviceToken())
			e.str("notifier_name", b.GetNotifierName())
			e.Close()
		}
		e.end(']')
	}
	if u.NotifierName != nil {
		e.str("notifier_name", u.GetNotifierName())
	}
	if u.DeviceToken != nil {
		e.str("device_token", u.GetDeviceToken())
	}
	e.Close()
}

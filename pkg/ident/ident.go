// Package ident holds the types of identifiers: apps, users, devices, groups,
// rooms and conversations, with the rules of what they look like.
package ident

import (
	"strings"

	"github.com/chappe-im/chappe/pkg/errs"
)

// Limits of identifiers, in bytes.
const (
	// MaxUserID bounds user IDs (wire contract, identifiers).
	MaxUserID = 64
	// MaxOrg and MaxApp bound the two parts of an AppKey (wire contract, base
	// path).
	MaxOrg = 64
	MaxApp = 32
	// MaxResource bounds the names of devices. The contract has none; clients
	// make their own names up, of some 40 bytes, and what is longer is a fault
	// or an attack: names are kept in memory and in rows.
	MaxResource = 256
)

// Admin is the sender of messages that name none.
const Admin UserID = "admin"

// AppKey names an app: "org#app".
type AppKey string

// NewAppKey joins an org and an app name.
func NewAppKey(org, app string) AppKey { return AppKey(org + "#" + app) }

// Split returns the org and the app name; false if the key lacks one.
func (k AppKey) Split() (org, app string, ok bool) {
	org, app, ok = strings.Cut(string(k), "#")
	return org, app, ok && org != "" && app != ""
}

// Token returns the key as one token of a NATS subject.
func (k AppKey) Token() string { return Token(string(k)) }

// UserID names a user within an app, in the stored form: lower case. Of one
// that came from outside it is not certain that it is valid.
type UserID string

// FoldUser returns the stored form of a user ID in any case.
func FoldUser(id string) UserID { return UserID(strings.ToLower(id)) }

// FoldUsers returns the stored forms of user IDs.
func FoldUsers(ids []string) []UserID {
	out := make([]UserID, len(ids))
	for i, id := range ids {
		out[i] = FoldUser(id)
	}
	return out
}

// UserNames returns IDs as the strings that messages on the wire hold.
func UserNames(ids []UserID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return out
}

// Valid reports whether a user may have the ID: 1 to 64 bytes of letters,
// digits, "_", "-" and ".".
func (u UserID) Valid() bool { return ValidUser(string(u)) }

// Token returns the ID as one token of a NATS subject.
func (u UserID) Token() string { return Token(string(u)) }

// ValidUser reports whether id, in any case, may name a user.
func ValidUser(id string) bool {
	if id == "" || len(id) > MaxUserID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '.':
		default:
			return false
		}
	}
	return true
}

// CheckNewUser is ValidUser for registration, with the contract's errors.
func CheckNewUser(id string) error {
	switch {
	case len(id) > MaxUserID:
		return errs.Invalid("USERNAME_TOO_LONG")
	case !ValidUser(id):
		return errs.Invalidf("username [%s] is not legal", id)
	default:
		return nil
	}
}

// GroupID names a group within an app.
type GroupID string

// RoomID names a chat room within an app.
type RoomID string

// Token returns the ID as one token of a NATS subject.
func (g GroupID) Token() string { return Token(string(g)) }

// Token returns the ID as one token of a NATS subject.
func (r RoomID) Token() string { return Token(string(r)) }

// User is a user of an app.
type User struct {
	App AppKey
	ID  UserID
}

// Compare orders users by app, then by ID.
func (u User) Compare(v User) int {
	if c := strings.Compare(string(u.App), string(v.App)); c != 0 {
		return c
	}
	return strings.Compare(string(u.ID), string(v.ID))
}

// String returns "org#app/user", for maps, hashes and logs.
func (u User) String() string { return string(u.App) + "/" + string(u.ID) }

// Device returns one of the user's devices.
func (u User) Device(resource string) Device { return Device{User: u, Resource: resource} }

// Device is a device of a user. Resource is the name that it gave itself: any
// bytes, of which two devices of one user differ in some.
type Device struct {
	User
	Resource string
}

// Compare orders devices by user, then by name.
func (d Device) Compare(e Device) int {
	if c := d.User.Compare(e.User); c != 0 {
		return c
	}
	return strings.Compare(d.Resource, e.Resource)
}

// ValidResource reports whether a device may have the name.
func ValidResource(resource string) bool { return resource != "" && len(resource) <= MaxResource }

// ConversationID names a conversation within an app.
type ConversationID string

// UserConversation names the conversation of two users: their IDs in order,
// with "~" between them.
func UserConversation(a, b UserID) ConversationID {
	return ConversationID(AppendUserConversation(nil, string(a), string(b)))
}

// AppendUserConversation appends what UserConversation returns.
func AppendUserConversation(dst []byte, a, b string) []byte {
	if a > b {
		a, b = b, a
	}
	return append(append(append(dst, a...), '~'), b...)
}

// Peer returns the other user of a conversation of two.
func (c ConversationID) Peer(user UserID) UserID {
	a, b, _ := strings.Cut(string(c), "~")
	if a == string(user) {
		return UserID(b)
	}
	return UserID(a)
}

// Token returns the name as one token of a NATS subject.
func (c ConversationID) Token() string { return Token(string(c)) }

// ValidOrg reports whether org may name an organization: 1 to 64 bytes of
// letters, digits, "_" and "-".
func ValidOrg(org string) bool {
	return len(org) <= MaxOrg && ValidUser(org) && !strings.Contains(org, ".")
}

// ValidApp reports whether app may name an app: 1 to 32 lower-case letters,
// digits and hyphens.
func ValidApp(app string) bool {
	if app == "" || len(app) > MaxApp {
		return false
	}
	for i := range len(app) {
		c := app[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// Token makes an identifier fit for one token of a NATS subject. Of the
// characters that one may hold only "." has a meaning there; it becomes "=",
// which none of them holds.
func Token(name string) string {
	if strings.IndexByte(name, '.') < 0 {
		return name
	}
	return strings.ReplaceAll(name, ".", "=")
}

// FromToken undoes Token.
func FromToken(token string) string { return strings.ReplaceAll(token, "=", ".") }

// Package names holds the rules for identifiers: user IDs, app keys and the
// tokens that stand for them in NATS subjects.
package names

import (
	"strings"

	"github.com/chappe-im/chappe/pkg/errs"
)

// MaxUserIDBytes bounds user IDs (wire contract, identifiers).
const MaxUserIDBytes = 64

// AdminUser is the sender of messages that name none.
const AdminUser = "admin"

// FoldUser gives the stored form of a user ID: lower case.
func FoldUser(id string) string { return strings.ToLower(id) }

// ValidUser reports whether id, in any case, may name a user: 1 to 64 bytes of
// letters, digits, "_", "-" and ".".
func ValidUser(id string) bool {
	if id == "" || len(id) > MaxUserIDBytes {
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
	case len(id) > MaxUserIDBytes:
		return errs.Invalid("USERNAME_TOO_LONG")
	case !ValidUser(id):
		return errs.Invalidf("username [%s] is not legal", id)
	default:
		return nil
	}
}

// AppKey joins an org and an app name: "org#app".
func AppKey(org, app string) string { return org + "#" + app }

// SplitAppKey undoes AppKey.
func SplitAppKey(key string) (org, app string, ok bool) {
	org, app, ok = strings.Cut(key, "#")
	return org, app, ok && org != "" && app != ""
}

// ValidOrg reports whether org may name an organization: 1 to 64 bytes of
// letters, digits, "_" and "-".
func ValidOrg(org string) bool {
	return ValidUser(org) && !strings.Contains(org, ".")
}

// ValidApp reports whether app may name an app: at most 32 lower-case letters,
// digits and hyphens (wire contract, base path).
func ValidApp(app string) bool {
	if app == "" || len(app) > 32 {
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

// Token makes a user ID, app key or conversation name fit for one token of a
// NATS subject. Of the characters they may hold only "." has a meaning there;
// it becomes "=", which none of them holds.
func Token(name string) string {
	if strings.IndexByte(name, '.') < 0 {
		return name
	}
	return strings.ReplaceAll(name, ".", "=")
}

// FromToken undoes Token.
func FromToken(token string) string { return strings.ReplaceAll(token, "=", ".") }

// UserConversation names the conversation of two users: their IDs in order,
// with "~" between them.
func UserConversation(a, b string) string {
	if a > b {
		a, b = b, a
	}
	return a + "~" + b
}

// AppendUserConversation appends what UserConversation gives.
func AppendUserConversation(dst []byte, a, b string) []byte {
	if a > b {
		a, b = b, a
	}
	return append(append(append(dst, a...), '~'), b...)
}

// Peer gives the other user of a conversation of two.
func Peer(conversation, user string) string {
	a, b, _ := strings.Cut(conversation, "~")
	if a == user {
		return b
	}
	return a
}

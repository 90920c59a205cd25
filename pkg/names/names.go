// Package names is pkg/ident with plain strings, for packages that are still
// to take its types. Nothing new uses it.
package names

import "github.com/chappe-im/chappe/pkg/ident"

// AdminUser is ident.Admin.
const AdminUser = string(ident.Admin)

// MaxUserIDBytes is ident.MaxUserID.
const MaxUserIDBytes = ident.MaxUserID

// FoldUser is ident.FoldUser.
func FoldUser(id string) string { return string(ident.FoldUser(id)) }

// ValidUser is ident.ValidUser.
func ValidUser(id string) bool { return ident.ValidUser(id) }

// CheckNewUser is ident.CheckNewUser.
func CheckNewUser(id string) error { return ident.CheckNewUser(id) }

// AppKey is ident.NewAppKey.
func AppKey(org, app string) string { return string(ident.NewAppKey(org, app)) }

// SplitAppKey is ident.AppKey's Split.
func SplitAppKey(key string) (org, app string, ok bool) { return ident.AppKey(key).Split() }

// ValidOrg is ident.ValidOrg.
func ValidOrg(org string) bool { return ident.ValidOrg(org) }

// ValidApp is ident.ValidApp.
func ValidApp(app string) bool { return ident.ValidApp(app) }

// Token is ident.Token.
func Token(name string) string { return ident.Token(name) }

// FromToken is ident.FromToken.
func FromToken(token string) string { return ident.FromToken(token) }

// UserConversation is ident.UserConversation.
func UserConversation(a, b string) string {
	return string(ident.UserConversation(ident.UserID(a), ident.UserID(b)))
}

// AppendUserConversation is ident.AppendUserConversation.
func AppendUserConversation(dst []byte, a, b string) []byte {
	return ident.AppendUserConversation(dst, a, b)
}

// Peer is ident.ConversationID's Peer.
func Peer(conversation, user string) string {
	return string(ident.ConversationID(conversation).Peer(ident.UserID(user)))
}

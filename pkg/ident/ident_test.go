package ident_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
)

func TestUsers(t *testing.T) {
	t.Parallel()
	for id, ok := range map[string]bool{
		"a": true, "Amelia.P-1_x": true, strings.Repeat("u", 64): true,
		"": false, strings.Repeat("u", 65): false, "a b": false, "a/b": false, "a~b": false, "a#b": false, "ä": false, "a=b": false,
	} {
		require.Equal(t, ok, ident.ValidUser(id), "%q", id)
		require.Equal(t, ok, ident.FoldUser(id).Valid(), "%q", id)
		require.Equal(t, !ok, errs.Is(ident.CheckNewUser(id), errs.ReasonIllegalArgument))
	}
	require.Equal(t, ident.UserID("amelia"), ident.FoldUser("AMelia"))
	require.Equal(t, []ident.UserID{"a", "b"}, ident.FoldUsers([]string{"A", "b"}))
	require.Equal(t, []string{"a", "b"}, ident.UserNames([]ident.UserID{"a", "b"}))
}

func TestApps(t *testing.T) {
	t.Parallel()
	for app, ok := range map[string]bool{"chat": true, "my-app-2": true, "": false, "Chat": false, "a_b": false, strings.Repeat("a", 33): false} {
		require.Equal(t, ok, ident.ValidApp(app), "%q", app)
	}
	for org, ok := range map[string]bool{"acme": true, "1122-ABC_d": true, "a.b": false, "": false, "a#b": false, strings.Repeat("o", 65): false} {
		require.Equal(t, ok, ident.ValidOrg(org), "%q", org)
	}
	for key, ok := range map[ident.AppKey]bool{"a#b": true, "a#": false, "#b": false, "ab": false} {
		_, _, got := key.Split()
		require.Equal(t, ok, got, "%q", key)
	}
	require.Equal(t, ident.AppKey("acme#chat"), ident.NewAppKey("acme", "chat"))
}

func TestDevices(t *testing.T) {
	t.Parallel()
	for resource, ok := range map[string]bool{"web_1": true, "\x00 .*>": true, strings.Repeat("x", 256): true, "": false, strings.Repeat("x", 257): false} {
		require.Equal(t, ok, ident.ValidResource(resource), "%q", resource)
	}
	a := ident.User{App: "a#b", ID: "x"}
	devices := []ident.Device{a.Device("2"), {User: ident.User{App: "b#a", ID: "a"}, Resource: "0"}, ident.User{App: "a#b", ID: "w"}.Device("3"), a.Device("1")}
	slices.SortFunc(devices, ident.Device.Compare)
	require.Equal(t, []string{"3", "1", "2", "0"}, []string{devices[0].Resource, devices[1].Resource, devices[2].Resource, devices[3].Resource})
	require.Equal(t, "a#b/x", devices[1].User.String())
}

func TestConversationsAndTokens(t *testing.T) {
	t.Parallel()
	require.Equal(t, ident.ConversationID("a~b"), ident.UserConversation("b", "a"))
	require.Equal(t, ident.UserConversation("b", "a"), ident.UserConversation("a", "b"))
	require.Equal(t, ident.UserID("b"), ident.ConversationID("a~b").Peer("a"))
	require.Equal(t, ident.UserID("a"), ident.ConversationID("a~b").Peer("b"))
	require.Equal(t, ident.UserID("a"), ident.ConversationID("a~a").Peer("a"))
	for _, name := range []string{"plain", "a.b..c", "acme#chat", "x.y~z"} {
		token := ident.Token(name)
		require.NotContains(t, token, ".")
		require.Equal(t, name, ident.FromToken(token))
	}
}

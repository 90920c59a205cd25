package names_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/names"
)

func TestUsers(t *testing.T) {
	t.Parallel()
	for id, ok := range map[string]bool{
		"a": true, "Amelia.P-1_x": true, strings.Repeat("u", 64): true,
		"": false, strings.Repeat("u", 65): false, "a b": false, "a/b": false, "a~b": false, "a#b": false, "ä": false, "a=b": false,
	} {
		require.Equal(t, ok, names.ValidUser(id), "%q", id)
		require.Equal(t, !ok, errs.Is(names.CheckNewUser(id), errs.ReasonIllegalArgument))
	}
	require.Equal(t, "amelia", names.FoldUser("AMelia"))
}

func TestApps(t *testing.T) {
	t.Parallel()
	for app, ok := range map[string]bool{"chat": true, "my-app-2": true, "": false, "Chat": false, "a_b": false, strings.Repeat("a", 33): false} {
		require.Equal(t, ok, names.ValidApp(app), "%q", app)
	}
	for org, ok := range map[string]bool{"acme": true, "1122-ABC_d": true, "a.b": false, "": false, "a#b": false} {
		require.Equal(t, ok, names.ValidOrg(org), "%q", org)
	}
	for key, ok := range map[string]bool{"a#b": true, "a#": false, "#b": false, "ab": false} {
		_, _, got := names.SplitAppKey(key)
		require.Equal(t, ok, got, "%q", key)
	}
}

func TestConversationsAndTokens(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a~b", names.UserConversation("b", "a"))
	require.Equal(t, names.UserConversation("a", "b"), names.UserConversation("b", "a"))
	require.Equal(t, "b", names.Peer("a~b", "a"))
	require.Equal(t, "a", names.Peer("a~b", "b"))
	require.Equal(t, "a", names.Peer("a~a", "a"))
	for _, name := range []string{"plain", "a.b..c", "acme#chat", "x.y~z"} {
		token := names.Token(name)
		require.NotContains(t, token, ".")
		require.Equal(t, name, names.FromToken(token))
	}
}

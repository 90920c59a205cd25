package account_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

func (b *bench) befriend(t testing.TB, owner, friend string) {
	t.Helper()
	_, err := b.relations.AddContact(t.Context(), &accountv1.AddContactRequest{Org: org, App: app, OwnerUsername: owner, FriendUsername: friend})
	require.NoError(t, err)
}

func (b *bench) block(t testing.TB, owner string, blocked ...string) {
	t.Helper()
	_, err := b.relations.AddBlocks(t.Context(), &accountv1.AddBlocksRequest{Org: org, App: app, OwnerUsername: owner, Usernames: blocked})
	require.NoError(t, err)
}

func (b *bench) setAttributes(t testing.TB, user string, attributes map[string]string) {
	t.Helper()
	_, err := b.attrs.SetUserAttributes(t.Context(), &accountv1.SetUserAttributesRequest{Org: org, App: app, Username: user, Attributes: attributes})
	require.NoError(t, err)
}

func (b *bench) mute(t testing.TB, user string, seconds int64) {
	t.Helper()
	_, err := b.mutes.SetGlobalMute(t.Context(), &accountv1.SetGlobalMuteRequest{Org: org, App: app, Username: user, Chat: &seconds})
	require.NoError(t, err)
}

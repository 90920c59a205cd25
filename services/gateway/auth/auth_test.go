package auth_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/token"
	"github.com/chappe-im/chappe/services/gateway/auth"
)

type apps map[string]*catalog.App

func (a apps) App(org, app string) (*catalog.App, bool) {
	x, ok := a[org+"/"+app]
	return x, ok
}

// revoked voids what was issued before an instant, by "appkey/user".
type revoked map[string]time.Time

func (r revoked) Revoked(appKey, user string, issuedAt time.Time) bool {
	return issuedAt.Before(r[appKey+"/"+user]) || issuedAt.Before(r[appKey+"/"])
}

func TestVerify(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_000)
	keys := []token.Key{{ID: 2, Secret: []byte("the newer secret of demo/chat")}, {ID: 1, Secret: []byte("the older secret of demo/chat")}}
	chat := &catalog.App{Org: "demo", Name: "chat", Key: "demo#chat", Number: 7, Keys: keys}
	other := &catalog.App{Org: "demo", Name: "other", Key: "demo#other", Number: 8, Keys: []token.Key{{ID: 1, Secret: []byte("the secret of demo/other")}}}
	v := auth.NewVerifier(apps{"demo/chat": chat, "demo/other": other},
		revoked{"demo#chat/bruno": now}, func() time.Time { return now })

	issued := now.Add(-time.Minute)
	sign := func(a *catalog.App, k token.Key, kind token.Kind, user string, expires time.Time) string {
		return token.Sign(k, token.Claims{Kind: kind, App: a.Number, User: user, IssuedAt: issued, ExpiresAt: expires})
	}
	later := now.Add(time.Hour)
	for _, c := range []struct {
		name, org, app, raw string
		want                auth.Principal
		reason, message     string
	}{
		{
			name: "app", org: "demo", app: "chat", raw: sign(chat, keys[0], token.App, "", later),
			want: auth.Principal{App: "demo#chat", Kind: auth.App, IssuedAt: issued, ExpiresAt: later, KeyID: 2},
		},
		{
			name: "app, older key, for ever", org: "demo", app: "chat", raw: sign(chat, keys[1], token.App, "", time.Time{}),
			want: auth.Principal{App: "demo#chat", Kind: auth.App, IssuedAt: issued, KeyID: 1},
		},
		{
			name: "user", org: "demo", app: "chat", raw: sign(chat, keys[0], token.User, "amelia", later),
			want: auth.Principal{App: "demo#chat", Kind: auth.User, User: "amelia", IssuedAt: issued, ExpiresAt: later, KeyID: 2},
		},
		{name: "unknown app", org: "demo", app: "nothing", raw: "x", reason: errs.ReasonAppNotFound},
		{
			name: "no token", org: "demo", app: "chat", reason: errs.ReasonUnauthorized,
			message: "Unable to authenticate due to expired access token",
		},
		{
			name: "expired", org: "demo", app: "chat", raw: sign(chat, keys[0], token.App, "", now), reason: errs.ReasonUnauthorized,
			message: "Unable to authenticate due to expired access token",
		},
		{
			name: "revoked", org: "demo", app: "chat", raw: sign(chat, keys[0], token.User, "bruno", later), reason: errs.ReasonUnauthorized,
			message: "Unable to authenticate due to expired access token",
		},
		{
			name: "no token at all", org: "demo", app: "chat", raw: "nonsense", reason: errs.ReasonBadToken,
			message: "Unable to authenticate due to corrupt access token",
		},
		{
			name: "of another app", org: "demo", app: "chat", raw: sign(other, other.Keys[0], token.App, "", later), reason: errs.ReasonBadToken,
			message: "Unable to authenticate due to corrupt access token",
		},
		{
			name: "unknown key", org: "demo", app: "chat", raw: sign(chat, token.Key{ID: 9, Secret: keys[0].Secret}, token.App, "", later),
			reason: errs.ReasonBadToken, message: "Unable to authenticate",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := v.Verify(t.Context(), c.org, c.app, c.raw)
			if c.reason != "" {
				require.True(t, errs.Is(err, c.reason), "%v", err)
				if c.message != "" {
					require.Equal(t, c.message, errs.From(err).Message)
				}
				require.Zero(t, p)
				return
			}
			require.NoError(t, err)
			require.True(t, c.want.IssuedAt.Equal(p.IssuedAt))
			require.True(t, c.want.ExpiresAt.Equal(p.ExpiresAt))
			p.IssuedAt, p.ExpiresAt = c.want.IssuedAt, c.want.ExpiresAt
			require.Equal(t, c.want, p)
		})
	}
}

// TestVerifyAgain asks again about a token that was good: what ended it since
// counts, and so does another app's view of it.
func TestVerifyAgain(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_000)
	key := token.Key{ID: 1, Secret: []byte("a secret of demo/chat, long enough")}
	view := func(number int64, keys ...token.Key) *catalog.App {
		return &catalog.App{Org: "demo", Name: "chat", Key: "demo#chat", Number: number, Keys: keys}
	}
	before := view(7, key)
	catalog := apps{"demo/chat": before}
	void := revoked{}
	v := auth.NewVerifier(catalog, void, func() time.Time { return now })
	raw := token.Sign(key, token.Claims{Kind: token.User, App: 7, User: "amelia", IssuedAt: now, ExpiresAt: now.Add(time.Hour)})
	verify := func() error {
		p, err := v.Verify(t.Context(), "demo", "chat", raw)
		if err == nil {
			require.Equal(t, "amelia", p.User)
			require.Equal(t, auth.User, p.Kind)
		}
		return err
	}
	require.NoError(t, verify())
	require.NoError(t, verify())

	void["demo#chat/amelia"] = now.Add(time.Second)
	require.True(t, errs.Is(verify(), errs.ReasonUnauthorized), "revoked")
	delete(void, "demo#chat/amelia")
	require.NoError(t, verify())

	catalog["demo/chat"] = view(7, token.Key{ID: 2, Secret: []byte("another secret of demo/chat")})
	require.True(t, errs.Is(verify(), errs.ReasonBadToken), "its key is gone")
	catalog["demo/chat"] = view(8, key)
	require.True(t, errs.Is(verify(), errs.ReasonBadToken), "it is another app's")
	catalog["demo/chat"] = before
	require.NoError(t, verify())

	now = now.Add(time.Hour)
	require.True(t, errs.Is(verify(), errs.ReasonUnauthorized), "expired")
	_, err := v.Verify(t.Context(), "demo", "chat", raw+"x")
	require.True(t, errs.Is(err, errs.ReasonBadToken))
}

func TestKeyHolds(t *testing.T) {
	t.Parallel()
	chat := &catalog.App{Org: "demo", Name: "chat", Key: "demo#chat", Number: 7, Keys: []token.Key{{ID: 3}, {ID: 2}}}
	v := auth.NewVerifier(apps{"demo/chat": chat}, revoked{}, nil)
	require.True(t, v.KeyHolds("demo#chat", 3))
	require.True(t, v.KeyHolds("demo#chat", 2))
	require.False(t, v.KeyHolds("demo#chat", 1), "the key is gone")
	require.False(t, v.KeyHolds("demo#nothing", 3), "the app is gone")
}

func TestBearer(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"":                 "",
		"Bearer":           "",
		"Bearer ":          "",
		"Bearer abc":       "abc",
		"bearer  abc ":     "abc",
		"Basic YTpi":       "",
		"Bearerabc":        "",
		"YWMtnaked":        "",
		"BEARER YWMt-_x=y": "YWMt-_x=y",
	} {
		require.Equal(t, want, auth.Bearer(header), header)
	}
}

package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/errs"
)

var (
	now  = time.UnixMilli(1_700_000_000_123)
	key1 = Key{ID: 1, Secret: []byte("first secret of the app, 32 byte")}
	key2 = Key{ID: 2, Secret: []byte("second secret of the same app...")}
)

func claims() Claims {
	return Claims{Kind: User, App: 7, User: "amelia", IssuedAt: now, ExpiresAt: now.Add(time.Hour)}
}

func TestVerifyGivesBackTheClaims(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Claims{
		"user":                claims(),
		"never expires":       {Kind: User, App: 1, User: "b", IssuedAt: now},
		"app":                 {Kind: App, App: 1 << 40, IssuedAt: now, ExpiresAt: now.Add(time.Second)},
		"longest user":        {Kind: User, App: 1<<63 - 1, User: strings.Repeat("x", 64), IssuedAt: now, ExpiresAt: now.Add(1e6 * time.Hour)},
		"signed by older key": claims(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw := Sign(key1, c)
			require.True(t, strings.HasPrefix(raw, "YWMt"), raw)
			require.Regexp(t, `^[A-Za-z0-9_-]+$`, raw)
			got, err := Verify(c.App, []Key{key2, key1}, raw, now)
			require.NoError(t, err)
			c.KeyID = key1.ID
			require.Equal(t, c, got)
			app, ok := PeekApp(raw)
			require.True(t, ok)
			require.Equal(t, c.App, app)
		})
	}
}

func TestTokensOfTheSameClaimsDiffer(t *testing.T) {
	t.Parallel()
	first := Sign(key1, claims())
	require.NotEqual(t, first, Sign(key1, claims()))
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	good := Sign(key1, claims())
	binary, err := base64.RawURLEncoding.DecodeString(good)
	require.NoError(t, err)
	edit := func(f func(b []byte) []byte) string {
		return base64.RawURLEncoding.EncodeToString(f(append([]byte(nil), binary...)))
	}
	for _, c := range []struct {
		name string
		raw  string
		app  int64
		keys []Key
		now  time.Time
		want error
	}{
		{name: "empty", raw: "", want: ErrCorrupt},
		{name: "only the prefix", raw: "YWMt", want: ErrCorrupt},
		{name: "other text", raw: strings.Repeat("x", len(good)), want: ErrCorrupt},
		{name: "no base64", raw: good[:20] + "!" + good[21:], want: ErrCorrupt},
		{name: "line break inside", raw: good[:20] + "\n" + good[20:], want: ErrCorrupt},
		{name: "padding", raw: good + "=", want: ErrCorrupt},
		{name: "far too long", raw: good + strings.Repeat("A", 4096), want: ErrCorrupt},
		{name: "unknown version", raw: edit(func(b []byte) []byte { b[3] = 9; return b }), want: ErrCorrupt},
		{name: "unknown kind", raw: edit(func(b []byte) []byte { b[4] = 3; return b }), want: ErrCorrupt},
		{name: "kind changed", raw: edit(func(b []byte) []byte { b[4] = byte(App); return b }), want: ErrCorrupt},
		{name: "user changed", raw: edit(func(b []byte) []byte { b[len(b)-macSize-1] ^= 1; return b }), want: ErrForeign},
		{name: "signature changed", raw: edit(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }), want: ErrForeign},
		{name: "longer user", raw: edit(func(b []byte) []byte { return append(b, 'x') }), want: ErrForeign},
		{name: "another app", raw: good, app: 8, want: ErrOtherApp},
		{name: "key withdrawn", raw: good, keys: []Key{key2}, want: ErrForeign},
		{name: "same id, other key", raw: good, keys: []Key{{ID: 1, Secret: key2.Secret}}, want: ErrForeign},
		{name: "no keys", raw: good, keys: []Key{}, want: ErrForeign},
		{name: "expired to the millisecond", raw: good, now: now.Add(time.Hour), want: ErrExpired},
		{name: "last millisecond", raw: good, now: now.Add(time.Hour - time.Millisecond)},
		{name: "expired and forged", raw: edit(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }), now: now.Add(2 * time.Hour), want: ErrForeign},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			app, keys, at := c.app, c.keys, c.now
			if app == 0 {
				app = 7
			}
			if keys == nil {
				keys = []Key{key1, key2}
			}
			if at.IsZero() {
				at = now
			}
			got, err := Verify(app, keys, c.raw, at)
			require.ErrorIs(t, err, c.want)
			if c.want != nil {
				require.Zero(t, got)
			}
		})
	}
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	t.Parallel()
	raw := Sign(key1, claims())
	for i := range raw {
		for _, other := range "Aa0_-" {
			if rune(raw[i]) == other {
				continue
			}
			_, err := Verify(7, []Key{key1}, raw[:i]+string(other)+raw[i+1:], now)
			require.Error(t, err, "position %d", i)
		}
	}
}

func TestErrorGivesTheContractsTexts(t *testing.T) {
	t.Parallel()
	for err, want := range map[error][2]string{
		ErrCorrupt:  {errs.ReasonBadToken, "Unable to authenticate due to corrupt access token"},
		ErrOtherApp: {errs.ReasonBadToken, "Unable to authenticate due to corrupt access token"},
		ErrForeign:  {errs.ReasonBadToken, "Unable to authenticate"},
		ErrExpired:  {errs.ReasonUnauthorized, "Unable to authenticate due to expired access token"},
		nil:         {errs.ReasonUnauthorized, "Unable to authenticate due to expired access token"},
	} {
		e := Error(err)
		require.Equal(t, want, [2]string{e.Reason, e.Message})
		require.Equal(t, errs.CodeToken, e.ErrorCode())
	}
}

func TestSumIsHMAC(t *testing.T) {
	t.Parallel()
	for _, keySize := range []int{0, 1, 32, 63, 64, 65, 200} {
		for _, size := range []int{0, 1, 64, maxBinary} {
			secret, message := make([]byte, keySize), make([]byte, size)
			_, _ = rand.Read(secret)
			_, _ = rand.Read(message)
			h := hmac.New(sha256.New, secret)
			h.Write(message)
			got := sum(secret, message)
			require.Equal(t, h.Sum(nil), got[:])
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(Sign(key1, claims()))
	f.Add(Sign(key1, Claims{Kind: App, App: 7, IssuedAt: now}))
	f.Add("YWMt")
	f.Add("")
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := Verify(7, []Key{key1}, raw, now)
		if err != nil {
			require.Zero(t, c)
			return
		}
		require.Equal(t, int64(7), c.App)
		require.Equal(t, c.Kind == User, c.User != "")
		_, ok := PeekApp(raw)
		require.True(t, ok)
	})
}

func BenchmarkVerify(b *testing.B) {
	raw := Sign(key1, claims())
	keys := []Key{key2, key1}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Verify(7, keys, raw, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	c := claims()
	b.ReportAllocs()
	for b.Loop() {
		Sign(key1, c)
	}
}

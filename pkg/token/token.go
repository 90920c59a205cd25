// Package token makes and checks the access tokens of apps and users. A token
// carries its claims and a signature, so that every gateway verifies it by
// itself; what can void it early (revocation, deactivation) is kept elsewhere.
//
// Its text is URL-safe base64, without padding, of
//
//	"ac-" version kind app keyID issued expires salt[8] user mac[32]
//
// where app, keyID, issued and expires are unsigned varints, times are Unix
// milliseconds, user fills what is left and mac is the HMAC-SHA256 of all bytes
// before it. The first three bytes make every token begin with "YWMt", as
// clients of this protocol expect.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/chappe-im/chappe/pkg/errs"
)

// Why a token is refused.
var (
	// ErrCorrupt means that the text is no token at all.
	ErrCorrupt = errors.New("corrupt access token")
	// ErrOtherApp means that the token is well-formed and names another app.
	ErrOtherApp = errors.New("access token of another app")
	// ErrForeign means that the token is well-formed and names this app, but was
	// not issued here: an unknown key or a wrong signature.
	ErrForeign = errors.New("foreign access token")
	// ErrExpired means that the token was ours and its time is over.
	ErrExpired = errors.New("expired access token")
)

// Error turns what Verify returns, or nil for a missing token, into the error
// that the caller of the API sees.
func Error(err error) *errs.Error {
	switch {
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrOtherApp):
		return errs.Unauthenticated(errs.ReasonBadToken, "Unable to authenticate due to corrupt access token")
	case errors.Is(err, ErrForeign):
		return errs.Unauthenticated(errs.ReasonBadToken, "Unable to authenticate")
	default:
		return errs.Unauthenticated(errs.ReasonUnauthorized, "Unable to authenticate due to expired access token")
	}
}

// Kind tells who a token stands for.
type Kind uint8

// The kinds.
const (
	// App tokens act for the app: its administrator.
	App Kind = 1
	// User tokens act for one user.
	User Kind = 2
)

// Key signs the tokens of one app.
type Key struct {
	ID     uint32
	Secret []byte
}

// Claims are what a token says. Times are cut to milliseconds.
type Claims struct {
	Kind Kind
	// App is the app's number.
	App int64
	// User is the folded user ID of a user token.
	User     string
	IssuedAt time.Time
	// ExpiresAt is zero for a token that never expires.
	ExpiresAt time.Time
	// KeyID tells which key signed; Sign sets it.
	KeyID uint32
}

const (
	prefix   = "ac-"
	version  = 1
	saltSize = 8
	macSize  = sha256.Size

	// maxUser bounds the user ID in a token.
	maxUser = 64
	// maxBinary bounds a token's bytes, maxText its text.
	maxBinary = len(prefix) + 2 + 4*binary.MaxVarintLen64 + saltSize + maxUser + macSize
	maxText   = (maxBinary*8 + 5) / 6
	minBinary = len(prefix) + 2 + 4 + saltSize + macSize
)

var encoding = base64.RawURLEncoding.Strict()

// Sign makes a token. Two tokens of the same claims differ by their salt.
func Sign(key Key, c Claims) string {
	var buf [maxBinary]byte
	b := append(buf[:0], prefix...)
	b = append(b, version, byte(c.Kind))
	b = binary.AppendUvarint(b, uint64(c.App)) // app numbers are not negative
	b = binary.AppendUvarint(b, uint64(key.ID))
	b = binary.AppendUvarint(b, millis(c.IssuedAt))
	b = binary.AppendUvarint(b, millis(c.ExpiresAt))
	var salt [saltSize]byte
	_, _ = rand.Read(salt[:]) // never fails: the program ends instead
	b = append(b, salt[:]...)
	b = append(b, c.User...)
	mac := sum(key.Secret, b)
	b = append(b, mac[:]...)
	return encoding.EncodeToString(b)
}

// Verify checks a token for the app with that number, whose keys are given,
// and returns its claims. The error is ErrCorrupt, ErrOtherApp, ErrForeign or
// ErrExpired; the claims are set only without one.
func Verify(app int64, keys []Key, raw string, now time.Time) (Claims, error) {
	var buf [maxBinary + 2]byte
	if len(raw) > maxText || len(raw) < (minBinary*8+5)/6 || raw[:4] != "YWMt" {
		return Claims{}, ErrCorrupt
	}
	// The decoder would step over line breaks: one token has one text.
	if strings.ContainsAny(raw, "\r\n") {
		return Claims{}, ErrCorrupt
	}
	var text [maxText]byte
	n, err := encoding.Decode(buf[:], text[:copy(text[:], raw)])
	if err != nil || n < minBinary || n > maxBinary {
		return Claims{}, ErrCorrupt
	}
	signed, mac := buf[:n-macSize], buf[n-macSize:n]
	c, user, ok := parse(signed)
	if !ok {
		return Claims{}, ErrCorrupt
	}
	if c.App != app {
		return Claims{}, ErrOtherApp
	}
	if !genuine(keys, c.KeyID, signed, mac) {
		return Claims{}, ErrForeign
	}
	if !c.ExpiresAt.IsZero() && !now.Before(c.ExpiresAt) {
		return Claims{}, ErrExpired
	}
	c.User = string(user)
	return c, nil
}

// PeekApp gives the number of the app that a token claims to be for, without
// checking anything; for routing only.
func PeekApp(raw string) (int64, bool) {
	if len(raw) > maxText || len(raw) < (minBinary*8+5)/6 {
		return 0, false
	}
	b, err := encoding.DecodeString(raw)
	if err != nil || len(b) < minBinary {
		return 0, false
	}
	c, _, ok := parse(b[:len(b)-macSize])
	return c.App, ok
}

func genuine(keys []Key, id uint32, signed, mac []byte) bool {
	for _, k := range keys {
		if k.ID == id {
			want := sum(k.Secret, signed)
			return subtle.ConstantTimeCompare(want[:], mac) == 1
		}
	}
	return false
}

// parse reads the claims; user stays a slice of b.
func parse(b []byte) (c Claims, user []byte, ok bool) {
	if string(b[:len(prefix)]) != prefix {
		return c, nil, false
	}
	b = b[len(prefix):]
	if b[0] != version {
		return c, nil, false
	}
	c.Kind = Kind(b[1])
	if c.Kind != App && c.Kind != User {
		return c, nil, false
	}
	b = b[2:]
	var v [4]uint64
	for i := range v {
		x, n := binary.Uvarint(b)
		if n <= 0 {
			return c, nil, false
		}
		v[i], b = x, b[n:]
	}
	const maxInt63 = 1<<63 - 1
	if v[0] > maxInt63 || v[1] > 1<<32-1 || v[2] > maxInt63 || v[3] > maxInt63 || len(b) < saltSize {
		return c, nil, false
	}
	user = b[saltSize:]
	if len(user) > maxUser || (c.Kind == User) != (len(user) > 0) {
		return c, nil, false
	}
	c.App, c.KeyID = int64(v[0]), uint32(v[1])
	c.IssuedAt, c.ExpiresAt = fromMillis(v[2]), fromMillis(v[3])
	return c, user, true
}

// sum is HMAC-SHA256 without the allocations of crypto/hmac, which show at
// this rate: once for every call of the API. Messages are at most maxBinary
// bytes.
func sum(secret, message []byte) [macSize]byte {
	const block = sha256.BlockSize
	var key [block]byte
	if len(secret) > block {
		h := sha256.Sum256(secret)
		copy(key[:], h[:])
	} else {
		copy(key[:], secret)
	}
	var inner [block + maxBinary]byte
	var outer [block + macSize]byte
	for i, k := range key {
		inner[i] = k ^ 0x36
		outer[i] = k ^ 0x5c
	}
	n := copy(inner[block:], message)
	h := sha256.Sum256(inner[:block+n])
	copy(outer[block:], h[:])
	return sha256.Sum256(outer[:])
}

func millis(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(max(0, t.UnixMilli())) // not negative
}

func fromMillis(ms uint64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)) // parse bounds it
}
